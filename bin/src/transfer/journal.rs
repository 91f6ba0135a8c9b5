//! [`Journal`]: what earlier runs have brought, kept in a file beside neither store. It tells a session that
//! was changed where it came from from one that was changed where it went, and one that has ended
//! from one that was never brought.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cgi_session::{Record, SessionDigest};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::owner::Account;

const TITLE: &str = "cgi-session copy, version 1: ";

/// Which state of a session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    pub(super) fn of(record: &Record) -> Self {
        // No client may craft two states that pass for one.
        let hash: [u8; 32] = Sha256::digest(record.to_json()).into();
        let halves = hash.as_chunks().0.iter();
        let halves = halves.map(|half| u128::from_be_bytes(*half));
        Fingerprint(halves.fold(0, |mixed, half| mixed ^ half))
    }
}

/// What is known of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The state that was brought last.
    pub(super) brought: Option<Fingerprint>,
    /// When the session had been used by then, in seconds since 1970.
    used: u64,
    /// The state that was about to be brought. Whether it was, nobody knows.
    pub(super) under_way: Option<(Fingerprint, u64)>,
    /// It was to be ended where it came from.
    pub(super) is_moved: bool,
    /// This run has seen it where it came from.
    pub(super) is_seen: bool,
}

impl Entry {
    /// Whether a session in this state is as a run has left it.
    pub(super) fn is_as_brought(&self, state: Fingerprint) -> bool {
        let under_way = self.under_way.map(|(state, _)| state);
        self.brought == Some(state) || under_way == Some(state)
    }

    /// When the session had been used that was brought last.
    pub(super) fn used(&self) -> SystemTime {
        let used = Duration::from_secs(self.used);
        UNIX_EPOCH.checked_add(used).unwrap_or(UNIX_EPOCH)
    }
}

/// The journal of the runs from one store to another.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None for a run that changes nothing.
    file: Option<File>,
    entries: HashMap<SessionDigest, Entry>,
}

impl Journal {
    /// Opens the journal of the runs between two stores, and makes it when there is none. `owner` is
    /// who goes on with it, if not the user who runs this program.
    ///
    /// # Errors
    ///
    /// The text says what is wrong with the file: it cannot be opened, belongs to other stores, or
    /// is in use by another run ([`ErrorKind::ResourceBusy`]).
    pub fn open(path: &Path, stores: &str, owner: Option<&Account>) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        let mut file = open(path, flags)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let reason = "another run is using it";
                return Err(io::Error::new(ErrorKind::ResourceBusy, reason));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let found = file.metadata()?;
        if !found.is_file() || found.nlink() != 1 {
            return Err(io::Error::other("it is no file of its own"));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if text.is_empty() {
            file.write_all(format!("{TITLE}{stores}\n").as_bytes())?;
        }
        let (entries, whole) = parse(&text, stores)?;
        // A line that was cut off says nothing.
        file.set_len(file.metadata()?.len() - (text.len() - whole) as u64)?;
        file.seek(SeekFrom::End(0))?;
        if let Some(owner) = owner {
            fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(Journal {
            path: path.to_owned(),
            file: Some(file),
            entries,
        })
    }

    /// Reads the journal for a run that changes nothing; none is an empty one.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn read(path: &Path, stores: &str) -> io::Result<Self> {
        let text = match open(path, OFlags::RDONLY).and_then(io::read_to_string) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text?,
        };
        Ok(Journal {
            path: path.to_owned(),
            file: None,
            entries: parse(&text, stores)?.0,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn entry(&self, session: &SessionDigest) -> Entry {
        self.entries.get(session).copied().unwrap_or_default()
    }

    /// Notes that the session is still where it came from.
    pub(super) fn see(&mut self, session: &SessionDigest) {
        if let Some(entry) = self.entries.get_mut(session) {
            entry.is_seen = true;
        }
    }

    /// The sessions that were brought, not moved, and not seen where they came from.
    pub(super) fn unseen(&self) -> Vec<SessionDigest> {
        let is_unseen = |entry: &Entry| !entry.is_seen && !entry.is_moved;
        let unseen = self.entries.iter().filter(|(_, entry)| is_unseen(entry));
        unseen.map(|(session, _)| *session).collect()
    }

    /// This state is about to be brought.
    pub(super) fn begins(
        &mut self,
        session: &SessionDigest,
        state: Fingerprint,
        used: SystemTime,
    ) -> io::Result<()> {
        let used = used.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.note(session, Note::Begins(state, used.as_secs()))
    }

    /// It was brought.
    pub(super) fn has_done(&mut self, session: &SessionDigest) -> io::Result<()> {
        self.note(session, Note::Done)
    }

    /// It was not brought: somebody else has made a session of this digest there.
    pub(super) fn has_not_done(&mut self, session: &SessionDigest) -> io::Result<()> {
        self.note(session, Note::NotDone)
    }

    /// The session is about to be ended where it came from.
    pub(super) fn moves(&mut self, session: &SessionDigest) -> io::Result<()> {
        self.note(session, Note::Moves)
    }

    fn note(&mut self, session: &SessionDigest, note: Note) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(note.line(session).as_bytes())?;
        }
        let entry = self.entries.entry(*session).or_default();
        // Only what is seen gets a note.
        entry.is_seen = true;
        note.apply(entry);
        Ok(())
    }
}

