//! [`Worker`]: one process of a storm, which counts until it is killed or its time is over. The first
//! broken promise that it meets is its last line.

mod crowding;
mod reading;
mod sweeping;

use std::fmt::Display;

use testkit::prelude::*;

use super::content::{Content, SIZES};
use super::ground::{Entry, Field, Former, Ground};
use super::ledger::{Ledger, Operation};
use super::violation::{Kind, failed, shown};
use super::{Manner, Part, name_of};
use crate::process::Task;

/// A process that is not killed ends by itself after so long, or after its operations are done.
const MAX_LIFE: Duration = Duration::from_secs(2);
/// So long the session of a slot may be gone before another process begins another one there: the one that
/// ended it is about to.
const PATIENCE: Duration = Duration::from_millis(50);
/// The number of users who have sessions.
const USERS: u64 = 3;
/// The size of the sessions that never grow.
const BRIEF_SIZE: usize = 100;
/// The longest time, in milliseconds, for which an id that was replaced shows the session.
const MAX_GRACE: u64 = 3000;
/// Before an engine in trouble is asked again.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// What ends an operation before its time.
pub(super) enum Stop {
    Found(String),
    /// The store says that it cannot answer at the moment.
    Unavailable(String),
    Failed(io::Error),
}

type Step<T = ()> = Result<T, Stop>;

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error)
    }
}

/// One process of a storm.
pub(super) struct Worker {
    ground: Ground,
    number: u64,
    ledger: Ledger,
    rng: fastrand::Rng,
    /// As in [`Field::ALL`].
    managers: [SessionManager; 3],
    begun: u64,
    deadline: Instant,
    manner: Manner,
    /// The greatest number that this process has seen of each counter.
    seen: BTreeMap<u64, u64>,
}

impl Worker {
    pub(super) fn new(task: &Task, part: &Part) -> Step<Self> {
        let ground = Ground::new(&task.directory, &part.stores);
        let open = |field: Field| {
            let path = ground.field(field);
            let opened = field.of(&task.subject).open(&path);
            opened.map_err(|error| failed(path.display(), "to open the store", &error))
        };
        let [lasting, brief, crowded] = Field::ALL.map(open);
        Ok(Worker {
            ledger: Ledger::open(&ground.ledger(part.number))?,
            managers: [lasting?, brief?, crowded?],
            ground,
            number: part.number,
            rng: fastrand::Rng::with_seed(part.seed),
            begun: 0,
            deadline: Instant::now() + MAX_LIFE,
            manner: part.manner,
            seen: BTreeMap::new(),
        })
    }

    /// Does this again and again, so many times at most, until the time is over. Of an engine in trouble it
    /// accepts that it cannot answer.
    pub(super) fn repeat(&mut self, times: u64, operation: fn(&mut Self) -> Step) -> Step {
        for _ in 0..times {
            if Instant::now() >= self.deadline {
                break;
            }
            match operation(self) {
                Err(Stop::Unavailable(_)) if self.manner == Manner::Troubled => {
                    self.ledger.has_done(Operation::Refused, 0, 0)?;
                    thread::sleep(PAUSE);
                }
                done => done?,
            }
        }
        Ok(())
    }

    pub(super) fn count(&mut self) -> Step {
        match self.rng.u32(0..1024) {
            0..4 => self.destroy(),
            4..10 => self.renew(None),
            10..16 => {
                let grace = self.rng.u64(0..MAX_GRACE);
                self.renew(Some(Duration::from_millis(grace)))
            }
            16..20 => self.try_destroyed(),
            20..24 => self.try_replaced(),
            24..32 => self.create_expired(),
            32..160 => self.count_brief(),
            _ => self.count_lasting(),
        }
    }

    fn manager(&self, field: Field) -> &SessionManager {
        &self.managers[field as usize]
    }

