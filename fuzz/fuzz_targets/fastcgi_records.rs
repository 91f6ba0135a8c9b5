//! Bytes of a web server that has lost its mind: the record reader must survive them all.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| cgi_session::fuzzing::read_records(bytes));
