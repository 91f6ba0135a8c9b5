//! [`Worker`]: one process of a storm, which counts until it is killed or its time is over. The first
//! broken promise that it meets is its last line.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cgi_session::{Error, Record, Session, SessionId, Sweep};

use super::content::{Content, EXPIRED, SIZES};
use super::ground::{Entry, Field, Ground, shown};
use super::ledger::{Deed, Ledger};
use super::violation::{Kind, Violation};
use super::{Opened, Subject, TIMEOUT, name_of};

/// A process that nobody kills ends by itself after so long, or after its deeds are done.
const LONGEST_LIFE: Duration = Duration::from_secs(2);
/// So long the session of a slot may be gone before somebody begins another one there: whoever
/// ended it is about to.
const PATIENCE: Duration = Duration::from_millis(50);
/// So large are the sessions that never grow.
const BRIEF_SIZE: usize = 100;
/// Longer ago than any clean-up waits after a session's end.
const OVERDUE: Duration = Duration::from_secs(180);

/// What ends a process of a storm before its time.
pub(super) enum Stop {
    Found(Violation),
    Failed(io::Error),
}

type Step<T = ()> = Result<T, Stop>;

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error)
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Stop::Found(violation)
    }
}

/// One process of a storm.
pub(super) struct Worker {
    ground: Ground,
    number: u64,
    ledger: Ledger,
    rng: fastrand::Rng,
    lasting: Opened,
    brief: Opened,
    begun: u64,
    deadline: Instant,
    /// The greatest number that this process has seen of each counter.
    seen: BTreeMap<u64, u64>,
}

impl Worker {
    pub(super) fn new(ground: Ground, number: u64, seed: u64, subject: &dyn Subject) -> Step<Self> {
        let open = |field| {
            let path = ground.field(field);
            let opened = subject.open(&path);
            opened.map_err(|error| failed(path.display(), "to open the store", &error))
        };
        Ok(Worker {
            ledger: Ledger::open(&ground.ledger(number))?,
            lasting: open(Field::Lasting)?,
            brief: open(Field::Brief)?,
            ground,
            number,
            rng: fastrand::Rng::with_seed(seed),
            begun: 0,
            deadline: Instant::now() + LONGEST_LIFE,
            seen: BTreeMap::new(),
        })
    }

    /// Does so many deeds.
    pub(super) fn count(&mut self, deeds: u64) -> Step {
        for _ in 0..deeds {
            if Instant::now() >= self.deadline {
                break;
            }
            match self.rng.u32(0..1024) {
                0..4 => self.destroy()?,
                4..16 => self.regenerate()?,
                16..24 => self.visit_grave()?,
                24..32 => self.make_expired()?,
                32..160 => self.count_brief()?,
                _ => self.count_lasting()?,
            }
        }
        Ok(())
    }

    fn opened(&self, field: Field) -> &Opened {
        match field {
            Field::Lasting => &self.lasting,
            Field::Brief => &self.brief,
        }
    }

    fn cookie(&self, id: &SessionId) -> String {
        let name = self.lasting.manager.config().cookie_name();
        format!("{name}={}", id.secret())
    }

    fn size(&mut self) -> usize {
        // As many small ones as large ones.
        let top = SIZES.start << self.rng.u32(1..9);
        self.rng.usize(SIZES.start..top.min(SIZES.end))
    }

    /// Opens the session that a slot has, where there is one.
    fn open(&mut self, field: Field) -> Step<Option<(usize, Entry, Session, Content)>> {
        let slot = self.rng.usize(0..field.slots());
        let mut gone: Option<(SessionId, Instant)> = None;
        loop {
            let Some(entry) = self.ground.entry(field, slot)? else {
                self.begin(field, slot)?;
                return Ok(None);
            };
            if let Some(session) = self.open_by_id(field, &entry.id)? {
                let content = self.seen_in(&session, &entry)?;
                return Ok(Some((slot, entry, session, content)));
            }
            match &gone {
                Some((id, since)) if *id == entry.id => {
                    if field == Field::Brief || since.elapsed() > PATIENCE {
                        self.begin(field, slot)?;
                        return Ok(None);
                    }
                    // Whoever ended it is at work on the next one.
                    thread::sleep(Duration::from_millis(1));
                }
                _ => gone = Some((entry.id, Instant::now())),
            }
        }
    }