    fn cookie(&self, id: &SessionId) -> String {
        let name = self.manager(Field::Lasting).config().cookie_name();
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
            let before = match self.manner {
                Manner::Careless => self.read(field, &entry.id)?,
                Manner::Strict | Manner::Troubled => None,
            };
            let opened = self.open_by_id(field, &entry.id)?;
            if let Some(session) = opened.filter(|session| !session.is_replaced()) {
                let content = self.seen_in(&session, &entry)?;
                return Ok(Some((slot, entry, session, before.unwrap_or(content))));
            }
            match &gone {
                Some((id, since)) if *id == entry.id => {
                    if field != Field::Lasting || since.elapsed() > PATIENCE {
                        self.begin(field, slot)?;
                        return Ok(None);
                    }
                    // The process that ended it is at work on the next one.
                    thread::sleep(Duration::from_millis(1));
                }
                _ => gone = Some((entry.id, Instant::now())),
            }
        }
    }

    fn open_by_id(&self, field: Field, id: &SessionId) -> Step<Option<Session>> {
        let opened = self.manager(field).existing(self.cookie(id));
        opened.map_err(|error| failed(shown(id), "to be opened", &error))
    }

    /// What a locked session holds: whole, of this counter, and not less than was seen before.
    fn seen_in(&mut self, session: &Session, entry: &Entry) -> Step<Content> {
        let content = whole(Content::of(session), entry)?;
        let seen = self.seen.entry(content.counter).or_default();
        if content.number < *seen && self.manner == Manner::Strict {
            let expected = format!("{seen} or more");
            return stop(Kind::Lost, &entry.id, expected, content.number);
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
        let (counter, number) = (next.counter, next.number);
        self.ledger.begins(Operation::Count, counter, number)?;
        save(&mut session, &entry.id)?;
        self.ledger.has_done(Operation::Count, counter, number)?;
        self.seen.insert(counter, number);
        if self.rng.u8(0..4) == 0 {
            self.is_stored(Field::Lasting, &entry.id, next)?;
        }
        drop(session);
        if self.rng.u8(0..4) == 0 {
            self.is_not_older(&entry, next)?;
        }
        Ok(())
    }

    /// Counts, and gives the session a new id, while the old one may still show it for this time.
    fn renew(&mut self, grace: Option<Duration>) -> Step {
        let Some((slot, entry, mut session, content)) = self.open(Field::Lasting)? else {
            return Ok(());
        };
        let next = content.next(self.size());
        put(&mut session, next, &entry.id)?;
        let (what, former) = match grace {
            None => (Operation::Regenerate, Former::Ended),
            Some(_) => (Operation::Replace, Former::Replaced),
        };
        let (counter, number) = (next.counter, next.number);
        self.ledger.begins(what, counter, number)?;
        match grace {
            None => session.regenerate_id(),
            Some(grace) => session.regenerate_id_with_grace(grace),
        }
        let begun = Instant::now();
        save(&mut session, &entry.id)?;
        if grace.is_none() {
            self.is_turned_away(&entry.id)?;
        }
        // First: who is killed in between has left no session unaccounted for.
        self.ground.note(former, &entry.id)?;
        self.ledger.has_done(what, counter, number)?;
        self.seen.insert(counter, number);
        let new = self.enter(Field::Lasting, &session, counter)?;
        self.ground
            .publish(Field::Lasting, slot, &new, self.number)?;
        self.is_stored(Field::Lasting, &new.id, next)?;
        match grace {
            None => self.is_gone(&entry.id),
            Some(grace) => self.is_shown(&entry.id, next, begun + grace),
        }
    }

    fn destroy(&mut self) -> Step {
        let Some((slot, entry, session, content)) = self.open(Field::Lasting)? else {
            return Ok(());
        };
        let (counter, number) = (content.counter, content.number);
        self.ledger.begins(Operation::Destroy, counter, number)?;
        let destroyed = session.destroy();
        destroyed.map_err(|error| failed(shown(&entry.id), "to be destroyed", &error))?;
        self.ledger.has_done(Operation::Destroy, counter, number)?;
        self.ground.note(Former::Ended, &entry.id)?;
        self.is_gone(&entry.id)?;
        self.begin(Field::Lasting, slot)
    }

    /// Begins a counter of its own, and lets a slot lead to it.
    fn begin(&mut self, field: Field, slot: usize) -> Step {
        let counter = self.next_counter();
        let size = match field {
            Field::Lasting => self.size(),
            Field::Brief | Field::Crowded => BRIEF_SIZE,
        };
        let new = |error: Error| failed("a new session", "to be stored", &error);
        let mut session = self.manager(field).start("").map_err(new)?;
        let content = Content::new(counter, size);
        content.put(&mut session).map_err(new)?;
        if field == Field::Lasting {
            session.set_user(Some(&user_of(counter))).map_err(new)?;
            self.ledger.begins(Operation::Begin, counter, 0)?;
        }
        session.save().map_err(new)?;
        if field == Field::Lasting {
            self.ledger.has_done(Operation::Begin, counter, 0)?;
        }
        let entry = self.enter(field, &session, counter)?;
        self.is_stored(field, &entry.id, content)?;
        Ok(self.ground.publish(field, slot, &entry, self.number)?)
    }

    fn next_counter(&mut self) -> u64 {
        self.begun += 1;
        (self.number << 20) | self.begun
    }

    /// The entry of a stored session. The ledger gets its name, if it gets its increments.
    fn enter(&mut self, field: Field, session: &Session, counter: u64) -> Step<Entry> {
        let id = id_of(session, counter)?;
        if field == Field::Lasting {
            let name = name_of(&id.digest());
            self.ledger.has_done(Operation::Name, counter, name)?;
        }
        Ok(Entry { counter, id })
    }

    /// Counts in a session that a clean-up with a clock far ahead deletes whenever it is not locked.
    fn count_brief(&mut self) -> Step {
        let Some((_, entry, mut session, content)) = self.open(Field::Brief)? else {
            return Ok(());
        };
        let next = content.next_alike();
        self.is_in_use(Field::Brief, &mut session, &entry.id, next)?;
        let (counter, number) = (next.counter, next.number);
        Ok(self.ledger.has_done(Operation::Brief, counter, number)?)
    }

    /// A session that is locked is there, and can be saved.
    fn is_in_use(
        &self,
        field: Field,
        session: &mut Session,
        id: &SessionId,
        next: Content,
    ) -> Step {
        put(session, next, id)?;
        if let Err(error) = session.save() {
            let (expected, found) = ("to be saved while it is locked", error.one_line());
            return match failed(shown(id), expected, &error) {
                Stop::Found(_) => stop(Kind::Deleted, id, expected, found),
                unavailable => Err(unavailable),
            };
        }
        self.is_stored(field, id, next)
    }
}

