//! [`Requests`]: what requests do with sessions that hold a number, each through the session manager, and some
//! straight through the store.

use cgi_session::{Result, Stored, SweepReport};
use testkit::prelude::*;

use crate::subject::{Subject, TIMEOUT};

/// Longer than any case runs: no request is told that a session is busy.
const WAIT: Duration = Duration::from_secs(600);
/// How long a replaced id can be read under.
const GRACE: Duration = Duration::from_secs(120);
const NUMBER: &str = "n";
const PADDING: &str = "x";

/// A session's number, and what else is stored with it: it follows from the number, so that half a
/// record shows.
pub(crate) type Number = u64;

/// A live session, as an administrator sees it.
pub(crate) struct Seen {
    pub(crate) session: SessionDigest,
    pub(crate) number: Number,
    pub(crate) user: Option<String>,
    /// It is among the sessions of its user, if it has one.
    pub(crate) is_listed: bool,
}

pub(crate) struct Requests {
    manager: SessionManager,
    /// Where a file for each session lies, if they lie in files.
    directory: Option<PathBuf>,
    is_sharded: bool,
    pause: Box<dyn Fn()>,
}

impl Requests {
    /// Opens a store. `pause` is called while a session is held.
    pub(crate) fn of(subject: &Subject, directory: &Path, pause: impl Fn() + 'static) -> Self {
        let subject = subject.clone().with("lockTimeout", "600s");
        Requests {
            manager: subject.open(directory).unwrap(),
            directory: subject.has_files().then(|| directory.to_owned()),
            is_sharded: subject.setting("shards").is_some(),
            pause: Box::new(pause),
        }
    }

    fn store(&self) -> &dyn Store {
        self.manager.store()
    }

    /// Creates the session with this number, of a user if there is one; `false` when its name is taken.
    pub(crate) fn create(
        &self,
        id: &SessionId,
        number: Number,
        user: Option<&str>,
    ) -> Result<bool> {
        let now = SystemTime::now();
        let record = Record::new(now).with_values(values(number));
        let lease = self.store();
        let lease = lease.create(&id.digest(), &record.with_user(user), now)?;
        Ok(lease.is_some())
    }

    /// Gives the session this number, and the user if there is one, and creates it when there is none. The
    /// number before.
    pub(crate) fn start(
        &self,
        id: &SessionId,
        number: Number,
        user: Option<&str>,
    ) -> Result<Option<Number>> {
        let mut session = self.manager.start_with_id(id)?;
        let before = held(&session)?;
        if user.is_some() {
            session.set_user(user)?;
        }
        self.change(&mut session, number)?;
        session.commit()?;
        Ok(before)
    }

    pub(crate) fn read(&self, id: &SessionId) -> Result<Option<Number>> {
        let Some(snapshot) = self.manager.read(cookie(id))? else {
            return Ok(None);
        };
        let number = snapshot.require(NUMBER)?;
        check(number, &snapshot.require::<String>(PADDING)?);
        Ok(Some(number))
    }

    pub(crate) fn read_record(&self, id: &SessionId) -> Result<Option<Number>> {
        let stored = self.store().read(&id.digest(), SystemTime::now())?;
        let stored = stored.filter(|stored| !stored.record.is_marker());
        Ok(stored.map(|stored| number_of(&stored.record)))
    }

    /// Does this with the session, if there is one. The number before.
    fn with_session(
        &self,
        id: &SessionId,
        act: impl FnOnce(Session) -> Result<()>,
    ) -> Result<Option<Number>> {
        let Some(session) = self.manager.existing(cookie(id))? else {
            return Ok(None);
        };
        let before = held(&session)?;
        act(session)?;
        Ok(before)
    }

    /// The same with the lock of a session, past the manager.
    fn with_lease(
        &self,
        id: &SessionId,
        act: impl FnOnce(&Record, Box<dyn Lease>) -> Result<()>,
    ) -> Result<Option<Number>> {
        let Some((stored, lease)) = self.lock(id)? else {
            return Ok(None);
        };
        (self.pause)();
        act(&stored.record, lease)?;
        Ok(Some(number_of(&stored.record)))
    }

    /// Gives an existing session this number. The number before.
    pub(crate) fn save(&self, id: &SessionId, number: Number) -> Result<Option<Number>> {
        self.with_session(id, |mut session| {
            self.change(&mut session, number)?;
            session.commit().map(drop)
        })
    }

    pub(crate) fn save_record(&self, id: &SessionId, number: Number) -> Result<Option<Number>> {
        self.with_lease(id, |record, mut lease| {
            let record = record.clone().with_values(values(number));
            lease.commit(&record, SystemTime::now())
        })
    }

    pub(crate) fn destroy(&self, id: &SessionId) -> Result<Option<Number>> {
        self.with_session(id, |session| {
            (self.pause)();
            session.destroy().map(drop)
        })
    }

    pub(crate) fn destroy_record(&self, id: &SessionId) -> Result<Option<Number>> {
        self.with_lease(id, |_, lease| lease.destroy())
    }

    /// Gives the session this number and a new id. The number before, and the new id.
    pub(crate) fn renew(
        &self,
        id: &SessionId,
        number: Number,
    ) -> Result<Option<(Number, SessionId)>> {
        let mut new = None;
        let before = self.with_session(id, |mut session| {
            session.regenerate_id();
            self.change(&mut session, number)?;
            session.save()?;
            new = session.id().cloned();
            Ok(())
        })?;
        Ok(before.zip(new))
    }

