//! A store under test, the library's or a broken one, and what requests do with sessions in it: each
//! through the session manager, and where there is one, through the store's own door.
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cgi_session::{
    Config, FileStore, Lease, Record, Result, Session, SessionDigest, SessionId, SessionManager,
    Store, Stored, Sweep, SweepReport,
};

use crate::broken::{BrokenStore, Fault};

/// The name of the library's own store of files. Every other name is that of a fault, or [`ENGINE`].
pub const LIBRARY: &str = "library";
/// The same with a cap, where a newcomer sends away the least recently used.
pub const CAPPED: &str = "library with a cap";
/// The same with a directory for each of 256 parts of the sessions.
pub const SHARDED: &str = "library in shards";
/// The name of whatever store a configuration file names, which then takes the place of the directory.
pub const ENGINE: &str = "engine";

/// Longer than any test runs: nobody is told that a session is busy.
const WAIT: Duration = Duration::from_secs(600);
/// The idle time of all stores here.
const IDLE: Duration = Duration::from_secs(3600);
/// How many sessions there may be where there is a cap.
const CAP: u64 = 2;
/// How long a replaced id can be read under.
const GRACE: Duration = Duration::from_secs(120);
const NUMBER: &str = "n";
const PADDING: &str = "x";

/// A session's number, and what else is stored with it: it follows from the number, so that half a
/// record shows.
pub type Number = u64;

/// A live session, as one who looks after the store sees it.
pub struct Seen {
    pub session: SessionDigest,
    pub number: Number,
    pub user: Option<String>,
    /// It is among the sessions of its user, if it has one.
    pub is_listed: bool,
}

pub struct Subject {
    manager: SessionManager,
    store: Box<dyn Store>,
    /// Where a file for each session lies, if they lie in files.
    directory: Option<PathBuf>,
    is_sharded: bool,
    pause: Box<dyn Fn()>,
}

impl Subject {
    /// Opens a store. `pause` is called while a session is held.
    pub fn open(name: &str, directory: &Path, pause: impl Fn() + 'static) -> Self {
        if name == ENGINE {
            return Subject::of_engine(directory, pause);
        }
        let config = Config::new().set("storageFileDir", directory).unwrap();
        let config = config.set("lockTimeout", "600s").unwrap();
        let config = match name {
            CAPPED => config.set("maxSessions", CAP.to_string()).unwrap(),
            SHARDED => config.set("shards", "256").unwrap(),
            _ => config,
        };
        let broken = |fault| {
            let cap = (fault == Fault::EvictWithoutLock).then_some(CAP);
            BrokenStore::open(fault, directory).with_cap(cap)
        };
        let store: Box<dyn Store> = match Fault::parse(name) {
            Some(fault) => Box::new(broken(fault)),
            None => Box::new(FileStore::new(&config).unwrap()),
        };
        let manager = match Fault::parse(name) {
            Some(fault) => SessionManager::with_store(config, broken(fault)).unwrap(),
            None => SessionManager::new(config).unwrap(),
        };
        Subject {
            manager,
            store,
            directory: Some(directory.to_owned()),
            is_sharded: name == SHARDED,
            pause: Box::new(pause),
        }
    }

    fn of_engine(config: &Path, pause: impl Fn() + 'static) -> Self {
        let config = Config::load(config).unwrap();
        let store: Option<Box<dyn Store>> = match config.get("storageType").as_deref() {
            #[cfg(feature = "redis")]
            Some("redis") => Some(Box::new(cgi_session::RedisStore::new(&config).unwrap())),
            #[cfg(feature = "postgres")]
            Some("postgres") => Some(Box::new(cgi_session::PostgresStore::new(&config).unwrap())),
            #[cfg(feature = "mysql")]
            Some("mysql") => Some(Box::new(cgi_session::MysqlStore::new(&config).unwrap())),
            _ => None,
        };
        Subject {
            manager: SessionManager::new(config).unwrap(),
            store: store.expect("an engine that testkit is built with"),
            directory: None,
            is_sharded: false,
            pause: Box::new(pause),
        }
    }

    /// The session's file.
    pub fn path(&self, id: &SessionId) -> PathBuf {
        let directory = self.directory.as_ref().expect("a store of files");
        let digest = id.digest();
        let shard = if self.is_sharded {
            &digest.as_str()[..2]
        } else {
            ""
        };
        directory.join(shard).join(format!("{digest}.json"))
    }

    /// Makes the session with this number; `false` when its name is taken.
    pub fn create(&self, id: &SessionId, number: Number) -> Result<bool> {
        let record = Record::new(SystemTime::now()).with_values(values(number));
        let lease = self
            .store
            .create(&id.digest(), &record, SystemTime::now())?;
        Ok(lease.is_some())
    }

