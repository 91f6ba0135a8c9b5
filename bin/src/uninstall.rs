//! `cgi-session uninstall`: removes what init and the sessions made, and only that.

use std::fs;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;

use cgi_session::store::FileKind;
use cgi_session::{Config, Error, Uninstalled, printable};
use serde_json::json;

use crate::account::Account;
use crate::key_file;
use crate::location::Location;
use crate::owner;
use crate::report::{self, Ended, counted};

const EXAMPLES: &str = "\
Examples:
  # Asks first
  sudo cgi-session uninstall

  # In a script, with an object that says what was removed
  sudo cgi-session uninstall --yes --json

It removes all sessions, what the store keeps beside them, and the directory when nothing is left in
it. A session file that a request holds is left and named, which is a problem; of other stores also
sessions in use are removed. Files that are none of ours are listed and left. For storageType = cookie
it removes `secretKeyFile`. Stop the programs of the site first: a program that is still running makes
what it needs again.

Exit status: 0 when nothing of ours is left, 1 with problems (stderr has a line for each), 2 wrong
usage or a no, 78 when the configuration cannot be used.";

/// Remove all sessions and what `init` made
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Write one JSON object
    #[arg(long)]
    json: bool,

    /// Leave the empty directory to the caller, who may remove it from where it lies
    #[arg(long, hide = true)]
    leave_directory: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    let config = Config::find_with(file, &[])?;
    let location = Location::of(&config);
    if location.kind() == "sqlite" {
        owner::act_as_owner(&config)?;
    }
    if !arguments.yes {
        ask(&place(&config)?)?;
    }
    if config.get("storageType").as_deref() == Some("cookie") {
        return remove_keys(&config, arguments.json);
    }
    let directory = (location.kind() == "file").then(|| config.storage_file_dir());
    let directory = directory.transpose()?.map(Path::to_owned);
    if Account::current().is_root()
        && let Some(directory) = &directory
        && let Some(owner) = location.owner().filter(|owner| !owner.is_root())
    {
        return as_owner(&owner, &config, directory, arguments);
    }
    let mut done = crate::stores::manager(config)?.uninstall();
    if arguments.leave_directory {
        done.errors
            .retain(|error| !is_left_to_root(error, directory.as_deref()));
    }
    let removed = format!("{} removed", counted(done.sessions, "session"));
    report_on(&location.to_string(), &done, Some(&removed), arguments.json)
}

fn report_on(
    store: &str,
    done: &Uninstalled,
    removed: Option<&str>,
    as_json: bool,
) -> Result<(), Ended> {
    let problems: Vec<_> = done.errors.iter().map(Error::one_line).collect();
    for problem in &problems {
        report::error(problem);
    }
    if as_json {
        report::output_json(&json!({
            "store": store,
            "sessions": done.sessions,
            "leftAlone": done.foreign,
            "problems": problems,
        }));
        return Ended::unless(problems.is_empty());
    }
    let left = |foreign: &String| format!("left alone: {}", printable(foreign));
    let left = done.foreign.iter().map(left);
    for line in removed.map(str::to_owned).into_iter().chain(left) {
        report::output(&(line + "\n"));
    }
    Ended::unless(problems.is_empty())
}

/// What would be removed, for people.
fn place(config: &Config) -> Result<String, Ended> {
    let location = Location::of(config);
    Ok(match location.kind() {
        "cookie" => format!("the keys in {}", key_file::path(config)?.display()),
        "custom" | "ram" => format!("all sessions ({location})"),
        _ => format!("all sessions in {location}"),
    })
}

fn ask(what: &str) -> Result<(), Ended> {
    if !io::stdin().is_terminal() {
        let line = format!("this removes {what}; to say so without a terminal: --yes");
        return Err(Ended::saying(&line, report::USAGE));
    }
    let mut answer = String::new();
    let mut stderr = io::stderr().lock();
    let asked = write!(stderr, "Remove {what}? [y/N] ").and_then(|()| stderr.flush());
    let answered = asked.and_then(|()| io::stdin().read_line(&mut answer));
    if answered.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Ended::saying("nothing was removed", report::USAGE))
}

fn remove_keys(config: &Config, as_json: bool) -> Result<(), Ended> {
    let path = key_file::path(config)?;
    let shown = printable(&path.display().to_string());
    let removed = key_file::remove(config)?.then(|| format!("{shown} removed"));
    let mut done = Uninstalled::default();
    done.foreign.extend(path.exists().then(|| shown.clone()));
    report_on(&shown, &done, removed.as_deref(), as_json)
}

/// Removes the sessions as their owner, and then, as root, the directory: its owner may not be
/// allowed to. Where other users could replace the directory, root does not.
fn as_owner(
    owner: &Account,
    config: &Config,
    directory: &Path,
    arguments: &Arguments,
) -> Result<(), Ended> {
    let failed =
        |error: io::Error, what: &str| format!("cannot {what} {}: {error}", directory.display());
    let is_for_root = owner::is_roots_alone(owner::directory_of(directory));
    let mut command = owner.command(config);
    command.args(["uninstall", "--yes"]);
    if is_for_root {
        command.arg("--leave-directory");
    }
    if arguments.json {
        command.arg("--json");
    }
    let status = command
        .status()
        .map_err(|error| failed(error, "remove, as its owner, what is in"))?;
    if !status.success() || !is_for_root {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ended::with(code.unwrap_or(report::FAILED).into());
    }
    let removed = fs::remove_dir(directory).or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        // What is none of ours has been listed.
        ErrorKind::DirectoryNotEmpty if !holds_ours(directory) => Ok(()),
        ErrorKind::DirectoryNotEmpty => {
            let hint = "a program still uses it: stop the programs first, and run it again";
            Err(format!("{}; {hint}", failed(error, "remove")))
        }
        _ => Err(failed(error, "remove")),
    });
    Ok(removed?)
}

/// Whether all else was done, and root may remove the directory.
fn is_left_to_root(error: &Error, directory: Option<&Path>) -> bool {
    matches!(error, Error::Io { action, path, .. }
        if *action == "cannot remove" && Some(path.as_path()) == directory)
}

/// Whether a file of ours lies in a directory or in one of its shards.
fn holds_ours(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.any(|entry| {
        let kind = FileKind::of(entry.file_name().as_encoded_bytes());
        let is_directory = || entry.file_type().is_ok_and(|it| it.is_dir());
        match kind {
            FileKind::Foreign => false,
            FileKind::Shard => is_directory() && holds_ours(&entry.path()),
            _ => true,
        }
    })
}
