//! `cgi-session-cleanup`, killed at any moment.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use testkit::tools::Site;

const SESSIONS: usize = 2000;
const KILLS: usize = 12;

/// A run that is killed when its test ends, however it ends.
struct Running(Child);

impl Running {
    fn start(site: &Site) -> Self {
        let mut command = site.cleanup_program();
        let command = command.arg("--storage-file-dir").arg(&site.directory);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// Lets it run until no more than `number` entries are left, or it has ended.
    fn until(&mut self, number: usize, site: &Site) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while site.names().len() > number && self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the clean-up does not get on");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn killed_anywhere_it_leaves_nothing_broken_and_the_next_run_finishes() {
    let site = Site::new();
    let live: Vec<_> = (0..50).map(|_| site.session()).collect();
    let expired = site.expired_sessions(SESSIONS);
    for kill in 1..=KILLS {
        let mut running = Running::start(&site);
        running.until(live.len() + SESSIONS - kill * SESSIONS / (KILLS + 1), &site);
        drop(running);
        for session in &live {
            assert!(site.read(session).is_some());
        }
    }
    site.cleanup(&[]).exits_with(0).says_nothing();
    assert!(site.names().is_disjoint(&expired));
    for session in &live {
        let views = site.read(session).unwrap().get::<u64>("pageViews").unwrap();
        assert_eq!(views, Some(7));
    }
}
