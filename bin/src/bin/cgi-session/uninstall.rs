//! `cgi-session uninstall`: removes what init and the sessions made, and only that.

use std::fs;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use cgi_session::{Config, Error, SessionManager};
use cgi_session_tools::owner::Account;
use cgi_session_tools::report::{self, counted};

use crate::key_file;
use crate::sessions::Ended;

const EXAMPLES: &str = "\
Examples:
  # Asks first
  sudo cgi-session uninstall

  # In a script
  sudo cgi-session uninstall --yes

It removes all sessions, whoever uses them, what the store keeps beside them, and the directory
when nothing is left in it. Files that are none of ours are listed and left. For storageType = cookie
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

    /// Leave the empty directory to the caller, who may remove it from where it lies
    #[arg(long, hide = true)]
    leave_directory: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<ExitCode, Ended> {
    let config = Config::find_with(file, &[])?;
    if !arguments.yes {
        ask(&place(&config)?)?;
    }
    if config.get("storageType").as_deref() == Some("cookie") {
        return remove_keys(&config);
    }
    let directory = config.storage_file_dir().ok();
    if Account::current().is_root()
        && let Some(directory) = directory
        && let Some(owner) = Account::owning(directory).filter(|owner| !owner.is_root())
    {
        return as_owner(&owner, &config, directory);
    }
    let directory = directory.map(Path::to_owned);
    let mut done = SessionManager::new(config)?.uninstall();
    if arguments.leave_directory {
        done.errors
            .retain(|error| !is_about(error, directory.as_deref()));
    }
    report::output(&format!("{} removed\n", counted(done.sessions, "session")));
    for foreign in &done.foreign {
        report::output(&format!("left alone: {}\n", report::plain(foreign)));
    }
    for error in &done.errors {
        report::error(&error.one_line());
    }
    Ok(ExitCode::from(if done.errors.is_empty() {
        0
    } else {
        report::FAILED
    }))
}

/// What would be removed, for people.
fn place(config: &Config) -> Result<String, Ended> {
    let kind = config.get("storageType").unwrap_or_default();
    Ok(match kind.as_str() {
        "cookie" => format!("the keys in {}", key_file::path(config)?.display()),
        "file" => format!("all sessions in {}", config.storage_file_dir()?.display()),
        kind => format!("all sessions (storageType = {kind})"),
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

fn remove_keys(config: &Config) -> Result<ExitCode, Ended> {
    let shown = key_file::path(config)?;
    let shown = shown.display();
    report::output(&if key_file::remove(config)? {
        format!("{shown} removed\n")
    } else if Path::new(&shown.to_string()).exists() {
        format!("left alone: {shown}\n")
    } else {
        String::new()
    });
    Ok(ExitCode::SUCCESS)
}

/// Removes the sessions as their owner, and then, as root, the directory: its owner may not be
/// allowed to.
fn as_owner(owner: &Account, config: &Config, directory: &Path) -> Result<ExitCode, Ended> {
    let failed = |error: io::Error, what: &str| {
        let line = format!("cannot {what} {}: {error}", directory.display());
        Ended::saying(&line, report::FAILED)
    };
    let mut command = owner.command(config);
    let status = command
        .args(["uninstall", "--yes", "--leave-directory"])
        .status()
        .map_err(|error| failed(error, "remove, as its owner, what is in"))?;
    if !status.success() {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(ExitCode::from(code.unwrap_or(report::FAILED)));
    }
    match fs::remove_dir(directory) {
        // What is in it has been listed.
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(failed(error, "remove"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn is_about(error: &Error, directory: Option<&Path>) -> bool {
    matches!(error, Error::Io { path, .. } if Some(path.as_path()) == directory)
}
