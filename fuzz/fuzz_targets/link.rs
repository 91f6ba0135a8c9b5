#![no_main]

use cgi_session::{SessionId, fuzzing};
use cgi_session_fuzz::link::{PARAMETER, check};

libfuzzer_sys::fuzz_target!(|address: &str| {
    let (name, id) = PARAMETER;
    let id = SessionId::parse(id.as_bytes()).expect("an id");
    check(address, |address| fuzzing::link(address, name, &id));
});
