//! The two programs, each with two requests of one visitor.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use testkit::client::Client;
use testkit::program::Cgi;
use testkit::site::Site;

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

#[test]
fn the_template_escapes_what_a_visitor_wrote() {
    let site = Site::new();
    let request = || {
        let request = Cgi::at(Path::new(env!("CARGO_BIN_EXE_template")));
        request.variable("CGI_SESSION_CONFIG", site.config())
    };
    let page = request().run().expect(200, "Notes");
    let id = page.id();
    let (_, token) = page.body.split_once(r#"csrfToken" value=""#).unwrap();
    let token = token.split('"').next().unwrap();
    let form = format!("note=a+%3Cb%3E&csrfToken={token}");
    request().visitor(&id).form(&form).run().expect(303, "");
    let shown = request().visitor(&id).run().expect(200, "<li>a ");
    assert!(!shown.body.contains("<b>"), "{shown:#?}");
}

#[test]
fn axum_counts_two_visits() {
    let site = Site::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_axum"));
    command.arg("127.0.0.1:0").stdout(Stdio::piped());
    command.env("CGI_SESSION_CONFIG", site.config());
    let mut program = Running(command.spawn().unwrap());
    let mut line = String::new();
    let mut said = BufReader::new(program.0.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let port = line.trim().trim_end_matches('/').rsplit(':').next();
    let mut visitor = Client::new(port.unwrap().parse().unwrap());
    visitor.get("/").expect(200, "visit 1").expect_cookies(1);
    visitor.get("/").expect(200, "visit 2").expect_cookies(0);
}
