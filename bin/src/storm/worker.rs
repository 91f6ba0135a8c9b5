//! [`Worker`]: one process of a storm, which counts until it is killed or its time is over. The first
//! broken promise that it meets is its last line.

mod reading;
mod sweeping;

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use cgi_session::{Error, Session, SessionId, SessionManager};

use super::content::{Content, SIZES};
use super::ground::{Entry, Field, Ground, shown};
use super::ledger::{Deed, Ledger};
use super::violation::{Kind, Violation};
use super::{Subject, name_of};

/// A process that nobody kills ends by itself after so long, or after its deeds are done.
const LONGEST_LIFE: Duration = Duration::from_secs(2);
/// So long the session of a slot may be gone before somebody begins another one there: whoever
/// ended it is about to.
const PATIENCE: Duration = Duration::from_millis(50);
/// So many users have sessions.
const USERS: u64 = 3;
/// So large are the sessions that never grow.
const BRIEF_SIZE: usize = 100;

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
    lasting: SessionManager,
    brief: SessionManager,
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

    fn manager(&self, field: Field) -> &SessionManager {
        match field {
            Field::Lasting => &self.lasting,
            Field::Brief => &self.brief,
        }
    }

    fn cookie(&self, id: &SessionId) -> String {
        let name = self.lasting.config().cookie_name();
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
        let opened = self.manager(field).existing(self.cookie(id));
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
        let new = self.enter(Field::Lasting, &session, next.counter)?;
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
        let mut session = self.manager(field).start("").map_err(new)?;
        let content = Content::new(counter, size);
        content.put(&mut session).map_err(new)?;
        if field == Field::Lasting {
            session.set_user(Some(&user_of(counter))).map_err(new)?;
            self.ledger.begins(Deed::Begin, counter, 0)?;
        }
        session.save().map_err(new)?;
        if field == Field::Lasting {
            self.ledger.has_done(Deed::Begin, counter, 0)?;
        }
        let entry = self.enter(field, &session, counter)?;
        self.is_stored(field, &entry.id, content)?;
        Ok(self.ground.publish(field, slot, &entry, self.number)?)
    }

    /// The entry of a stored session. The ledger gets its name, if it gets its increments.
    fn enter(&mut self, field: Field, session: &Session, counter: u64) -> Step<Entry> {
        let Some(id) = session.id().cloned() else {
            let counter = format!("counter {counter:x}");
            return Err(Violation::new(Kind::Lost, counter, "an id", "none").into());
        };
        if field == Field::Lasting {
            let name = name_of(&id.digest());
            self.ledger.has_done(Deed::Name, counter, name)?;
        }
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
}

/// Whose session a counter's is: each has some, and one person more than one.
fn user_of(counter: u64) -> String {
    format!("user {}", counter % USERS)
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

fn failed(subject: impl std::fmt::Display, expected: &str, error: &Error) -> Violation {
    Violation::new(Kind::Failed, subject, expected, error.one_line())
}