/// Opens a journal, and neither follows a link nor waits for the other end of a pipe.
fn open(path: &Path, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    Begins(Fingerprint, u64),
    Done,
    NotDone,
    Moves,
}

impl Note {
    fn line(self, session: &SessionDigest) -> String {
        match self {
            Note::Begins(Fingerprint(state), used) => {
                format!("begins {session} {state:032x} {used}\n")
            }
            Note::Done => format!("done {session}\n"),
            Note::NotDone => format!("not-done {session}\n"),
            Note::Moves => format!("moves {session}\n"),
        }
    }

    fn parse(line: &str) -> Option<(SessionDigest, Self)> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let session = SessionDigest::parse(words.next()?.as_bytes())?;
        let note = match kind {
            "begins" => {
                let state = u128::from_str_radix(words.next()?, 16).ok()?;
                Note::Begins(Fingerprint(state), words.next()?.parse().ok()?)
            }
            "done" => Note::Done,
            "not-done" => Note::NotDone,
            "moves" => Note::Moves,
            _ => return None,
        };
        words.next().is_none().then_some((session, note))
    }

    fn apply(self, entry: &mut Entry) {
        match self {
            Note::Begins(state, used) => entry.under_way = Some((state, used)),
            Note::Done => {
                if let Some((state, used)) = entry.under_way.take() {
                    (entry.brought, entry.used) = (Some(state), used);
                }
            }
            Note::NotDone => entry.under_way = None,
            Note::Moves => entry.is_moved = true,
        }
    }
}

/// What a journal holds, and how much of its text is whole lines.
fn parse(text: &str, stores: &str) -> io::Result<(HashMap<SessionDigest, Entry>, usize)> {
    let mut entries = HashMap::new();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut lines = text.get(..whole).unwrap_or_default().lines();
    match lines.next().map(|title| title.strip_prefix(TITLE)) {
        None if text.is_empty() => {}
        None | Some(None) => return Err(io::Error::other("it is no journal of a copy")),
        Some(Some(of)) if of != stores => {
            let reason = format!("it is the journal of other stores: {of}");
            return Err(io::Error::other(reason));
        }
        Some(Some(_)) => {}
    }
    for line in lines {
        let Some((session, note)) = Note::parse(line) else {
            return Err(io::Error::other(format!("it holds the line {line:?}")));
        };
        note.apply(entries.entry(session).or_default());
    }
    Ok((entries, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(digit: u8) -> SessionDigest {
        SessionDigest::parse(&[digit; SessionDigest::LENGTH]).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_journal_knows_after_a_death_what_it_knew_before() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal");
        let (first, second, third) = (Fingerprint(1), Fingerprint(2), Fingerprint(3));
        let mut journal = Journal::open(&path, "a -> b", None).unwrap();
        journal.begins(&session(b'a'), first, at(5)).unwrap();
        journal.has_done(&session(b'a')).unwrap();
        journal.begins(&session(b'a'), second, at(6)).unwrap();
        journal.begins(&session(b'b'), third, at(7)).unwrap();
        journal.has_done(&session(b'b')).unwrap();
        journal.moves(&session(b'b')).unwrap();
        let busy = Journal::open(&path, "a -> b", None).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
        drop(journal);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"done aaaa").unwrap();

        for _ in 0..2 {
            let journal = Journal::open(&path, "a -> b", None).unwrap();
            let entry = journal.entry(&session(b'a'));
            assert_eq!((entry.brought, entry.used()), (Some(first), at(5)));
            assert_eq!(entry.under_way, Some((second, 6)));
            assert!(entry.is_as_brought(first) && entry.is_as_brought(second));
            assert!(!entry.is_as_brought(third) && !entry.is_moved);
            assert!(journal.entry(&session(b'b')).is_moved);
            assert_eq!(journal.unseen(), [session(b'a')]);
        }
        let read = Journal::read(&path, "a -> b").unwrap();
        assert_eq!(read.entries.len(), 2);
    }

    #[test]
    fn a_file_that_is_none_of_these_stores_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal");
        drop(Journal::open(&path, "a -> b", None).unwrap());
        let other = Journal::open(&path, "a -> c", None).unwrap_err();
        assert!(other.to_string().contains("a -> b"), "{other}");
        for text in ["root:x:0:0\n", "root", "\n"] {
            std::fs::write(&path, text).unwrap();
            let foreign = Journal::open(&path, "a -> b", None).unwrap_err();
            assert!(foreign.to_string().contains("no journal"), "{foreign}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Journal::open(&link, "a -> b", None).is_err());
        let none = Journal::read(&place.path().join("none"), "a -> b").unwrap();
        assert!(none.unseen().is_empty() && !place.path().join("none").exists());
    }
}
