//! What the four older systems promised, row by row of docs/seeds.md: a test whose name begins
//! with a row's number fails when that row's promise is broken.

mod cherrypy;
#[allow(dead_code, reason = "the FastCGI tests use more of it")]
#[path = "../fastcgi/client.rs"]
mod client;
mod karrigell;
mod lemon;
#[allow(dead_code, reason = "the tests of sessions use more of it")]
#[path = "../session/support.rs"]
mod library;
mod place;
mod scenarios;
#[allow(dead_code, reason = "the FastCGI tests use more of it")]
#[path = "../fastcgi/server.rs"]
mod server;
mod settings;
mod storage;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod webstack;
