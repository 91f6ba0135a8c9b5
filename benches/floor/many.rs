//! Many sessions: creating them at a cap, cleaning them up, and one request among them.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, FileStore, Record, SessionId, Store as _, Sweep};
use rand::RngExt as _;
use tempfile::TempDir;

use crate::cgi::{self, Programs};
use crate::measure::{Outcome, Row, compare, timed};
use crate::place::Place;
use crate::save::{config, record};

const CAP: usize = 1000;
/// How old the sessions are that have expired, in minutes; those that have not are new.
const LONG_AGO: u32 = 600;

/// How many sessions live; a tenth as many are expired beside them.
fn sessions() -> Outcome<usize> {
    match env::var("FLOOR_SESSIONS") {
        Ok(number) => Ok(number.parse()?),
        Err(_) => Ok(100_000),
    }
}

pub(crate) fn creations(place: &Place) -> Outcome<Vec<Row>> {
    let mut free = Crowd::new(place, Ok)?;
    let mut capped = Crowd::new(place, |config| {
        Ok(config.set("maxSessions", CAP.to_string())?)
    })?;
    free.fill(CAP)?;
    capped.fill(CAP)?;
    let [floor, at_cap] = compare(
        60,
        [
            Box::new(|| {
                let before = free.ids.len();
                let took = timed(200, || free.create())?;
                free.delete_from(before)?;
                Ok(took)
            }),
            Box::new(|| timed(200, || capped.create())),
        ],
    )?;
    let what = "creation at a cap of 1,000, against creation without one";
    Ok(vec![Row::ratio(what, place, [&floor, &at_cap], Some(2.5))])
}

pub(crate) fn clean_ups(place: &Place) -> Outcome<Vec<Row>> {
    let live = sessions()?;
    let rounds = if live > 200_000 { 3 } else { 5 };
    let mut rows = Vec::new();
    for (shards, layout, target) in [("1", "flat", 1.1), ("256", "256 shards", 0.8)] {
        let mut crowd = Crowd::new(place, |config| Ok(config.set("shards", shards)?))?;
        crowd.fill(live - live / 10)?;
        let crowd = std::cell::RefCell::new(crowd);
        let [find, library] = compare(
            rounds,
            [
                Box::new(|| crowd.borrow_mut().clean_up(live / 10, find_and_delete)),
                Box::new(|| crowd.borrow_mut().clean_up(live / 10, delete_expired)),
            ],
        )?;
        let what = format!(
            "clean-up of {live} files, {} expired, {layout}, against `find -delete`",
            live / 10
        );
        rows.push(Row::ratio(what, place, [&find, &library], Some(target)));
    }
    Ok(rows)
}

pub(crate) fn growth(place: &Place) -> Outcome<Vec<Row>> {
    let (mut few, mut many) = (Crowd::new(place, Ok)?, Crowd::new(place, Ok)?);
    few.fill(1000)?;
    many.fill(sessions()?)?;
    let programs = Programs::build()?.ok_or(cgi::NOT_INSTALLED)?;
    let request = |crowd: &Crowd| {
        timed(10, || {
            cgi::count(&programs.counter, crowd.directory(), crowd.any())
        })
    };
    let [floor, measured] = compare(
        100,
        [Box::new(|| request(&few)), Box::new(|| request(&many))],
    )?;
    let live = many.ids.len();
    let what = format!("CGI request of any of {live} sessions, against any of 1,000");
    let whole = Row::ratio(what, place, [&floor, &measured], Some(1.05));
    let [floor, measured] = compare(
        60,
        [
            Box::new(|| timed(500, || few.save_any())),
            Box::new(|| timed(500, || many.save_any())),
        ],
    )?;
    let what = format!("save of any of {live} sessions, caches cold, against any of 1,000");
    Ok(vec![
        whole,
        Row::ratio(what, place, [&floor, &measured], None),
    ])
}

/// A store and all who are in it.
struct Crowd {
    home: TempDir,
    store: FileStore,
    record: Record,
    ids: Vec<SessionId>,
}

impl Crowd {
    fn new(place: &Place, settings: impl FnOnce(Config) -> Outcome<Config>) -> Outcome<Self> {
        let home = place.directory()?;
        let store = FileStore::new(&settings(config(home.path())?)?)?;
        Ok(Crowd {
            home,
            store,
            record: record(200, SystemTime::now()),
            ids: Vec::new(),
        })
    }

    fn directory(&self) -> &Path {
        self.home.path()
    }

    fn fill(&mut self, sessions: usize) -> Outcome<()> {
        for _ in 0..sessions {
            self.create()?;
        }
        Ok(())
    }

    fn create(&mut self) -> Outcome<()> {
        let id = SessionId::generate()?;
        self.store
            .create(&id.digest(), &self.record, SystemTime::now())?;
        self.ids.push(id);
        Ok(())
    }

    fn delete_from(&mut self, first: usize) -> Outcome<()> {
        for id in self.ids.drain(first..) {
            fs::remove_file(self.store.path(&id))?;
        }
        Ok(())
    }

    fn any(&self) -> &SessionId {
        &self.ids[rand::rng().random_range(..self.ids.len())]
    }

    fn save_any(&self) -> Outcome<()> {
        let now = SystemTime::now();
        let found = self
            .store
            .lock(&self.any().digest(), Duration::from_secs(10), now)?;
        let (stored, mut lease) = found.ok_or("a session is gone")?;
        Ok(lease.commit(&stored.record, now)?)
    }

    /// Lets so many more sessions expire and times how they are deleted.
    fn clean_up(
        &mut self,
        expired: usize,
        delete: fn(&FileStore) -> Outcome<()>,
    ) -> Outcome<Duration> {
        let live = self.ids.len();
        self.fill(expired)?;
        let long_ago = SystemTime::now() - Duration::from_secs(60 * u64::from(LONG_AGO));
        for id in &self.ids[live..] {
            fs::File::open(self.store.path(id))?.set_modified(long_ago)?;
        }
        let start = Instant::now();
        delete(&self.store)?;
        let took = start.elapsed();
        if self
            .ids
            .drain(live..)
            .any(|id| self.store.path(&id).exists())
        {
            return Err("a clean-up left an expired session".into());
        }
        Ok(took)
    }
}

fn delete_expired(store: &FileStore) -> Outcome<()> {
    store.delete_expired(&Sweep::new(), SystemTime::now())?;
    Ok(())
}

fn find_and_delete(store: &FileStore) -> Outcome<()> {
    let mut find = Command::new("find");
    find.arg(store.directory())
        .args(["-name", "*.json", "-mmin"]);
    find.arg(format!("+{}", LONG_AGO / 2)).arg("-delete");
    if !find.status()?.success() {
        return Err("find failed".into());
    }
    Ok(())
}
