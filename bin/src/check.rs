//! `cgi-session check`: looks for what breaks deployments, and says what to do.

mod contents;
mod directory;
mod engine;
mod finding;
mod medium;
mod stress;
mod surroundings;

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cgi_session::{Config, Error, Origin, Result, shell_word};

use crate::account::Account;
use crate::location::Location;
use crate::report::{self, Ended, counted};
use crate::screen::Screen;
use finding::Findings;
pub use stress::take_part as take_part_in_trial;

const EXAMPLES: &str = "\
Examples:
  # As the user of the web server, which is what counts
  sudo cgi-session check --as www-data

  # As the user who is logged in
  cgi-session check --config ~/site/cgi-session.ini

  # Are sessions safe on this file system? Half an hour says more than ten seconds
  sudo cgi-session check --stress --seconds 1800

  # For a monitoring system
  cgi-session check --json | jq '.findings[] | select(.level == \"problem\")'

Each finding is `ok`, a `warning` (it works, but look at it) or a `PROBLEM` (it fails, loses
sessions or lets others read them), and says what to do. Exit status: 0 without problems, 1 with
some, 2 wrong usage, 78 when the configuration cannot be used.

Started by root without --as, it checks as the owner of the directory or database file. Of a database or
an engine it says whether it can be reached, in which version, and whether it is fit for sessions.

With --stress it makes a directory of its own in storageFileDir, with a store of the same durability
and shards. Processes count on sessions there, give them new ids, let them grow, shrink and end, and
are killed at random while clean-ups run. Sessions are safe there if no increment is lost or
doubled, nothing is read that is torn or old, nothing that has ended comes back, and nothing is left
behind. The sessions of the site are not touched. It keeps the processors busy. Of a store in an engine it
tries that engine, in tables or under keys whose names begin with that of `table` and _storm, which are
removed before and after: one trial at a time.";

/// No clock of a machine that runs this shows an earlier time (1 January 2020).
const EARLIEST: Duration = Duration::from_secs(1_577_836_800);

/// Look for what breaks a deployment and say how to repair it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Check as this user (name or number), as whom the web server runs programs; only for root
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,

    /// Write one JSON object
    #[arg(long)]
    json: bool,

    /// Try sessions out, too: processes count on them and are killed at random
    #[arg(long)]
    stress: bool,

    /// How long to try, up to a week
    #[arg(
        long,
        value_name = "N",
        requires = "stress",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=604_800)
    )]
    seconds: u64,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> std::result::Result<(), Ended> {
    let config = Config::find_with(file, &[]).map_err(|error| unusable(&error))?;
    act_as(arguments, &config)?;
    let found = findings(&config, arguments.user.is_some());
    let mut found = found.map_err(|error| unusable(&error))?;
    if arguments.stress {
        let duration = Duration::from_secs(arguments.seconds);
        if let Some(signal) = stress::check(&config, duration, &mut found) {
            let line = "interrupted; nothing is left behind";
            return Err(Ended::saying(line, report::INTERRUPTED | signal));
        }
    }
    if arguments.json {
        report::output_json(&found.json());
    } else {
        report::output(&found.text(Screen::of_stdout()));
    }
    Ended::unless(found.problems() == 0)
}

fn unusable(error: &Error) -> Ended {
    let (line, account) = (error.one_line(), Account::current());
    Ended::saying(
        &format!("{line} (checked as {account})"),
        report::CONFIGURATION,
    )
}

/// Continues as the user of `--as` or, under root, as the owner of the directory.
fn act_as(arguments: &Arguments, config: &Config) -> std::result::Result<(), Ended> {
    let current = Account::current();
    let wanted = match arguments.user.as_deref() {
        Some(name) => Some(Account::named(name, "--as")?),
        None if current.is_root() => Location::of(config).owner(),
        None => None,
    };
    let Some(wanted) = wanted.filter(|wanted| wanted.uid != current.uid) else {
        return Ok(());
    };
    if !current.is_root() {
        let (user, check) = (wanted.handle(), report::command_for(config, "check"));
        let line = format!("only root can check as another user; try: sudo {check} --as {user}");
        return Err(Ended::saying(&line, report::USAGE));
    }
    Err(wanted.run_this_program(config).into())
}

