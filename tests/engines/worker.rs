//! A program on one of the hosts: counts page views in sessions that all hosts share, and writes down
//! what became of each.

use std::env;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cgi_session::{Config, Error, Result, Session, SessionManager};
use rand::RngExt as _;

pub(crate) const CONFIG: &str = "ENGINES_CONFIG";
pub(crate) const LEDGER: &str = "ENGINES_LEDGER";
pub(crate) const COOKIES: &str = "ENGINES_COOKIES";
/// Set for a program that counts from what it read before it had the session, as it should not.
pub(crate) const CARELESS: &str = "ENGINES_CARELESS";
pub(crate) const VIEWS: &str = "pageViews";

/// What became of a page view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acknowledged,
    /// It failed before anything was to be stored.
    Refused,
    /// It failed when it was to be stored: it may have been.
    Unknown,
    /// It failed in a way that none should.
    Wrong,
}

/// The program: of no use when it runs as a test. It ends when it is killed.
#[test]
fn process() {
    let Some(config) = env::var_os(CONFIG) else {
        return;
    };
    let manager = SessionManager::new(Config::load(Path::new(&config)).unwrap()).unwrap();
    let ledger = File::options()
        .append(true)
        .open(env::var_os(LEDGER).unwrap());
    let mut ledger = ledger.unwrap();
    let cookies = env::var(COOKIES).unwrap();
    let cookies: Vec<&str> = cookies.split(' ').collect();
    let is_careless = env::var_os(CARELESS).is_some();
    loop {
        let number = rand::rng().random_range(0..cookies.len());
        let (fate, words) = view(&manager, cookies[number], is_careless);
        // One write, so that no line is mixed with another's.
        let line = format!("{number} {fate:?} {words}\n");
        ledger.write_all(line.as_bytes()).unwrap();
        if fate != Fate::Acknowledged {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn view(manager: &SessionManager, cookie: &str, is_careless: bool) -> (Fate, String) {
    let before = if is_careless {
        manager.read(cookie).ok().flatten()
    } else {
        None
    };
    let before = before.and_then(|snapshot| snapshot.require::<u64>(VIEWS).ok());
    let opened = manager.existing(cookie);
    let mut session = match opened {
        Ok(Some(session)) => session,
        Ok(None) => return (Fate::Wrong, "the session is gone".to_owned()),
        Err(error) => return failed(Fate::Refused, &error),
    };
    let counted = count(&mut session, before);
    match counted.and_then(|()| session.commit()) {
        Ok(_) => (Fate::Acknowledged, String::new()),
        // Nothing of it was stored, that much is promised.
        Err(error @ Error::LeaseLost) => failed(Fate::Refused, &error),
        Err(error) => failed(Fate::Unknown, &error),
    }
}

fn count(session: &mut Session, before: Option<u64>) -> Result<()> {
    let views = before.map_or_else(|| session.require(VIEWS), Ok)?;
    session.insert(VIEWS, views + 1)
}

/// Trouble is answered with 503, and nothing else.
fn failed(fate: Fate, error: &Error) -> (Fate, String) {
    let fate = if error.status() == 503 {
        fate
    } else {
        Fate::Wrong
    };
    (fate, error.one_line())
}