    fn open_by_id(&self, field: Field, id: &SessionId) -> Step<Option<Session>> {
        let opened = self.opened(field).manager.existing(self.cookie(id));
        Ok(opened.map_err(|error| failed(shown(id), "to be opened", &error))?)
    }

    /// What a locked session holds: whole, of this counter, and not less than was seen before.
    fn seen_in(&mut self, session: &Session, entry: &Entry) -> Step<Content> {
        let content = whole(Content::of(session), entry)?;
        let seen = self.seen.entry(content.counter).or_default();
        if content.number < *seen {
            let expected = format!("{seen} or more");
            let violation = Violation::new(Kind::Lost, shown(&entry.id), expected, content.number);
            return Err(violation.into());
        }
        *seen = content.number;
        Ok(content)
    }

    fn count_lasting(&mut self) -> Step {
        let Some((_, entry, mut session, content)) = self.open(Field::Lasting)? else {
            return Ok(());
        };
        let next = content.next(self.size());
        put(&mut session, next, &entry.id)?;
        self.ledger.begins(Deed::Count, next.counter, next.number)?;
        save(&mut session, &entry.id)?;
        self.ledger
            .has_done(Deed::Count, next.counter, next.number)?;
        self.seen.insert(next.counter, next.number);
        if self.rng.u8(0..4) == 0 {
            self.is_stored(Field::Lasting, &entry.id, next)?;
        }
        drop(session);
        if self.rng.u8(0..4) == 0 {
            self.is_not_older(&entry, next)?;
        }
        Ok(())
    }

    fn regenerate(&mut self) -> Step {
        let Some((slot, entry, mut session, content)) = self.open(Field::Lasting)? else {
            return Ok(());
        };
        let next = content.next(self.size());
        put(&mut session, next, &entry.id)?;
        self.ledger
            .begins(Deed::Regenerate, next.counter, next.number)?;
        session.regenerate_id();
        save(&mut session, &entry.id)?;
        self.ledger
            .has_done(Deed::Regenerate, next.counter, next.number)?;
        self.seen.insert(next.counter, next.number);
        self.ground.bury(&entry.id)?;
        let new = self.enter(&session, next.counter)?;
        self.ground
            .publish(Field::Lasting, slot, &new, self.number)?;
        self.is_stored(Field::Lasting, &new.id, next)?;
        self.is_gone(&entry.id)
    }

    fn destroy(&mut self) -> Step {
        let Some((slot, entry, session, content)) = self.open(Field::Lasting)? else {
            return Ok(());
        };
        let Content {
            counter, number, ..
        } = content;
        self.ledger.begins(Deed::Destroy, counter, number)?;
        let destroyed = session.destroy();
        destroyed.map_err(|error| failed(shown(&entry.id), "to be destroyed", &error))?;
        self.ledger.has_done(Deed::Destroy, counter, number)?;
        self.ground.bury(&entry.id)?;
        self.is_gone(&entry.id)?;
        self.begin(Field::Lasting, slot)
    }

    /// Begins a counter of its own, and lets a slot lead to it.
    fn begin(&mut self, field: Field, slot: usize) -> Step {
        self.begun += 1;
        let counter = (self.number << 20) | self.begun;
        let size = match field {
            Field::Lasting => self.size(),
            Field::Brief => BRIEF_SIZE,
        };
        let new = |error: Error| failed("a new session", "to be stored", &error);
        let mut session = self.opened(field).manager.start("").map_err(new)?;
        let content = Content::new(counter, size);
        content.put(&mut session).map_err(new)?;
        if field == Field::Lasting {
            self.ledger.begins(Deed::Begin, counter, 0)?;
        }
        session.save().map_err(new)?;
        if field == Field::Lasting {
            self.ledger.has_done(Deed::Begin, counter, 0)?;
        }
        let entry = self.enter(&session, counter)?;
        self.is_stored(field, &entry.id, content)?;
        Ok(self.ground.publish(field, slot, &entry, self.number)?)
    }