    /// The same, while the old id can still be read under. The number before.
    pub(crate) fn replace(&self, id: &SessionId, number: Number) -> Result<Option<Number>> {
        self.with_session(id, |mut session| {
            session.regenerate_id_with_grace(GRACE);
            self.change(&mut session, number)?;
            session.commit().map(drop)
        })
    }

    /// Whether the session goes on under another id.
    pub(crate) fn is_replaced(&self, id: &SessionId) -> Result<bool> {
        let snapshot = self.manager.read(cookie(id))?;
        Ok(snapshot.is_some_and(|snapshot| snapshot.is_replaced()))
    }

    /// Makes the session, which lies in a file, one that was last used so many seconds ago.
    pub(crate) fn age(&self, id: &SessionId, seconds: u64) {
        let file = File::options().write(true).open(self.path(id)).unwrap();
        let used = SystemTime::now() - Duration::from_secs(seconds);
        file.set_modified(used).unwrap();
    }

    /// Makes the session one that nobody has used for two hours.
    pub(crate) fn expire(&self, id: &SessionId) -> Result<Option<Number>> {
        self.with_lease(id, |_, mut lease| {
            let then = SystemTime::now() - 2 * TIMEOUT;
            if self.directory.is_none() {
                // An engine takes the time from its caller.
                return lease.touch(then);
            }
            // One whose file is gone in spite of its lock has expired, too.
            if let Ok(file) = File::options().write(true).open(self.path(id)) {
                file.set_modified(then).unwrap();
            }
            Ok(())
        })
    }

    pub(crate) fn clean_up(&self) -> Result<SweepReport> {
        self.manager.delete_expired(&Sweep::new())
    }

    /// What a clean-up will do in two hours.
    pub(crate) fn clean_up_later(&self) -> Result<SweepReport> {
        let later = SystemTime::now() + 2 * TIMEOUT;
        self.store().delete_expired(&Sweep::new(), later)
    }

    /// Makes the session that of a user. The number in it.
    pub(crate) fn log_in(&self, id: &SessionId, user: &str) -> Result<Option<Number>> {
        self.with_session(id, |mut session| {
            session.set_user(Some(user))?;
            session.commit().map(drop)
        })
    }

    pub(crate) fn log_out_everywhere(&self, user: &str) -> Result<u64> {
        self.manager.destroy_sessions_of(user, None)
    }

    /// Gives a session the id that is next, as a request does that has drawn this one.
    pub(crate) fn renew_as(&self, id: &SessionId, next: &SessionId, number: Number) -> Result<()> {
        let now = SystemTime::now();
        let (stored, mut lease) = self.lock(id)?.expect("a session");
        let record = stored.record.with_values(values(number));
        let record = record.succeeding(&id.digest(), now);
        drop(self.store().create(&next.digest(), &record, now)?);
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap().as_secs();
        let end = seconds + 61;
        let marker = format!(
            r#"{{"v":1,"created":{seconds},"expires":{end},"replaced":"marker","values":{{}}}}"#
        );
        lease.finish(&Record::from_json(marker.into_bytes()).unwrap(), now)
    }

    /// Whether a change of id has left its marker here.
    pub(crate) fn is_marker(&self, session: &SessionDigest) -> Result<bool> {
        let stored = self.store().read(session, SystemTime::now())?;
        Ok(stored.is_some_and(|stored| stored.record.is_marker()))
    }

    /// Locks a session, past the manager. A marker is none.
    fn lock(&self, id: &SessionId) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let found = self.store().lock(&id.digest(), WAIT, SystemTime::now())?;
        Ok(found.filter(|(stored, _)| !stored.record.is_marker()))
    }

    fn listed(&self) -> Result<Vec<(SessionDigest, Result<Stored>)>> {
        let mut found = Vec::new();
        let mut visit = |session: &SessionDigest, stored: Result<Stored>| {
            found.push((*session, stored));
            ControlFlow::Continue(())
        };
        self.store().for_each(&mut visit, SystemTime::now())?;
        Ok(found)
    }

    /// All live sessions.
    pub(crate) fn all(&self) -> Result<Vec<Seen>> {
        let all = self.listed()?.into_iter().map(|(session, stored)| {
            let record = stored?.record;
            let user = record.user().map(str::to_owned);
            let of_user = |user: &String| self.store().sessions_of(user, SystemTime::now());
            let of_user = user.as_ref().map(of_user).transpose()?;
            let is_listed = of_user.is_none_or(|sessions| sessions.contains(&session));
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
    pub(crate) fn clear(&self) -> Result<()> {
        for (session, _) in self.listed()? {
            let locked = self.store().lock(&session, WAIT, SystemTime::now())?;
            if let Some((_, lease)) = locked {
                lease.destroy()?;
            }
        }
        Ok(())
    }

    /// The session's file.
    fn path(&self, id: &SessionId) -> PathBuf {
        let directory = self.directory.as_ref().expect("a store of files");
        let digest = id.digest();
        let shard = self.is_sharded.then(|| &digest.as_str()[..2]);
        let directory = directory.join(shard.unwrap_or_default());
        directory.join(format!("{digest}.json"))
    }

    fn change(&self, session: &mut Session, number: Number) -> Result<()> {
        (self.pause)();
        session.insert(PADDING, padding(number))?;
        session.insert(NUMBER, number)
    }
}

pub(crate) fn cookie(id: &SessionId) -> String {
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
