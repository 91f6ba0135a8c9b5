//! [`Ground`]: where a storm takes place, and what its processes leave there for each other.

use testkit::prelude::*;

use crate::subject::Subject;

/// Counters whose sessions live until a process destroys them.
const LASTING: usize = 4;
/// Counters whose sessions any clean-up may delete, except while they are locked.
const BRIEF: usize = 2;
/// The most sessions where there is a cap.
const CAP: u64 = 16;

/// A line of a list of ids.
const LINE: usize = SessionId::LENGTH + 1;

/// The directories and files of one storm. All ids in them end with it.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// What the processes tell each other and the storm.
    place: PathBuf,
    /// The directories of the stores.
    stores: PathBuf,
}

/// Which of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Nothing ends here but what a process ends.
    Lasting,
    /// A clean-up deletes whatever is not locked.
    Brief,
    /// There is a cap, and every new session evicts another.
    Crowded,
}

/// Why an id is not that of a session any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    /// No request may ever find a session under it again.
    Ended,
    /// For some time it still shows the session as it was.
    Replaced,
}

/// What is known of the session of a counter: enough for a client to use it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) counter: u64,
    pub(super) id: SessionId,
}

impl Field {
    pub(super) const ALL: [Field; 3] = [Field::Lasting, Field::Brief, Field::Crowded];

    pub(super) fn slots(self) -> usize {
        match self {
            Field::Lasting => LASTING,
            Field::Brief => BRIEF,
            Field::Crowded => 0,
        }
    }

    /// The subject as it is tried here.
    pub(super) fn of(self, subject: &Subject) -> Subject {
        let subject = subject.clone();
        match self.cap(&subject) {
            Some(cap) => subject
                .with("maxSessions", &cap.to_string())
                .with("whenFull", "evictOldest"),
            None => subject,
        }
    }

    /// How many sessions there may be, if the store counts them.
    pub(super) fn cap(self, subject: &Subject) -> Option<u64> {
        (self == Field::Crowded && subject.has_cap()).then_some(CAP)
    }

    fn name(self) -> &'static str {
        match self {
            Field::Lasting => "sessions",
            Field::Brief => "brief",
            Field::Crowded => "crowded",
        }
    }
}

impl Ground {
    pub(super) fn new(place: &Path, stores: &Path) -> Self {
        Ground {
            place: place.to_owned(),
            stores: stores.to_owned(),
        }
    }

    /// Creates what the processes need.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&self.stores)?;
        fs::create_dir(self.control())?;
        fs::create_dir(self.ledgers())?;
        let lists = [Former::Ended, Former::Replaced].map(|former| self.list(former));
        for path in lists.into_iter().chain([self.violations()]) {
            File::create_new(path)?;
        }
        Ok(())
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// The directory of a store.
    pub(super) fn field(&self, field: Field) -> PathBuf {
        self.stores.join(field.name())
    }

    /// The ledger of the process with this number.
    pub(super) fn ledger(&self, number: u64) -> PathBuf {
        self.ledgers().join(number.to_string())
    }

    /// What the processes write to stderr: nothing, when all is well.
    pub(super) fn violations(&self) -> PathBuf {
        self.control().join("violations")
    }

    /// The session that a slot has now; `None` before the first.
    pub(super) fn entry(&self, field: Field, slot: usize) -> io::Result<Option<Entry>> {
        let mut text = String::new();
        match File::open(self.slot(field, slot)) {
            Ok(mut file) => file.read_to_string(&mut text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Entry::parse(&text).map(Some).ok_or_else(|| {
            let path = self.slot(field, slot);
            io::Error::other(format!("{} holds {text:?}", path.display()))
        })
    }

    /// Says that a slot has another session; `number` is that of the process.
    pub(super) fn publish(
        &self,
        field: Field,
        slot: usize,
        entry: &Entry,
        number: u64,
    ) -> io::Result<()> {
        let new = self.control().join(format!("new-{number}"));
        let text = format!("{:016x} {}\n", entry.counter, entry.id.secret());
        fs::write(&new, text)?;
        fs::rename(new, self.slot(field, slot))
    }

    /// Notes an id that is not that of its session any more.
    pub(super) fn note(&self, former: Former, id: &SessionId) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.list(former))?;
        file.write_all(format!("{}\n", id.secret()).as_bytes())
    }

    /// One of these ids, drawn from the last `among`; `None` while there are none.
    pub(super) fn draw(
        &self,
        former: Former,
        rng: &mut fastrand::Rng,
        among: u64,
    ) -> io::Result<Option<SessionId>> {
        let file = File::open(self.list(former))?;
        let lines = file.metadata()?.len() / LINE as u64;
        if lines == 0 {
            return Ok(None);
        }
        let chosen = rng.u64(lines.saturating_sub(among)..lines);
        let mut text = [0; SessionId::LENGTH];
        file.read_exact_at(&mut text, chosen * LINE as u64)?;
        Ok(SessionId::parse(&text))
    }

    /// All of these ids.
    pub(super) fn all(&self, former: Former) -> io::Result<Vec<SessionId>> {
        let text = fs::read(self.list(former))?;
        let lines = text.chunks_exact(LINE);
        Ok(lines
            .filter_map(|line| SessionId::parse(line.get(..SessionId::LENGTH)?))
            .collect())
    }

    fn slot(&self, field: Field, slot: usize) -> PathBuf {
        self.control().join(format!("{}-{slot}", field.name()))
    }

    fn ledgers(&self) -> PathBuf {
        self.control().join("ledgers")
    }

    fn list(&self, former: Former) -> PathBuf {
        self.control().join(match former {
            Former::Ended => "ended",
            Former::Replaced => "replaced",
        })
    }

    fn control(&self) -> PathBuf {
        self.place.join("control")
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let (counter, id) = text.trim_end().split_once(' ')?;
        Some(Entry {
            counter: u64::from_str_radix(counter, 16).ok()?,
            id: SessionId::parse(id.as_bytes())?,
        })
    }
}