fn findings(config: &Config, is_as_asked: bool) -> Result<Findings> {
    let mut found = Findings::default();
    configuration(config, &mut found);
    redirected(&mut found);
    let account = Account::current();
    if account.is_root() && !is_as_asked {
        let text = "checked as root, but web servers run programs as another user";
        let remedy = report::command_for(config, "check") + " --as " + &account.programs_handle();
        found.warning("user", text).remedy(remedy);
    }
    clock(SystemTime::now(), &mut found);
    let location = Location::of(config);
    if location.kind() != "file" {
        engine::check(config, &account, &mut found);
        return Ok(found);
    }
    let path: PathBuf = config.storage_file_dir()?.components().collect();
    surroundings::check(&path, "storageFileDir", &account, &mut found);
    // As long as the user is not known, the directory's owner may be the right one.
    let other = (!is_as_asked).then(|| report::command_for(config, "check"));
    let is_usable = directory::check(&path, &account, other.as_deref(), &mut found);
    if is_usable && directory::try_out(&path, &account, &mut found) {
        contents::check(&path, config, &account, &mut found)?;
        contents::timeouts(config, &mut found);
    }
    medium::check(&path, &mut found);
    Ok(found)
}

fn configuration(config: &Config, found: &mut Findings) {
    let is_set = |key: &&str| config.origin(key) != Origin::Default;
    let set = Config::keys().filter(is_set).fold(0, |count, _| count + 1);
    let source = config.file().map_or_else(
        || {
            "no configuration file; everything is default or from the environment, of which suexec \
             passes nothing and a rewrite of Apache renames what it sets to REDIRECT_CGI_SESSION_…"
                .to_owned()
        },
        |file| file.display().to_string(),
    );
    let set = counted(set, "key");
    let shown = report::command_for(config, "config");
    let text = format!("{source} ({set} set; {shown} shows them)");
    let Some(file) = config.file().filter(|file| is_writable_by_all(file)) else {
        found.fine("configuration", text);
        return;
    };
    let text = format!("{text}: every user can change it, and say where sessions are");
    let remedy = format!("chmod o-w {}", shell_word(file));
    found.problem("configuration", text).at(file).remedy(remedy);
}

fn is_writable_by_all(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.mode() & 0o002 != 0)
}

/// Finds settings that a web server has renamed, and that no program obeys.
fn redirected(found: &mut Findings) {
    let mut names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let is_renamed = |name: &String| {
        let meant = name.trim_start_matches("REDIRECT_");
        meant != name && meant.starts_with("CGI_SESSION_") && env::var_os(meant).is_none()
    };
    if let Some(name) = names.find(is_renamed) {
        let text = format!("{name} is set by a redirect or rewrite of the server, and not obeyed");
        let remedy = "write the setting into cgi-session.ini beside the program";
        found.warning("redirect", text).remedy(remedy);
    }
}

fn clock(now: SystemTime, found: &mut Findings) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since >= EARLIEST {
        found.fine("clock", "shows a plausible time");
        return;
    }
    let text = "shows a time before 2020: sessions would all expire when it is put right";
    let finding = found.problem("clock", text);
    finding.remedy("timedatectl set-ntp true");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_2020_is_a_problem() {
        let problems = |now| {
            let mut found = Findings::default();
            clock(now, &mut found);
            found.problems()
        };
        assert_eq!(problems(UNIX_EPOCH + EARLIEST - Duration::from_secs(1)), 1);
        assert_eq!(problems(UNIX_EPOCH + EARLIEST), 0);
    }
}
