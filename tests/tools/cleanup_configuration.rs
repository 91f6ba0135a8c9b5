//! `cgi-session-cleanup`: its command line and its configuration.

use testkit::prelude::*;
use testkit::tools::{Site, cleanup_program, is_root, set_mode};

#[test]
fn the_configuration_names_the_directory_and_the_timeout() {
    let site = Site::new();
    let two_hours_old = site.expired_session();
    let directory = site.directory.display();
    let lines = format!("storageFileDir = {directory}\ntimeout = 3h");
    let file = site.configuration(&lines);
    Finished::of(cleanup_program().arg("--config").arg(&file))
        .exits_with(0)
        .says_nothing();
    assert!(two_hours_old.path.exists());
    Finished::of(
        cleanup_program()
            .env("CGI_SESSION_CONFIG", &file)
            .env("CGI_SESSION_TIMEOUT", "1h"),
    )
    .exits_with(0)
    .says_nothing();
    assert!(!two_hours_old.path.exists());
}

#[test]
fn the_directory_on_the_command_line_overrides_the_one_of_the_file() {
    let site = Site::new();
    let expired = site.expired_session();
    let file = site.configuration("storageType = ram\nstorageFileDir = /nonexistent/sessions");
    let mut command = cleanup_program();
    command.arg("--config").arg(file);
    command.arg("--storage-file-dir").arg(&site.directory);
    Finished::of(&mut command).exits_with(0).says_nothing();
    assert!(!expired.path.exists());
}

#[test]
fn the_directory_on_the_command_line_needs_no_configuration() {
    if Path::new("/etc/cgi-session.ini").exists() {
        testkit::tools::skip("this machine has a configuration");
        return;
    }
    let site = Site::new();
    let expired = site.expired_session();
    let mut command = cleanup_program();
    command.arg("--storage-file-dir").arg(&site.directory);
    Finished::of(&mut command).exits_with(0).says_nothing();
    assert!(!expired.path.exists());
}

#[test]
fn a_directory_that_is_relative_or_whose_parent_does_not_exist_is_78() {
    let site = Site::new();
    site.expired_session();
    for (directory, complaint) in [
        ("sessions", "absolute"),
        ("/nonexistent/x", "/nonexistent does not exist"),
    ] {
        let mut command = site.cleanup_program();
        command.args(["--storage-file-dir", directory]);
        let finished = Finished::of(command.current_dir(site.parent())).exits_with(78);
        assert_eq!(finished.complains(complaint).stderr.lines().count(), 1);
    }
    let file = site.configuration("storageFileDir = /nonexistent/x");
    Finished::of(cleanup_program().arg("--config").arg(file))
        .exits_with(78)
        .complains("/nonexistent does not exist");
}

#[test]
fn a_directory_of_other_things_is_78_and_left_as_it_is() {
    let site = Site::new();
    let other = site.directory.join("notes.txt");
    fs::write(&other, "").unwrap();
    let cleanup = || {
        let mut command = cleanup_program();
        Finished::of(command.arg("--storage-file-dir").arg(&site.directory))
    };
    cleanup().exits_with(78).complains("holds no session");
    assert_eq!(site.names().len(), 1);
    site.session();
    cleanup().exits_with(0).says_nothing();
    assert_eq!(site.names().len(), 3);
}

#[test]
fn a_directory_that_is_open_to_others_a_link_or_none_is_78() {
    let site = Site::new();
    set_mode(&site.directory, 0o777);
    site.cleanup("").exits_with(78).complains("chmod 0700");
    fs::rename(&site.directory, site.parent().join("real")).unwrap();
    symlink("real", &site.directory).unwrap();
    site.cleanup("").exits_with(78).complains("symbolic link");
    fs::remove_file(&site.directory).unwrap();
    fs::write(&site.directory, "").unwrap();
    let refused = site.cleanup("").exits_with(78);
    refused.complains("not a directory");
}

#[test]
fn a_wrong_command_line_is_2() {
    for wrong in [
        &["--max-files", "0"][..],
        &["--max-seconds", "x"],
        &["--oops"],
        &["extra"],
    ] {
        Finished::of(cleanup_program().args(wrong))
            .exits_with(2)
            .complains("--help");
    }
}

#[test]
fn the_help_names_every_exit_status() {
    let help = Finished::of(cleanup_program().arg("--help")).exits_with(0);
    holds(&help.stdout, "  0 *  1 *  2 *  75 *  78 *Examples:");
}

#[test]
fn a_configuration_that_only_root_can_read_is_78_for_the_owner() {
    let Some(site) = Site::as_root() else { return };
    site.give_to(testkit::tools::SOMEBODY);
    let file = site.configuration(&format!("storageFileDir = {}", site.directory.display()));
    set_mode(&file, 0o600);
    Finished::of(cleanup_program().arg("--config").arg(file))
        .exits_with(78)
        .complains("Permission denied");
}

#[test]
fn root_may_keep_the_program_where_the_owner_cannot_see_it() {
    if !is_root() || Path::new("/etc/cgi-session.ini").exists() {
        return;
    }
    let site = Site::new();
    let expired = site.expired_session();
    site.give_to(testkit::tools::SOMEBODY);
    let closed = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    set_mode(closed.path(), 0o700);
    let link = closed.path().join("cgi-session-cleanup");
    fs::hard_link(env!("CARGO_BIN_EXE_cgi-session-cleanup"), &link).unwrap();
    let run = || {
        let mut command = testkit::tools::program(&link);
        Finished::of(command.arg("--storage-file-dir").arg(&site.directory))
    };
    // Settings that root sees and the owner does not must not be replaced by the defaults.
    let settings = closed.path().join("cgi-session.ini");
    fs::write(&settings, "[session]\ntimeout = 7d\n").unwrap();
    run().exits_with(78).complains("Permission denied");
    assert!(expired.path.exists());
    fs::remove_file(settings).unwrap();
    run().exits_with(0).says_nothing();
    assert!(!expired.path.exists());
}
