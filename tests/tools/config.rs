//! `cgi-session config`, as administrators read it.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use testkit::prelude::*;
use testkit::tools::{Site, cleanup_program, tool};

#[test]
fn every_key_is_shown_with_its_value_and_where_it_comes_from() {
    let site = Site::new();
    let directory = site.directory.display().to_string();
    let file = site.configuration(&format!("timeout = 30\nstorageFileDir = {directory}"));
    let mut command = tool("config");
    command.arg("--config").arg(&file);
    command.env("CGI_SESSION_COOKIE_NAME", "sid");
    let shown = Finished::of(&mut command).exits_with(0);
    let row = |key: &str| {
        let line = shown.stdout.lines().find(|line| line.starts_with(key));
        let fields = line.unwrap().split_whitespace().map(str::to_owned);
        fields.collect::<Vec<_>>().join(" ")
    };
    let file = file.display();
    assert_eq!(row("timeout"), format!("timeout 30m {file}:2"));
    let seen = row("storageFileDir");
    assert_eq!(seen, format!("storageFileDir {directory} {file}:3"));
    let seen = row("cookieName");
    assert_eq!(seen, "cookieName sid environment CGI_SESSION_COOKIE_NAME");
    assert_eq!(row("lifetime"), "lifetime 30d default");
    assert_eq!(row("cookieDomain"), "cookieDomain (none) default");
    assert_eq!(shown.stdout.lines().count(), Config::keys().count());
}

#[test]
fn the_password_of_a_database_is_not_shown() {
    let site = Site::new();
    for command in ["config", "config --json"] {
        let database = ("CGI_SESSION_DATABASE", "redis://ada:s3cret@127.0.0.1/0");
        let shown = site.run_with(&[database], command).exits_with(0);
        shown.says("redis://ada:***@127.0.0.1/0").lacks("s3cret");
    }
}

#[test]
fn the_columns_are_aligned() {
    let site = Site::new();
    let directory = [("CGI_SESSION_STORAGE_FILE_DIR", "/var/lib/cgi-session")];
    let shown = site.run_with(&directory, "config").exits_with(0);
    let lines: Vec<_> = shown.stdout.lines().collect();
    let value = lines[1].find("/var/lib").unwrap();
    let origin = lines[1].find("environment").unwrap();
    for line in lines {
        assert_eq!(&line[value - 2..value], "  ", "{line}");
        assert_ne!(&line[value..=value], " ", "{line}");
        assert_eq!(&line[origin - 2..origin], "  ", "{line}");
        assert_ne!(&line[origin..=origin], " ", "{line}");
    }
}

#[test]
fn json_has_an_object_for_each_key() {
    let site = Site::new();
    let file = site.configuration("storageFileDir = /srv/a");
    // The file may be named before the subcommand as well.
    let mut command = testkit::tools::program(env!("CARGO_BIN_EXE_cgi-session"));
    command.arg("--config");
    command.arg(&file).args(["config", "--json"]);
    let json = Finished::of(&mut command).exits_with(0).json();
    assert_eq!(json["storageFileDir"]["value"], "/srv/a");
    let seen = &json["storageFileDir"]["origin"];
    assert_eq!(*seen, format!("{}:2", file.display()));
    assert_eq!(json["timeout"]["origin"], "default");
}

#[test]
fn a_configuration_that_cannot_be_used_is_78_with_one_line() {
    let site = Site::new();
    let insecure = "storageFileDir = /a\ncookieName = __Host-x";
    let unknown = "site.ini:2: timeuot: unknown key; did you mean timeout?";
    for (lines, complaint) in [
        ("timeout = 5", "storageFileDir is not set"),
        ("timeuot = 5", unknown),
        ("timeout = soon", "not a time"),
        ("storageFileDir = sessions", "absolute"),
        (insecure, "cookieSecure = true"),
    ] {
        let file = site.configuration(lines);
        for (name, mut program) in [
            ("cgi-session: ", tool("config")),
            ("cgi-session-cleanup: ", cleanup_program()),
        ] {
            let finished = Finished::of(program.arg("--config").arg(&file)).exits_with(78);
            assert!(finished.stderr.starts_with(name), "{finished:?}");
            finished.complains(complaint).has_lines(0, 1);
        }
    }
    // Whichever stores the tools were built with.
    let elsewhere = site.configuration("storageType = postgres");
    for (file, complaint) in [
        (elsewhere.as_path(), "postgres"),
        (Path::new("/nonexistent.ini"), "/nonexistent.ini"),
    ] {
        let finished = Finished::of(cleanup_program().arg("--config").arg(file));
        finished.exits_with(78).complains(complaint);
    }
}

#[test]
fn a_variable_that_names_no_file_and_a_pipe_in_the_place_of_one_are_refused() {
    let site = Site::new();
    let pipe = site.parent().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    for (file, complaint) in [
        ("".as_ref(), "CGI_SESSION_CONFIG is empty"),
        (pipe.as_path(), "pipe: it is no regular file"),
        (site.parent(), "it is no regular file"),
    ] {
        Finished::of(tool("config").env("CGI_SESSION_CONFIG", file))
            .exits_with(78)
            .complains(complaint);
    }
}

#[test]
fn what_moves_the_cursor_is_shown_escaped() {
    let site = Site::new();
    let separator = "storageFileDir = /a\u{2028}b";
    let finished = site.run_under(separator, "config").exits_with(0);
    finished.says(r"/a\u{2028}b");
    let finished = site.run_under(separator, "check");
    finished.says(r"/a\u{2028}b").lacks("\u{2028}");
    let directory = "storageFileDir = /\u{1b}[2J\u{7}\u{9b}\u{2028}x";
    for (line, shown) in [
        (directory, r"\u{1b}[2J\u{7}\u{9b}\u{2028}x"),
        ("\u{1b}[2J\u{7}\u{9b}x = 1", r"\u{1b}[2J\u{7}\u{9b}x"),
    ] {
        let finished = site.run_under(line, "config").exits_with(78);
        let finished = finished.complains(shown);
        assert!(!finished.stderr.contains(['\u{1b}', '\u{9b}', '\u{2028}']));
    }
}
