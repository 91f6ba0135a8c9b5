//! A store that is no directory: whether it can be reached and is fit for sessions, whether its file lies well,
//! and whether others can read its password.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cgi_session::{Config, Error, Origin};

use super::finding::Findings;
use super::{contents, directory, surroundings};
use crate::account::Account;
use crate::location::Location;
use crate::report;

const TOPIC: &str = "store";
const READABLE_BY_ALL: u32 = 0o004;

pub(super) fn check(config: &Config, account: &Account, found: &mut Findings) {
    secrets(config, account, found);
    let location = Location::of(config);
    let is_usable = own_file(config, &location, account, found);
    if matches!(location.kind(), "custom" | "ram") {
        let text = format!("{location}: what the program itself alone can look at");
        found.fine(TOPIC, text);
        let is_cleaned = config.clean_up_delay().is_some() || location.kind() == "ram";
        if !is_cleaned && config.get("cleanUpProbability").as_deref() == Some("0") {
            let text = "no tool knows this store, and with cleanUpDelay = 0 no program deletes what has expired";
            let finding = found.warning("cleanUp", text);
            finding.remedy("write a time, such as cleanUpDelay = 60m");
        }
        return;
    }
    let manager = match crate::stores::manager(config.clone()) {
        Ok(manager) => manager,
        Err(error) => return problem(&error, found),
    };
    let examined = manager.store().examine();
    let is_fit = examined.problems.is_empty();
    for error in &examined.problems {
        problem(error, found);
    }
    let engine = examined
        .engine
        .map_or(String::new(), |engine| format!(", {engine}"));
    if is_fit && is_usable && location.is_missing() {
        let text = format!("{location} does not exist yet; the first session makes it");
        let remedy = report::command_for(config, "init") + " --owner " + &account.programs_handle();
        found.warning(TOPIC, text).remedy(remedy);
    } else if is_fit && !location.is_missing() {
        let text = format!("{location}{engine}: it answers, and is fit for sessions");
        found.fine(TOPIC, text);
    }
    for warning in examined.warnings {
        found.warning(TOPIC, warning);
    }
    contents::timeouts(config, found);
}

/// Looks where the one file of a store lies, if it has one; `false` when what it needs cannot be made there.
fn own_file(config: &Config, location: &Location, account: &Account, found: &mut Findings) -> bool {
    let key = match location.kind() {
        "cookie" => "secretKeyFile",
        "ram" => "snapshotFile",
        "sqlite" => "database",
        _ => return true,
    };
    let named = config.get(key).unwrap_or_default();
    let path = location.path().unwrap_or(Path::new(&named));
    if path == Path::new("") {
        return true;
    }
    surroundings::check(path, key, account, found);
    key == "secretKeyFile" || directory::of_file(path, account, found)
}

/// An error of the store, with what to do about it in the place for that.
fn problem(error: &Error, found: &mut Findings) {
    let line = error.one_line();
    let Some(hint) = error.hint() else {
        found.problem(TOPIC, line);
        return;
    };
    let text = line
        .strip_suffix(hint)
        .map(|text| text.trim_end_matches("; "));
    found.problem(TOPIC, text.unwrap_or(&line)).remedy(hint);
}

/// A file that everybody can read is no place for a password.
fn secrets(config: &Config, account: &Account, found: &mut Findings) {
    let shown = |key: &str| config.get(key).unwrap_or_default();
    let has_password = |key: &str| match key {
        "database" => config.database().unwrap_or_default() != shown("database"),
        key => !shown(key).is_empty(),
    };
    let keys = ["database", "databasePassword"];
    for key in keys.into_iter().filter(|key| has_password(key)) {
        let Origin::File { path, line } = config.origin(key) else {
            continue;
        };
        let (file, word) = (path.display(), cgi_session::shell_word(&path));
        let is_exposed = fs::metadata(&path)
            .is_ok_and(|found| found.permissions().mode() & READABLE_BY_ALL != 0);
        if is_exposed {
            let text = format!(
                "everybody on this machine can read {file}, and the password in its line {line}"
            );
            let group = account.of_programs();
            let group = group.map_or("GROUP".to_owned(), |user| user.gid.to_string());
            let remedy =
                format!("chgrp {group} {word} && chmod 0640 {word}, or databasePasswordFile");
            found.warning("password", text).at(&path).remedy(remedy);
        }
    }
}
