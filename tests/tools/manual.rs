//! The help, the manual pages and the completions of `cgi-session`.

use testkit::prelude::*;
use testkit::tools::{program, tool};

fn commands() -> impl Iterator<Item = &'static str> {
    let all = "new serve config check stats list show destroy get set unset start copy cleanup \
        guard init uninstall man completions";
    all.split(' ')
}

#[test]
fn every_command_has_help_with_examples() {
    let mut main = program(env!("CARGO_BIN_EXE_cgi-session"));
    let main = Finished::of(main.arg("--help")).exits_with(0);
    let main = main.says("Examples:");
    for command in commands() {
        let is_named = main.stdout.contains(&format!("\n  {command} "));
        assert!(is_named, "{command}");
        let help = Finished::of(tool(command).arg("--help")).exits_with(0);
        help.says("Examples:").says("--config");
    }
}

#[test]
fn the_manual_page_names_every_command() {
    let page = Finished::of(&mut tool("man")).exits_with(0);
    let page = page.says(".TH cgi-session 1");
    for command in commands() {
        let name = format!("cgi\\-session\\-{command}(1)");
        assert!(page.stdout.contains(&name), "{command}");
    }
}

#[test]
fn every_command_has_a_manual_page_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("man/man1");
    let made = Finished::of(tool("man").arg("--all").arg(&directory));
    made.exits_with(0).says_nothing();
    assert!(directory.join("cgi-session.1").exists());
    for command in commands() {
        let page = fs::read_to_string(directory.join(format!("cgi-session-{command}.1")));
        assert!(page.unwrap().contains("Examples:"), "{command}");
    }
    let nowhere = Finished::of(tool("man").args(["--all", "/dev/null/man"]));
    nowhere.exits_with(1).complains("/dev/null/man");
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Finished::of(tool("completions").arg(shell)).exits_with(0);
        for command in commands() {
            assert!(script.stdout.contains(command), "{shell}: {command}");
        }
    }
    let unknown = Finished::of(tool("completions").arg("cmd")).exits_with(2);
    unknown.complains("possible values");
}
