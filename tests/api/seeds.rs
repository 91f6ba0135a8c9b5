//! What the four older systems promised, row by row of docs/seeds.md: a test whose name begins
//! with a row's number fails when that row's promise is broken.

mod cherrypy;
mod karrigell;
mod lemon;
mod place;
mod scenarios;
mod settings;
mod storage;
mod webstack;
