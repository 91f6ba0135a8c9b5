//! A real browser on the pages.

mod driver;
mod pages;
mod scenarios;
mod sites;

use crate::server::Server;
use driver::Browser;

#[track_caller]
fn log_in(browser: &mut Browser, server: &Server, name: &str, password: &str) {
    browser.go(&server.url("/cgi-bin/login"));
    browser.sees("Two people have an account here");
    browser.fill("name", name);
    browser.fill("password", password);
    browser.press("Log in");
    browser.sees(&format!("{name} is logged in."));
}
