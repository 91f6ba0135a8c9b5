//! `cgi-session copy`: copies the live sessions of one store into another, while programs use both.

mod pass;
mod stores;

use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::HumanCount;
use serde_json::{Value, json};

use crate::progress::Progress;
use crate::report::{self, Ended, counted};
use crate::signals::Signals;
use pass::{DONE, LEFT, Outcome, Pass};
use stores::Stores;

const EXAMPLES: &str = "\
Examples:
  # What would be done?
  cgi-session copy --from /etc/cgi-session.ini --to /etc/new.ini --dry-run

  # To change the store of a site and lose nothing:
  # 1. make the new store, and copy what there is; the programs continue in the old one
  cgi-session init --config /etc/new.ini --owner www-data
  cgi-session copy --from /etc/cgi-session.ini --to /etc/new.ini
  # 2. stop the programs, and copy what has changed meanwhile, which takes moments
  cgi-session copy --from /etc/cgi-session.ini --to /etc/new.ini --delete-gone
  # 3. switch, and start the programs
  mv /etc/cgi-session.ini /etc/old.ini && cp /etc/new.ini /etc/cgi-session.ini
  # 4. when all is well, remove the old store
  cgi-session uninstall --config /etc/old.ini

  # To go back later: empty the old store first, for what is left there is older, and copy as before
  cgi-session uninstall --config /etc/old.ini
  cgi-session init --config /etc/old.ini --owner www-data

  # Instead of 2 and 3, where they cannot be stopped: switch, then fetch what was still written there
  cgi-session copy --from /etc/old.ini --to /etc/new.ini --move

A session is locked in both stores while it is copied, so that programs may use both. It keeps its
cookie, values, user, times and timeout. Each run copies what is new or was changed in the old store
since, and can be repeated, also after it was interrupted or killed. What programs have saved in the
new store is never overwritten: it is left when it was used there later, by two seconds or more, and
else reported as a conflict, for it may have been changed in both. With --move a session ends in the
old store as soon as it is in the new one: a program that still looks there finds none, rather than
an old one. Once programs use the new store, run it with --move alone. What has ended in the new store
and not in the old one is copied again, by the first --move too: a logout there is undone. What has
ended in the old store after it was copied can still be used in the new one, until --delete-gone.

Sessions that are held for `lockTimeout`, damaged ones and those of a later release are reported, one
line each, and left where they are. With `maxSessions` the new store is filled, and nothing in it evicted. Settings from the
environment would hold for both stores and are refused.

Exit status: 0 when all is there, 1 when something was left out, 2 wrong usage, 75 when it was
only held, the new store is full or an engine cannot be reached, 78 when a configuration cannot be
used, 128 and the signal's number when it was interrupted.";

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

    /// End each session in the old store as soon as it is in the new one
    #[arg(long = "move")]
    is_move: bool,

    /// Delete copies whose session has ended since, while no program uses the new store
    #[arg(long, conflicts_with = "is_move")]
    delete_gone: bool,

    /// Change nothing and lock nothing; say what would be done
    #[arg(long)]
    dry_run: bool,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    if file.is_some() {
        let line = "copy has two stores: name their configuration files with --from and --to";
        return Err(Ended::saying(line, report::USAGE));
    }
    let stores = Stores::find(&arguments.from, &arguments.to)?;
    if let Some(owner) = stores.owner()? {
        return Err(owner.run_this_program(&stores.from).into());
    }
    let from = crate::stores::manager(stores.from.clone())?;
    let to = crate::stores::manager(stores.to.clone())?;
    let signals = Signals::catch().map_err(|error| format!("cannot catch signals: {error}"))?;
    let pass = Pass {
        from: &from,
        to: &to,
        is_move: arguments.is_move,
        deletes_gone: arguments.delete_gone,
        is_dry: arguments.dry_run,
        signals: &signals,
        outcome: Outcome::default(),
    };
    let (started, progress) = (Instant::now(), Progress::begin());
    let outcome = pass.run(&|done, total| {
        progress.note(done, total, || match total {
            Some(total) => format!("{}/{} sessions", HumanCount(done), HumanCount(total)),
            None => format!("{} sessions found", HumanCount(done)),
        });
    });
    progress.end();
    let elapsed = started.elapsed().as_secs_f64();
    for problem in &outcome.problems {
        report::error(&format!("{}: {}", problem.session, problem.text));
    }
    if arguments.json {
        report::output_json(&json(arguments, &stores, &outcome, elapsed));
    } else {
        report::output(&text(arguments, &stores, &outcome, elapsed));
    }
    if let Some(error) = outcome.stopped {
        return Err(error.into());
    }
    Ended::if_interrupted(outcome.signal)?;
    let problems = outcome.problems.len() as u64;
    match outcome.problems_of("busy") {
        busy if busy == problems && busy > 0 => Ended::with(report::TRY_AGAIN.into()),
        _ => Ended::unless(problems == 0),
    }
}

/// The line for people: `A -> B: 12 sessions copied, 3 updated, 40 as before; left out: 2 busy; 0.31 s`.
fn text(arguments: &Arguments, stores: &Stores, outcome: &Outcome, elapsed: f64) -> String {
    let shown = |numbers: &[(u64, &str)]| {
        let numbers = numbers.iter().filter(|(number, _)| *number > 0);
        let numbers = numbers.map(|(number, what)| format!(", {number} {what}"));
        numbers.collect::<String>()
    };
    let done = shown(&DONE.map(|(key, what)| (outcome.number(key), what)));
    let left = shown(&LEFT.map(|(reason, _, what)| (outcome.problems_of(reason), what)));
    let left = left.strip_prefix(", ");
    let left = left.map_or(String::new(), |left| format!("; left out: {left}"));
    let (old, new) = (&stores.old, &stores.new);
    let copied = counted(outcome.number("copied"), "session");
    let dry = if arguments.dry_run {
        "; nothing was done, this was a dry run"
    } else {
        ""
    };
    let line = format!("{old} -> {new}: {copied} copied{done}{left}{dry}; {elapsed:.2} s\n");
    match outcome.number("gone") - outcome.number("goneDeleted") {
        0 => line,
        still => format!(
            "{line}copied before and now in {new} alone: {}; only if no program uses it yet, --delete-gone deletes them\n",
            counted(still, "session")
        ),
    }
}

fn json(arguments: &Arguments, stores: &Stores, outcome: &Outcome, elapsed: f64) -> Value {
    let problems = outcome.problems.iter();
    let problems: Vec<_> = problems
        .map(|it| json!({ "digest": it.session.as_str(), "reason": it.reason, "text": it.text }))
        .collect();
    let mut object = json!({
        "from": stores.old.to_string(),
        "to": stores.new.to_string(),
        "dryRun": arguments.dry_run,
        "move": arguments.is_move,
        "isComplete": outcome.stopped.is_none() && outcome.signal == 0,
        "problems": problems,
        "seconds": elapsed,
    });
    for key in ["examined", "copied", "gone"]
        .into_iter()
        .chain(DONE.map(|(key, _)| key))
    {
        object[key] = outcome.number(key).into();
    }
    for (reason, key, _) in LEFT {
        object[key] = outcome.problems_of(reason).into();
    }
    object
}
