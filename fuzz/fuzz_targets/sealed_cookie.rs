#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cgi_session_fuzz::sealed_cookie::check(bytes));
