//! The misbehaving program with a C main.

#![cfg_attr(not(test), no_main)]

#[path = "misbehave.rs"]
#[expect(dead_code, reason = "its main is another program's")]
mod misbehave;

cgi_session::c_main!(misbehave::misbehave);
