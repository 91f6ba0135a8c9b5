//! [`Ground`]: where a storm takes place, and what its processes leave there for each other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cgi_session::SessionId;

/// Counters whose sessions live until somebody destroys them.
pub(super) const LASTING: usize = 4;
/// Counters whose sessions any clean-up may end, except while they are locked.
pub(super) const BRIEF: usize = 2;

const GRAVE: usize = SessionId::LENGTH + 1;

/// The directories and files of one storm. All ids in them end with it.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    place: PathBuf,
}

/// Which of the two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Lasting,
    Brief,
}

/// What is known of the session of a counter: enough for a client to use it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) counter: u64,
    pub(super) id: SessionId,
}

impl Field {
    pub(super) fn slots(self) -> usize {
        match self {
            Field::Lasting => LASTING,
            Field::Brief => BRIEF,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Field::Lasting => "sessions",
            Field::Brief => "brief",
        }
    }
}

impl Ground {
    pub(super) fn at(place: &Path) -> Self {
        Ground {
            place: place.to_owned(),
        }
    }

    /// Makes what the processes need.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir(self.control())?;
        fs::create_dir(self.ledgers())?;
        for path in [self.graves(), self.violations()] {
            File::create_new(path)?;
        }
        Ok(())
    }

    /// The directory of a store.
    pub(super) fn field(&self, field: Field) -> PathBuf {
        self.place.join(field.name())
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

    /// Tells everybody that a slot has another session; `number` is that of the process.
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

    /// Notes an id that nobody may ever find a session under again.
    pub(super) fn bury(&self, id: &SessionId) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.graves())?;
        file.write_all(format!("{}\n", id.secret()).as_bytes())
    }

    /// One of the buried ids, drawn from the last `among`; `None` while there are none.
    pub(super) fn grave(
        &self,
        rng: &mut fastrand::Rng,
        among: u64,
    ) -> io::Result<Option<SessionId>> {
        let file = File::open(self.graves())?;
        let graves = file.metadata()?.len() / GRAVE as u64;
        if graves == 0 {
            return Ok(None);
        }
        let chosen = rng.u64(graves.saturating_sub(among)..graves);
        let mut text = [0; SessionId::LENGTH];
        file.read_exact_at(&mut text, chosen * GRAVE as u64)?;
        Ok(SessionId::parse(&text))
    }

    /// All buried ids.
    pub(super) fn all_graves(&self) -> io::Result<Vec<SessionId>> {
        let text = fs::read(self.graves())?;
        let graves = text.chunks_exact(GRAVE);
        Ok(graves
            .filter_map(|line| SessionId::parse(line.get(..SessionId::LENGTH)?))
            .collect())
    }

    fn slot(&self, field: Field, slot: usize) -> PathBuf {
        self.control().join(format!("{}-{slot}", field.name()))
    }

    fn ledgers(&self) -> PathBuf {
        self.control().join("ledgers")
    }

    fn graves(&self) -> PathBuf {
        self.control().join("graves")
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

/// How a violation names a session: as the tools do, and short.
pub(super) fn shown(id: &SessionId) -> String {
    let digest = id.digest();
    let short = digest.as_str().get(..12).unwrap_or_default();
    format!("session {short}")
}
