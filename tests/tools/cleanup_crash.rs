//! `cgi-session-cleanup`, killed at any moment.

use testkit::prelude::*;
use testkit::tools::Site;

const SESSIONS: usize = 2000;
const KILLS: usize = 12;

/// Starts a run.
fn start(site: &Site) -> Killed {
    let mut command = site.cleanup_program();
    let command = command.arg("--storage-file-dir").arg(&site.directory);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    Killed(command.spawn().unwrap())
}

#[test]
fn killed_anywhere_it_leaves_nothing_broken_and_the_next_run_finishes() {
    let site = Site::new();
    let live: Vec<_> = (0..50).map(|_| site.session()).collect();
    let expired = site.expired_sessions(SESSIONS);
    for kill in 1..=KILLS {
        let mut running = start(&site);
        let number = live.len() + SESSIONS - kill * SESSIONS / (KILLS + 1);
        wait_until("no more than this number is left, or it has ended", || {
            site.names().len() <= number || running.0.try_wait().unwrap().is_some()
        });
        drop(running);
        for session in &live {
            assert!(site.read(session).is_some());
        }
    }
    site.cleanup("").exits_with(0).says_nothing();
    assert!(site.names().is_disjoint(&expired));
    for session in &live {
        let views = site.read(session).unwrap().get::<u64>("pageViews").unwrap();
        assert_eq!(views, Some(7));
    }
}