/// Each user has some of the sessions.
fn user_of(counter: u64) -> String {
    format!("user {}", counter % USERS)
}

fn id_of(session: &Session, counter: u64) -> Step<SessionId> {
    let id = session.id().cloned();
    id.ok_or_else(|| {
        let counter = format!("counter {counter:x}");
        Stop::Found(Kind::Lost.violation(counter, "an id", "none"))
    })
}

fn put(session: &mut Session, content: Content, id: &SessionId) -> Step {
    let put = content.put(session);
    put.map_err(|error| failed(shown(id), "to take values", &error))
}

fn save(session: &mut Session, id: &SessionId) -> Step {
    let saved = session.save();
    saved.map_err(|error| failed(shown(id), "to be saved", &error))
}

fn whole(content: Option<Content>, entry: &Entry) -> Step<Content> {
    let content = content.ok_or_else(|| torn(&entry.id))?;
    if content.counter == entry.counter {
        return Ok(content);
    }
    let [expected, found] = [entry.counter, content.counter].map(|it| format!("counter {it:x}"));
    stop(Kind::Torn, &entry.id, expected, found)
}

fn torn(id: &SessionId) -> Stop {
    Stop::Found(Kind::torn(shown(id)))
}

/// Ends with a violation.
fn stop<T>(kind: Kind, id: &SessionId, expected: impl Display, found: impl Display) -> Step<T> {
    Err(Stop::Found(kind.violation(shown(id), expected, found)))
}
