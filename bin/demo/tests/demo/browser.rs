//! A real browser on the pages.

mod driver;
mod pages;
mod scenarios;
mod sites;

use crate::server::Server;
use driver::Browser;

/// Runs a test in a browser on a demo site of its own, if there is a browser.
fn in_browser(test: impl FnOnce(Browser, Server)) {
    if let Some(browser) = Browser::start() {
        test(browser, Server::start());
    }
}

#[track_caller]
fn log_in(browser: &mut Browser, server: &Server, name: &str, password: &str) {
    browser.go(&server.url("/cgi-bin/login"));
    browser.sees("Two people have an account here");
    browser.fill("name", name);
    browser.fill("password", password);
    browser.press("Log in");
    browser.sees(&format!("{name} is logged in."));
}