    /// The entry of a stored session, whose name the ledger gets.
    fn enter(&mut self, session: &Session, counter: u64) -> Step<Entry> {
        let Some(id) = session.id().cloned() else {
            let counter = format!("counter {counter:x}");
            return Err(Violation::new(Kind::Lost, counter, "an id", "none").into());
        };
        self.ledger
            .has_done(Deed::Name, counter, name_of(&id.digest()))?;
        Ok(Entry { counter, id })
    }

    /// Counts in a session that a clean-up with a clock far ahead deletes whenever it is not locked.
    fn count_brief(&mut self) -> Step {
        let Some((_, entry, mut session, content)) = self.open(Field::Brief)? else {
            return Ok(());
        };
        let next = content.next_alike();
        put(&mut session, next, &entry.id)?;
        if let Err(error) = session.save() {
            let found = error.one_line();
            let violation = Violation::new(
                Kind::Deleted,
                shown(&entry.id),
                "to be saved while it is locked",
                found,
            );
            return Err(violation.into());
        }
        self.is_stored(Field::Brief, &entry.id, next)?;
        Ok(self
            .ledger
            .has_done(Deed::Brief, next.counter, next.number)?)
    }

    /// What was saved is what a reader sees, as long as the session is locked.
    fn is_stored(&self, field: Field, id: &SessionId, content: Content) -> Step {
        let found = self.read(field, id)?;
        if found == Some(content) {
            return Ok(());
        }
        let kind = match found {
            None => Kind::Deleted,
            Some(found) if found.number < content.number => Kind::Stale,
            Some(_) => Kind::Doubled,
        };
        let expected = format!("{content:?} while it is locked");
        let found = found.map_or("no session".to_owned(), |found| format!("{found:?}"));
        Err(Violation::new(kind, shown(id), expected, found).into())
    }

    /// What was acknowledged is what a reader sees, or something newer.
    fn is_not_older(&self, entry: &Entry, content: Content) -> Step {
        match self.read(Field::Lasting, &entry.id)? {
            Some(found) if found.number < content.number => {
                let expected = format!("{} or more", content.number);
                Err(Violation::new(Kind::Stale, shown(&entry.id), expected, found.number).into())
            }
            _ => Ok(()),
        }
    }

    fn is_gone(&self, id: &SessionId) -> Step {
        match self.read(Field::Lasting, id)? {
            None => Ok(()),
            Some(found) => Err(risen(id, found.number).into()),
        }
    }

    fn read(&self, field: Field, id: &SessionId) -> Step<Option<Content>> {
        let read = self.opened(field).manager.read(self.cookie(id));
        let read = read.map_err(|error| failed(shown(id), "to be read", &error))?;
        let Some(snapshot) = read else {
            return Ok(None);
        };
        let content = Content::of(&snapshot).ok_or_else(|| torn(id))?;
        Ok(Some(content))
    }

    /// A session that was destroyed, or has another id, is not found by its old id either.
    fn visit_grave(&mut self) -> Step {
        let Some(id) = self.ground.grave(&mut self.rng, 20)? else {
            return Ok(());
        };
        match self.open_by_id(Field::Lasting, &id)? {
            None => Ok(()),
            Some(session) => {
                let number = Content::of(&session).map_or(0, |content| content.number);
                Err(risen(&id, number).into())
            }
        }
    }

    /// Stores a session that ended long ago, for the clean-up.
    fn make_expired(&mut self) -> Step {
        let failed = |error: Error| failed("an expired session", "to be stored", &error);
        let now = SystemTime::now();
        let created = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = created.saturating_sub(OVERDUE).as_secs();
        let text = format!(
            r#"{{"v":1,"created":{},"expires":{expires},"values":{EXPIRED}}}"#,
            created.saturating_sub(TIMEOUT + 2 * OVERDUE).as_secs()
        );
        let record = Record::from_json(text.into_bytes());
        let Ok(record) = record else {
            return Ok(());
        };
        let digest = SessionId::generate().map_err(failed)?.digest();
        let lease = self.lasting.store.create(&digest, &record, now);
        if let Some(mut lease) = lease.map_err(failed)? {
            // For a store that goes by the last use alone.
            lease.touch(now - TIMEOUT - OVERDUE).map_err(failed)?;
        }
        Ok(())
    }

