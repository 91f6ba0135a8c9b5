#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cgi_session_fuzz::session_file::check(bytes));
