//! Programs that count on sessions while they are copied, and copies that are killed at any moment.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cgi_session::{Error, SessionManager};

use crate::pair::{Pair, Visitor, all, pairs, visitor};

const WRITERS: usize = 3;
const SESSIONS: usize = 60;
const KILLS: usize = 25;
/// A run of the tool ends within so many microseconds, or not much later.
const LONGEST: u64 = 60_000;
/// On a slow machine many runs take long.
const DEADLINE: Duration = Duration::from_secs(300);

/// Visitors, and how often each was told that he was counted.
struct Crowd {
    visitors: Vec<(Visitor, AtomicU64)>,
    is_over: AtomicBool,
}

impl Crowd {
    fn new(manager: &SessionManager, number: usize) -> Self {
        let visitors = (0..number).map(|_| (visitor(manager), AtomicU64::new(0)));
        Crowd {
            visitors: visitors.collect(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Counts on sessions chosen at random until it is over: each where a program finds it.
    fn count_on(&self, managers: &[SessionManager]) {
        while !self.is_over.load(Ordering::Relaxed) {
            let (visitor, counted) = &self.visitors[fastrand::usize(..self.visitors.len())];
            let mut is_there = false;
            for manager in managers {
                match visitor.counts(manager) {
                    Ok(true) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        is_there = true;
                        break;
                    }
                    Ok(false) => {}
                    Err(error @ Error::Busy { .. }) => panic!("{}", error.one_line()),
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!(is_there, "the session of a visitor is nowhere");
        }
    }

    /// Every visitor's session holds what he was told.
    #[track_caller]
    fn are_all_counted(&self, manager: &SessionManager) {
        for (visitor, counted) in &self.visitors {
            let counted = counted.load(Ordering::Relaxed);
            assert_eq!(
                visitor.counted(manager),
                Some(counted),
                "{}",
                visitor.digest
            );
        }
        let total: u64 = self
            .visitors
            .iter()
            .map(|it| it.1.load(Ordering::Relaxed))
            .sum();
        assert!(total > 100, "only {total} were counted");
    }
}

/// Runs the tool, and kills it before it may have ended; tells whether it was.
fn run_and_kill(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + Duration::from_micros(fastrand::u64(..LONGEST));
    while Instant::now() < end && child.try_wait().unwrap().is_none() {
        thread::yield_now();
    }
    let is_killed = child.try_wait().unwrap().is_none();
    // It may just have ended.
    let _ = child.kill();
    child.wait().unwrap();
    is_killed
}

/// Ends the counting, also when a copy fails.
struct End<'a>(&'a Crowd);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Lets programs count wherever they find a session while `copies` runs.
fn while_they_count(pair: &Pair, crowd: &Crowd, places: &[&str], copies: impl FnOnce()) {
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let managers: Vec<_> = places.iter().map(|name| pair.manager(name)).collect();
                scope.spawn(move || crowd.count_on(&managers))
            })
            .collect();
        let end = End(crowd);
        copies();
        drop(end);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

fn kill_often(pair: &Pair, arguments: &[&str]) {
    let (mut killed, started) = (0, Instant::now());
    while killed < KILLS {
        assert!(started.elapsed() < DEADLINE, "only {killed} were killed");
        let mut command = pair.command("old", "new");
        command.args(arguments);
        killed += usize::from(run_and_kill(command));
    }
}

#[test]
fn what_is_counted_in_the_old_store_meanwhile_is_in_the_new_one_after_the_last_run() {
    for (old, new) in pairs() {
        let pair = Pair::new(old, new);
        let crowd = Crowd::new(&pair.old(), SESSIONS);
        while_they_count(&pair, &crowd, &["old"], || {
            kill_often(&pair, &[]);
            pair.copy(&[]).exits_with(0);
        });
        pair.copy(&[]).exits_with(0);
        crowd.are_all_counted(&pair.new_one());
        crowd.are_all_counted(&pair.old());
        assert_eq!(all(&pair.new_one()).len(), SESSIONS);
    }
}

#[test]
fn what_is_counted_in_both_stores_during_a_move_is_in_the_new_one_after_it() {
    for (old, new) in pairs() {
        let pair = Pair::new(old, new);
        let crowd = Crowd::new(&pair.old(), SESSIONS);
        while_they_count(&pair, &crowd, &["old", "new"], || {
            pair.copy(&[]).exits_with(0);
            kill_often(&pair, &["--move"]);
        });
        pair.copy(&["--move", "--delete-gone"]).exits_with(0);
        crowd.are_all_counted(&pair.new_one());
        assert!(all(&pair.old()).is_empty());
    }
}
