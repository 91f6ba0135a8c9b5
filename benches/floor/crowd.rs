//! [`Crowd`]: a store and all who are in it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, FileStore, Record, SessionDigest, SessionId, Store as _};
use rand::RngExt as _;
use tempfile::TempDir;

use crate::measure::Outcome;
use crate::place::Place;

const WAIT: Duration = Duration::from_secs(10);
/// How old the sessions are that have expired, in minutes; those that have not are new.
pub(crate) const LONG_AGO: u32 = 600;

pub(crate) struct Crowd {
    home: TempDir,
    pub(crate) config: Config,
    pub(crate) store: FileStore,
    record: Record,
    pub(crate) ids: Vec<SessionId>,
}

impl Crowd {
    /// A store whose records have this size.
    pub(crate) fn new(place: &Place, size: usize, settings: &[(&str, &str)]) -> Outcome<Self> {
        let home = place.directory()?;
        let mut config = Config::new().set("storageFileDir", home.path())?;
        for (key, value) in settings {
            config = config.set(key, value)?;
        }
        Ok(Crowd {
            store: FileStore::new(&config)?,
            home,
            config,
            record: record(size, SystemTime::now()),
            ids: Vec::new(),
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn fill(&mut self, sessions: usize) -> Outcome<()> {
        (0..sessions).try_for_each(|_| self.create())
    }

    pub(crate) fn create(&mut self) -> Outcome<()> {
        let id = SessionId::generate()?;
        self.store
            .create(&id.digest(), &self.record, SystemTime::now())?;
        self.ids.push(id);
        Ok(())
    }

    pub(crate) fn delete_from(&mut self, first: usize) -> Outcome<()> {
        for id in self.ids.drain(first..) {
            fs::remove_file(self.store.path(&id))?;
        }
        Ok(())
    }

    pub(crate) fn any(&self) -> &SessionId {
        &self.ids[rand::rng().random_range(..self.ids.len())]
    }

    pub(crate) fn save_any(&self) -> Outcome<()> {
        self.save(&self.any().digest())
    }

    pub(crate) fn save(&self, session: &SessionDigest) -> Outcome<()> {
        let now = SystemTime::now();
        let found = self.store.lock(session, WAIT, now)?;
        let (stored, mut lease) = found.ok_or("a session is gone")?;
        Ok(lease.commit(&stored.record, now)?)
    }

    /// Lets so many more sessions expire and times how they are deleted.
    pub(crate) fn clean_up(
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
        let mut expired = self.ids.drain(live..);
        if expired.any(|id| self.store.path(&id).exists()) {
            return Err("a clean-up left an expired session".into());
        }
        Ok(took)
    }
}

/// A counter and one long text: a record of `size` bytes.
fn record(size: usize, now: SystemTime) -> Record {
    let with_text = |length| {
        let text = "x".repeat(length);
        let values = format!(r#"{{"":{{"pageViews":1000000,"text":"{text}"}}}}"#);
        Record::new(now).with_values(values.into_bytes())
    };
    let rest = with_text(0).to_json().len();
    with_text(size.saturating_sub(rest))
}
