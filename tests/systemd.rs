//! The shipped systemd units, as systemd itself reads them.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::server::shipped;
use support::{example, is_installed, tool};

#[test]
fn systemd_finds_nothing_to_complain_about_in_the_units() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // A program that does not exist would be one thing to complain about.
    let app = example("counter");
    let cleanup = tool("cgi-session-cleanup");
    let units = [
        ("cgi-session-app.socket", "", Path::new("")),
        ("cgi-session-app.service", "/usr/lib/cgi-session/app", &app),
        ("cgi-session-cleanup.timer", "", Path::new("")),
        (
            "cgi-session-cleanup.service",
            "/usr/bin/cgi-session-cleanup",
            &cleanup,
        ),
    ];
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    for (unit, documented, program) in units {
        let replaced = [(documented, program.to_str().unwrap())];
        let text = shipped(
            unit,
            if documented.is_empty() {
                &[]
            } else {
                &replaced
            },
        );
        let path = directory.path().join(unit);
        fs::write(&path, text).unwrap();
        verify.arg(path);
    }
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