    /// Makes the session of a user.
    pub fn create_of(&self, id: &SessionId, number: Number, user: &str) -> Result<bool> {
        let record = Record::new(SystemTime::now()).with_values(values(number));
        let record = record.with_user(Some(user));
        let lease = self
            .store
            .create(&id.digest(), &record, SystemTime::now())?;
        Ok(lease.is_some())
    }

    /// Gives the session this number, and makes it when there is none. The number before.
    pub fn start(&self, id: &SessionId, number: Number) -> Result<Option<Number>> {
        let mut session = self.manager.start_with_id(id)?;
        let before = held(&session)?;
        self.change(&mut session, number)?;
        session.commit()?;
        Ok(before)
    }

    /// The same, and makes the session that of a user.
    pub fn start_of(&self, id: &SessionId, number: Number, user: &str) -> Result<Option<Number>> {
        let mut session = self.manager.start_with_id(id)?;
        let before = held(&session)?;
        session.set_user(Some(user))?;
        self.change(&mut session, number)?;
        session.commit()?;
        Ok(before)
    }

    pub fn read(&self, id: &SessionId) -> Result<Option<Number>> {
        let Some(snapshot) = self.manager.read(cookie(id))? else {
            return Ok(None);
        };
        let number = snapshot.require(NUMBER)?;
        check(number, &snapshot.require::<String>(PADDING)?);
        Ok(Some(number))
    }

    pub fn read_record(&self, id: &SessionId) -> Result<Option<Number>> {
        let stored = self.store.read(&id.digest(), SystemTime::now())?;
        let stored = stored.filter(|stored| !stored.record.is_marker());
        Ok(stored.map(|stored| number_of(&stored.record)))
    }

    /// Gives an existing session this number. The number before.
    pub fn save(&self, id: &SessionId, number: Number) -> Result<Option<Number>> {
        let Some(mut session) = self.manager.existing(cookie(id))? else {
            return Ok(None);
        };
        let before = held(&session)?;
        self.change(&mut session, number)?;
        session.commit()?;
        Ok(before)
    }

    pub fn save_record(&self, id: &SessionId, number: Number) -> Result<Option<Number>> {
        let Some((stored, mut lease)) = self.lock(id)? else {
            return Ok(None);
        };
        (self.pause)();
        let record = stored.record.with_values(values(number));
        lease.commit(&record, SystemTime::now())?;
        Ok(Some(number_of(&stored.record)))
    }

    pub fn destroy(&self, id: &SessionId) -> Result<Option<Number>> {
        let Some(session) = self.manager.existing(cookie(id))? else {
            return Ok(None);
        };
        let before = held(&session)?;
        (self.pause)();
        session.destroy()?;
        Ok(before)
    }

    pub fn destroy_record(&self, id: &SessionId) -> Result<Option<Number>> {
        let Some((stored, lease)) = self.lock(id)? else {
            return Ok(None);
        };
        (self.pause)();
        lease.destroy()?;
        Ok(Some(number_of(&stored.record)))
    }

    /// Gives the session this number and a new id. The number before, and the new id.
    pub fn renew(&self, id: &SessionId, number: Number) -> Result<Option<(Number, SessionId)>> {
        let Some(mut session) = self.manager.existing(cookie(id))? else {
            return Ok(None);
        };
        let before = held(&session)?;
        session.regenerate_id();
        self.change(&mut session, number)?;
        session.save()?;
        let id = session.id().cloned();
        Ok(before.zip(id))
    }

    /// The same, while the old id can still be read under. The number before.
    pub fn replace(&self, id: &SessionId, number: Number) -> Result<Option<Number>> {
        let Some(mut session) = self.manager.existing(cookie(id))? else {
            return Ok(None);
        };
        let before = held(&session)?;
        session.regenerate_id_with_grace(GRACE);
        self.change(&mut session, number)?;
        session.commit()?;
        Ok(before)
    }

    /// Whether the session goes on under another id.
    pub fn is_replaced(&self, id: &SessionId) -> Result<bool> {
        let snapshot = self.manager.read(cookie(id))?;
        Ok(snapshot.is_some_and(|snapshot| snapshot.is_replaced()))
    }

    /// Makes the session one that nobody has used for two hours.
    pub fn expire(&self, id: &SessionId) -> Result<Option<Number>> {
        let Some((stored, mut lease)) = self.lock(id)? else {
            return Ok(None);
        };
        (self.pause)();
        if self.directory.is_none() {
            // An engine believes what it is told of the time.
            lease.touch(SystemTime::now() - 2 * IDLE)?;
            return Ok(Some(number_of(&stored.record)));
        }
        let file = File::options().write(true).open(self.path(id));
        // One whose file is gone in spite of its lock has expired, too.
        if let Ok(file) = file {
            file.set_modified(SystemTime::now() - 2 * IDLE).unwrap();
        }
        drop(lease);
        Ok(Some(number_of(&stored.record)))
    }

