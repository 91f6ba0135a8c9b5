//! What the server says when it starts, or why it does not.

use std::path::Path;
use std::process::{Command, Output};

use crate::server::{Server, binary, program};

#[track_caller]
fn fails(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn it_says_that_it_is_for_trying_out_and_where_the_sessions_live() {
    let server = Server::start();
    let (greeting, directory) = (&server.greeting, server.path("sessions"));
    assert!(greeting.contains("for trying out"), "{greeting}");
    assert!(greeting.contains(directory.to_str().unwrap()), "{greeting}");
}

#[test]
fn ctrl_c_ends_it() {
    let mut server = Server::start();
    assert_eq!(server.visitor().get("/cgi-bin/counter").views(), 1);
    assert!(server.interrupt().success());
    assert!(server.log().is_empty(), "{}", server.log());
}

#[test]
fn a_taken_port_is_an_error_that_names_the_option() {
    let server = Server::start();
    let port = server.address.rsplit(':').next().unwrap();
    let mut second = program(binary());
    second.args(["serve", "--port", port, "--storage-file-dir"]);
    second.arg(server.path("other"));
    let reason = fails(second);
    assert!(reason.contains(&server.address), "{reason}");
    assert!(reason.contains("--port"), "{reason}");
}

#[test]
fn a_checkout_needs_no_configuration() {
    let server = Server::launch(|_, _| {});
    let greeting = &server.greeting;
    assert!(greeting.contains("cgi-session-demo/sessions"), "{greeting}");
    assert_eq!(server.visitor().get("/cgi-bin/counter").views(), 1);
}

#[test]
fn an_installed_binary_without_a_directory_says_what_to_pass() {
    if Path::new("/etc/cgi-session.ini").exists() {
        crate::server::skip("this machine has a configuration");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let installed = directory.path().join("cgi-session");
    // By another process, so that none of this one's children holds it open for writing.
    let copied = Command::new("cp").arg(binary()).arg(&installed).status();
    assert!(copied.unwrap().success());
    let mut command = program(&installed);
    command.args(["serve", "--port", "0"]);
    let reason = fails(command);
    for option in ["--storage-file-dir", "--config"] {
        assert!(reason.contains(option), "{reason}");
    }
}

#[test]
fn the_global_configuration_file_counts() {
    let server = Server::with_settings("cookieName = ours");
    let visitor = server.visitor();
    let page = visitor.get("/cgi-bin/counter");
    assert!(page.set_cookie[0].starts_with("ours="), "{page:?}");
    assert_eq!(server.session_files().len(), 1);
    visitor.get("/inspect").says("generation 1, current");
}

#[test]
fn a_wrong_configuration_is_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.ini");
    std::fs::write(&file, "[session]\ntimeuot = 5\n").unwrap();
    let mut command = program(binary());
    command.args(["serve", "--port", "0", "--config"]).arg(file);
    let reason = fails(command);
    assert!(reason.contains("did you mean timeout?"), "{reason}");
}

#[test]
fn other_machines_are_warned_of_and_loopback_is_not() {
    for (address, is_warned_of) in [("0.0.0.0", true), ("127.0.0.2", false)] {
        let log = Server::with(&["--listen", address]).log();
        let is_told = log.contains("warning: 0.0.0.0 is not a loopback address");
        assert_eq!(is_told, is_warned_of, "{log}");
    }
}
