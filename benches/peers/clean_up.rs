//! How long it takes to delete the expired sessions among many, each peer by its own means, as cron would start it.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::contest::{Better, Contest, FIGURE, PROGRAM, RATIO, Sample, Section};
use crate::crowd::Crowd;
use crate::measured::{Outcome, in_turns};
use crate::peer::Peer;
use crate::server;
use crate::settings::Settings;
use crate::workshop::Installed;

/// What deletes expired sessions, and those it is to look through.
struct Cleaner {
    name: String,
    command: Command,
    crowd: Crowd,
}

pub(crate) fn clean_ups(settings: &Settings, installed: &[Installed]) -> Outcome<Section> {
    let expired = settings.sessions / 10;
    let live = settings.sessions - expired;
    let mut cleaners = cleaners(installed)?;
    let names: Vec<String> = cleaners.iter().map(|one| one.name.clone()).collect();
    for cleaner in &cleaners {
        eprintln!("making sessions for {}", cleaner.name);
        cleaner.crowd.add_live(live)?;
    }
    let samples = in_turns(cleaners.len(), settings.rounds, |at| {
        let cleaner = &mut cleaners[at];
        cleaner.crowd.add_expired(expired)?;
        cleaner.run(live, expired)
    })?;
    let title = format!(
        "Clean-up of {} sessions, {expired} of them expired",
        settings.sessions
    );
    let columns = [
        ("program", PROGRAM),
        ("seconds (quartiles)", FIGURE),
        ("its time to ours", RATIO),
    ];
    let chart = ("peers-cleanup", format!("{title}: seconds"));
    Ok(Contest::new(&names, samples, Better::Less, 3).section(&title, &columns, chart))
}

fn cleaners(installed: &[Installed]) -> Outcome<Vec<Cleaner>> {
    let mut cleaners = Vec::new();
    for peer in installed {
        let Some((program, arguments)) = &peer.clean_up else {
            continue;
        };
        let crowd = Crowd::of(peer)?;
        let mut command = Command::new(program);
        command.args(arguments);
        server::sessions_in(&mut command, crowd.directory(), 60);
        cleaners.push(Cleaner {
            name: peer.peer.name().to_owned(),
            command,
            crowd,
        });
        if peer.peer == Peer::Ours {
            let crowd = Crowd::of(peer)?;
            let mut find = Command::new("find");
            find.arg(crowd.directory());
            find.args(["-name", "*.json", "-mmin", "+60", "-delete"]);
            cleaners.push(Cleaner {
                name: "find -delete, without locks, on the same".to_owned(),
                command: find,
                crowd,
            });
        }
    }
    Ok(cleaners)
}

impl Cleaner {
    /// Deletes the expired; all of them must be there before, and none but them gone afterwards.
    fn run(&mut self, live: usize, expired: usize) -> Outcome<Sample> {
        self.expect(expired, live + expired)?;
        let name = &self.name;
        // Nobody pays for what was written before.
        rustix::fs::sync();
        let started = Instant::now();
        let command = self.command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status()?;
        let took = started.elapsed();
        if !status.success() {
            return Err(format!("the clean-up of {name} fails").into());
        }
        self.expect(0, live)?;
        Ok(Sample {
            figure: took.as_secs_f64(),
            beside: 0.0,
            wrong: 0,
        })
    }

    fn expect(&self, expired: usize, all: usize) -> Outcome<()> {
        let (name, found) = (&self.name, self.crowd.census()?);
        if found == (expired, all) {
            return Ok(());
        }
        let (left, there) = found;
        Err(format!("{name}: {left} expired of {there} sessions, not {expired} of {all}").into())
    }
}