    pub fn clean_up(&self) -> Result<SweepReport> {
        self.manager.delete_expired(&Sweep::new())
    }

    /// What a clean-up will do in two hours.
    pub fn clean_up_later(&self) -> Result<SweepReport> {
        let later = SystemTime::now() + 2 * IDLE;
        self.store.delete_expired(&Sweep::new(), later)
    }

    /// Makes the session that of a user. The number in it.
    pub fn log_in(&self, id: &SessionId, user: &str) -> Result<Option<Number>> {
        let Some(mut session) = self.manager.existing(cookie(id))? else {
            return Ok(None);
        };
        let number = held(&session)?;
        session.set_user(Some(user))?;
        session.commit()?;
        Ok(number)
    }

    pub fn log_out_everywhere(&self, user: &str) -> Result<u64> {
        self.manager.destroy_sessions_of(user, None)
    }

    /// Gives a session the id that is next, as a request does that has drawn this one.
    pub fn renew_as(&self, id: &SessionId, next: &SessionId, number: Number) -> Result<()> {
        let now = SystemTime::now();
        let (stored, mut lease) = self.lock(id)?.expect("a session");
        let record = stored.record.with_values(values(number));
        let record = record.succeeding(&id.digest(), now);
        drop(self.store.create(&next.digest(), &record, now)?);
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let end = seconds + 61;
        let marker = format!(
            r#"{{"v":1,"created":{seconds},"expires":{end},"replaced":"marker","values":{{}}}}"#
        );
        lease.finish(&Record::from_json(marker.into_bytes()).unwrap(), now)
    }

    /// Whether a change of id has left its marker here.
    pub fn is_marker(&self, session: &SessionDigest) -> Result<bool> {
        let stored = self.store.read(session, SystemTime::now())?;
        Ok(stored.is_some_and(|stored| stored.record.is_marker()))
    }

    /// Locks a session, past the manager. A marker is none.
    fn lock(&self, id: &SessionId) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let found = self.store.lock(&id.digest(), WAIT, SystemTime::now())?;
        Ok(found.filter(|(stored, _)| !stored.record.is_marker()))
    }

    /// All live sessions.
    pub fn all(&self) -> Result<Vec<Seen>> {
        let mut found = Vec::new();
        let mut visit = |session: &SessionDigest, stored: Result<Stored>| {
            found.push((*session, stored));
            ControlFlow::Continue(())
        };
        self.store.for_each(&mut visit, SystemTime::now())?;
        let all = found.into_iter().map(|(session, stored)| {
            let record = stored?.record;
            let user = record.user().map(str::to_owned);
            let is_listed = match &user {
                Some(user) => self
                    .store
                    .sessions_of(user, SystemTime::now())?
                    .contains(&session),
                None => true,
            };
            Ok(Seen {
                session,
                number: number_of(&record),
                user,
                is_listed,
            })
        });
        all.collect()
    }

    /// Destroys every session that is there.
    pub fn clear(&self) -> Result<()> {
        let now = SystemTime::now();
        let mut found = Vec::new();
        let mut visit = |session: &SessionDigest, _: Result<Stored>| {
            found.push(*session);
            ControlFlow::Continue(())
        };
        self.store.for_each(&mut visit, now)?;
        for session in found {
            if let Some((_, lease)) = self.store.lock(&session, WAIT, now)? {
                lease.destroy()?;
            }
        }
        Ok(())
    }

    fn change(&self, session: &mut Session, number: Number) -> Result<()> {
        (self.pause)();
        session.insert(PADDING, padding(number))?;
        session.insert(NUMBER, number)
    }
}

pub fn cookie(id: &SessionId) -> String {
    format!("sessionId={}", id.secret())
}

/// The number of an open session; `None` of one that begins.
fn held(session: &Session) -> Result<Option<Number>> {
    if session.is_new() {
        return Ok(None);
    }
    let number = session.require(NUMBER)?;
    check(number, &session.require::<String>(PADDING)?);
    Ok(Some(number))
}

fn values(number: Number) -> Vec<u8> {
    let padding = padding(number);
    format!(r#"{{"":{{"{NUMBER}":{number},"{PADDING}":"{padding}"}}}}"#).into_bytes()
}

fn number_of(record: &Record) -> Number {
    let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
    let number = values[""][NUMBER].as_u64().unwrap();
    check(number, values[""][PADDING].as_str().unwrap());
    number
}

/// Every third number needs a larger file than the others.
fn padding(number: Number) -> String {
    let length = if number % 3 == 2 { 3000 } else { 20 };
    number.to_string().chars().cycle().take(length).collect()
}

#[track_caller]
fn check(number: Number, found: &str) {
    assert!(found == padding(number), "half a record of {number}");
}
