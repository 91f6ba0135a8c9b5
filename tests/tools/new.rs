//! `cgi-session new`: a project that builds, passes its own test and counts behind `cgi-session serve`.

use testkit::client::Client;
use testkit::prelude::*;
use testkit::tools::{Site, tool};
use testkit::{copy, profile_directory};

use crate::serve::Server;

/// Runs cargo in a project; what it builds is kept for the next run.
#[track_caller]
fn cargo(project: &Path, subcommand: &str) -> Finished {
    let mut command = Command::new(env!("CARGO"));
    command.arg(subcommand).current_dir(project);
    command.env("CARGO_TARGET_DIR", profile_directory().parent().unwrap());
    command.env("CARGO_PROFILE_DEV_DEBUG", "none");
    command.env("CARGO_INCREMENTAL", "0");
    Finished::of(&mut command).exits_with(0)
}

#[test]
fn a_new_project_builds_passes_its_own_test_and_counts() {
    let site = Site::new();
    // Below the checkout, whose settings for cargo count there, too.
    let target = repository("target");
    fs::create_dir_all(&target).unwrap();
    let place = tempfile::tempdir_in(target).unwrap();
    let project = place.path().join("guestbook");
    let told = Finished::of(tool("new").arg(&project)).exits_with(0);
    let checkout = repository("");
    told.says(checkout.to_str().unwrap().trim_end_matches('/'));
    // The same releases as here, from which nothing has to be fetched.
    copy(&repository("Cargo.lock"), &project);
    cargo(&project, "test").says("each_view_of_a_visitor_counts_one ... ok");
    cargo(&project, "build");
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let (_, programs) = readme.split_once("serve --programs target/").unwrap();
    let programs = programs.split_once("release ").unwrap().0;
    let target = profile_directory().parent().unwrap().to_owned();
    let built = target.join(programs).join("debug/guestbook");
    // A directory of its own: others of that one change while it is served.
    let programs = site.parent().join("programs");
    fs::create_dir(&programs).unwrap();
    copy(&built, &programs);
    let server = Server::of(site, &programs);
    let port = server.address.rsplit(':').next().unwrap();
    let mut visitor = Client::new(port.parse().unwrap());
    for views in 1..=2 {
        let page = visitor.get("/guestbook");
        let id = SessionId::parse(visitor.id().unwrap().as_bytes()).unwrap();
        let line = server.line();
        let end = format!(" ms  {:.12}  GET /guestbook\n", id.digest().as_str());
        assert!(line.starts_with("200 ") && line.ends_with(&end), "{line}");
        let (line, end) = (server.line(), format!(r#"{{"":{{"pageViews":{views}}}}}"#));
        let has_it = line.contains("stored ") && line.trim_end().ends_with(&end);
        assert!(has_it, "{line}");
        let is_so = page.body.contains(&format!("here {views} time(s)"));
        assert!(is_so, "{page:#?}");
    }
    // With a C main, which the lint for unsafe code does not mind.
    let main = project.join("src/main.rs");
    let rest = fs::read_to_string(&main).unwrap();
    let rest = rest.replace("use std::process::ExitCode;\n\n", "").replace(
        "fn main() -> ExitCode {\n    cgi_session::run(page)\n}\n",
        "cgi_session::c_main!(page);\n",
    );
    let attributes = "#![cfg_attr(not(test), no_main)]\n#![forbid(unsafe_code, unused)]\n";
    fs::write(&main, format!("{attributes}{rest}")).unwrap();
    cargo(&project, "test").says("each_view_of_a_visitor_counts_one ... ok");
    cargo(&project, "build");
    let sessions = tempfile::tempdir().unwrap();
    let request = Cgi::at(&built).variable("CGI_SESSION_STORAGE_FILE_DIR", sessions.path());
    request.run().expect(200, "here 1 time(s)");
}

#[test]
fn a_program_for_fastcgi_has_units_for_systemd() {
    let place = tempfile::tempdir().unwrap();
    let project = place.path().join("guest-book");
    Finished::of(tool("new").arg(&project).arg("--fastcgi")).exits_with(0);
    let read = |name: &str| fs::read_to_string(project.join(name)).unwrap();
    for name in [
        "guest-book.socket",
        "guest-book.service",
        "README.md",
        "Cargo.toml",
    ] {
        let text = read(name);
        let has_it = text.contains("guest-book") && !text.contains("{{");
        assert!(has_it, "{text}");
    }
    assert!(read("README.md").contains("fastcgi_pass unix:/run/guest-book.sock"));
    assert!(!project.join(".cargo").exists());
}

#[test]
fn the_directory_that_one_is_in_has_a_name_too() {
    let place = tempfile::tempdir().unwrap();
    let own = place.path().join("guestbook");
    fs::create_dir(&own).unwrap();
    let made = Finished::of(tool("new").arg(".").current_dir(&own));
    made.exits_with(0);
    let manifest = fs::read_to_string(own.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"guestbook\""), "{manifest}");
}

#[test]
fn a_name_that_no_program_can_have_and_a_directory_in_use_are_refused() {
    let place = tempfile::tempdir().unwrap();
    for (name, reason) in [
        ("2nd", "begins with a letter"),
        ("a b", "letters, digits"),
        ("..", "letters, digits"),
        ("fn", "reserved"),
        ("cgi-session", "reserved"),
    ] {
        let refused = Finished::of(tool("new").arg(place.path().join(name)));
        refused.exits_with(2).complains(reason);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    let project = place.path().join("guestbook");
    fs::create_dir(&project).unwrap();
    Finished::of(tool("new").arg(&project)).exits_with(0);
    let refused = Finished::of(tool("new").arg(&project)).exits_with(2);
    refused.complains("is not empty");
    let nowhere = Finished::of(tool("new").arg("/dev/null/guestbook"));
    nowhere
        .exits_with(1)
        .complains("cannot create /dev/null/guestbook");
}
