//! The counter with a C main, which starts faster: see `c_main!`.

#![cfg_attr(not(test), no_main)]

#[path = "counter.rs"]
#[expect(dead_code, reason = "its main is another program's")]
mod counter;

cgi_session::c_main!(counter::counter);
