#![no_main]

use cgi_session::fuzzing;
use cgi_session_fuzz::fastcgi_records::{Arrived, check};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check(bytes, |pieces| {
        let requests = fuzzing::read_requests(pieces).into_iter();
        requests
            .map(|(params, body)| Arrived { params, body })
            .collect()
    });
});
