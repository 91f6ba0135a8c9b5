//! `cgi-session copy`: brings the live sessions of one store into another, while programs use both.

mod progress;
mod stores;
mod summary;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use cgi_session_tools::owner::{self, Account};
use cgi_session_tools::report;
use cgi_session_tools::transfer::{Journal, Outcome, Reason, Transfer};

use crate::sessions::Ended;
use crate::signals::Signals;
use progress::Progress;
use stores::Stores;
use summary::Summary;

const EXAMPLES: &str = "\
Examples:
  # What would be done?
  cgi-session copy --from /etc/cgi-session.ini --to /etc/new.ini --dry-run

  # To change the store of a site and lose nothing:
  # 1. make the new store, and copy what there is; the programs go on in the old one
  cgi-session init --config /etc/new.ini
  cgi-session copy --from /etc/cgi-session.ini --to /etc/new.ini
  # 2. stop the programs, and bring what has changed meanwhile, which takes moments
  cgi-session copy --from /etc/cgi-session.ini --to /etc/new.ini --delete-gone
  # 3. switch, and start the programs
  mv /etc/cgi-session.ini /etc/old.ini && cp /etc/new.ini /etc/cgi-session.ini
  # 4. when all is well, remove the old store
  cgi-session uninstall --config /etc/old.ini

  # Instead of 2 and 3, where they cannot be stopped: switch, then fetch what was still written there
  cgi-session copy --from /etc/old.ini --to /etc/new.ini --move

A session is locked in both stores while it is brought, so that programs may use both. It keeps its
cookie, values, user, times and timeout. Each run brings what is new or was changed in the old store.
What was written in the new store since is never overwritten, and what has ended there does not
come back; a session that was written in both is left as it is in both, and told. With --move a
session ends in the old store as soon as it is in the new one: a program that still looks there
finds none, rather than an old one. A session that ends in the old store after it was copied can
still be used in the new one, until --delete-gone.

A run that was interrupted or killed is safe to repeat; the journal knows how far it has come. To
begin anew with a new store that is empty, delete the journal. Sessions that somebody holds for
`lockTimeout`, damaged ones and those of a later release are told, one line each, and left where they
are. With `maxSessions` the new store is filled, and nothing in it evicted. Settings from the
environment would hold for both stores and are refused.

Exit status: 0 when all is there, 1 when something could not be brought, 2 wrong usage, 75 when it was
only held by somebody, the new store is full, an engine cannot be reached or another run is under
way, 78 when a configuration cannot be used, 128 and the signal's number when it was interrupted.";

/// Copy or move the live sessions of one store into another, while both are in use
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Arguments {
    /// The configuration file of the store that the sessions are in
    #[arg(long, value_name = "FILE")]
    from: PathBuf,

    /// The configuration file of the store that they go to
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    /// End each session where it was as soon as it is in the other store
    #[arg(long = "move")]
    is_move: bool,

    /// Delete what was brought before, has ended where it was, and was not used in the other store
    #[arg(long)]
    delete_gone: bool,

    /// What was brought before; without it, the file of --to with `.journal` behind its name
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,

    /// Change nothing and lock nothing; say what would be done
    #[arg(long)]
    dry_run: bool,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<ExitCode, Ended> {
    if file.is_some() {
        let line = "copy has two stores: name their configuration files with --from and --to";
        return Err(Ended::saying(line, report::USAGE));
    }
    let stores = Stores::find(&arguments.from, &arguments.to)?;
    if let Some(owner) = stores.owner()? {
        // The journal may lie where the owner could not make it.
        if owner::is_roots_alone(owner::directory_of(&arguments.journal())) {
            drop(arguments.open_journal(&stores, Some(&owner))?);
        }
        let failed = match owner.run_this_program(&stores.from) {
            Ok(never) => match never {},
            Err(reason) => reason,
        };
        return Err(Ended::saying(&failed, report::FAILED));
    }
    let (from, to) = stores.open()?;
    let mut journal = arguments.open_journal(&stores, None)?;
    let signals = Signals::catch().map_err(|error| {
        Ended::saying(&format!("cannot catch signals: {error}"), report::FAILED)
    })?;
    let transfer = Transfer {
        from: &from,
        to: &to,
        is_move: arguments.is_move,
        deletes_gone: arguments.delete_gone,
        is_dry: arguments.dry_run,
        signal: signals.caught(),
    };
    let started = Instant::now();
    let progress = Progress::begin();
    let outcome = transfer.run(&mut journal, &|done, total| progress.note(done, total));
    progress.end();
    let summary = Summary {
        arguments,
        stores: &stores,
        outcome: &outcome,
        elapsed: started.elapsed(),
    };
    for problem in &outcome.problems {
        report::error(&problem.to_string());
    }
    report::output(&if arguments.json {
        summary.json()
    } else {
        summary.text()
    });
    Ok(status(&outcome))
}

impl Arguments {
    fn journal(&self) -> PathBuf {
        self.journal.clone().unwrap_or_else(|| {
            let mut name = self.to.clone().into_os_string();
            name.push(".journal");
            name.into()
        })
    }

    /// The journal of both stores, as seen from the root.
    fn open_journal(&self, stores: &Stores, owner: Option<&Account>) -> Result<Journal, Ended> {
        let path = self.journal();
        let opened = if self.dry_run {
            Journal::read(&path, &stores.to_string())
        } else {
            Journal::open(&path, &stores.to_string(), owner)
        };
        opened.map_err(|error| cannot_open(&path, &error))
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> Ended {
    let shown = path.display();
    let (advice, status) = match error.kind() {
        ErrorKind::ResourceBusy => ("", report::TRY_AGAIN),
        ErrorKind::Other => ("; name another file with --journal", report::USAGE),
        _ => ("; name another file with --journal", report::FAILED),
    };
    let line = format!("cannot use the journal {shown}: {error}{advice}");
    Ended::saying(&line, status)
}

fn status(outcome: &Outcome) -> ExitCode {
    if let Some(error) = &outcome.stopped {
        return report::failure(error);
    }
    if let Some(signal) = outcome.interrupted {
        report::error("interrupted; run it again for the rest");
        let signal = u8::try_from(signal).unwrap_or_default();
        return ExitCode::from(report::INTERRUPTED | signal);
    }
    let is_busy = |reason| reason == Reason::Busy;
    if outcome.problems.is_empty() {
        ExitCode::SUCCESS
    } else if outcome.problems.iter().all(|it| is_busy(it.reason)) {
        ExitCode::from(report::TRY_AGAIN)
    } else {
        ExitCode::from(report::FAILED)
    }
}