    /// Reads without a lock: numbers never go back, records are whole, and the dead stay away.
    pub(super) fn read_on(&mut self) -> Step {
        while Instant::now() < self.deadline {
            for _ in 0..64 {
                let field = if self.rng.bool() {
                    Field::Lasting
                } else {
                    Field::Brief
                };
                let slot = self.rng.usize(0..field.slots());
                if let Some(entry) = self.ground.entry(field, slot)? {
                    self.read_forward(field, &entry)?;
                }
            }
            self.ledger.has_done(Deed::Read, 0, 64)?;
            if let Some(id) = self.ground.grave(&mut self.rng, u64::MAX)? {
                self.is_gone(&id)?;
            }
        }
        Ok(())
    }

    fn read_forward(&mut self, field: Field, entry: &Entry) -> Step {
        let Some(content) = self.read(field, &entry.id)? else {
            return Ok(());
        };
        let seen = self.seen.entry(content.counter).or_default();
        if content.number < *seen {
            let expected = format!("{seen} or more");
            return Err(
                Violation::new(Kind::Stale, shown(&entry.id), expected, content.number).into(),
            );
        }
        *seen = content.number;
        Ok(())
    }

    /// Cleans up again and again: one store by the time that it is, the other by a clock so far ahead
    /// that every session there has expired which nobody holds.
    pub(super) fn sweep_on(&mut self, field: Field) -> Step {
        while Instant::now() < self.deadline {
            let now = SystemTime::now();
            let now = match field {
                Field::Lasting => now,
                Field::Brief => now + TIMEOUT + OVERDUE,
            };
            let swept = self.opened(field).store.delete_expired(&Sweep::new(), now);
            let swept = swept.map_err(|error| failed("a clean-up", "to end", &error))?;
            if let Some(failure) = swept.failures.first() {
                return Err(
                    Violation::new(Kind::Failed, "a clean-up", "no failure", failure).into(),
                );
            }
            if field == Field::Lasting {
                self.ledger.has_done(Deed::Sweep, 0, swept.deleted)?;
            }
            // It must not take the processors from those whom it is to disturb.
            thread::sleep(Duration::from_micros(self.rng.u64(0..4000)));
        }
        Ok(())
    }
}

fn put(session: &mut Session, content: Content, id: &SessionId) -> Step {
    let put = content.put(session);
    Ok(put.map_err(|error| failed(shown(id), "to take values", &error))?)
}

fn save(session: &mut Session, id: &SessionId) -> Step {
    let saved = session.save();
    Ok(saved.map_err(|error| failed(shown(id), "to be saved", &error))?)
}

fn whole(content: Option<Content>, entry: &Entry) -> Result<Content, Violation> {
    let content = content.ok_or_else(|| torn(&entry.id))?;
    if content.counter == entry.counter {
        return Ok(content);
    }
    let [expected, found] = [entry.counter, content.counter].map(|it| format!("counter {it:x}"));
    Err(Violation::new(
        Kind::Torn,
        shown(&entry.id),
        expected,
        found,
    ))
}

fn torn(id: &SessionId) -> Violation {
    let found = "parts of two, or of one";
    Violation::new(Kind::Torn, shown(id), "a record of one process", found)
}

fn risen(id: &SessionId, number: u64) -> Violation {
    let expected = "none after it was destroyed or got another id";
    Violation::new(Kind::Resurrected, shown(id), expected, number)
}

fn failed(subject: impl std::fmt::Display, expected: &str, error: &Error) -> Violation {
    Violation::new(Kind::Failed, subject, expected, error.one_line())
}
