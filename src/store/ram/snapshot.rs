//! The file that keeps sessions in memory over a restart of their process.
//!
//! ```text
//! {"v":1}
//! {"session":"<64 hex>","lastAccess":<milliseconds since 1970>,"length":<n>}
//! <n bytes: the record>
//! ...
//! {"sessions":<how many>,"h":"<XXH3-64 of all lines before, 16 hex>"}
//! ```
//!
//! A snapshot is written beside the one before, synced, and renamed over it: a process that dies while
//! writing leaves the one before. One process at a time has a snapshot; the lock is on a file of
//! its own, `<name>.lock`, because the snapshot itself is replaced again and again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use serde::Deserialize;
use xxhash_rust::xxh3::Xxh3;

use super::entry::StoredRecord;
use crate::error::{Error, Result, shell_word};
use crate::id::SessionDigest;
use crate::record::Record;
use crate::store::files::lock::LockedFile;
use crate::store::files::{calls, own};

const VERSION: u64 = 1;
const MOVE_AWAY: &str = "it was left as it is; move it away to begin without sessions";

type Saved = (SessionDigest, StoredRecord);

/// The snapshot file of this process.
pub(super) struct SnapshotFile {
    path: PathBuf,
    /// Holds the lock as long as the store lives.
    _lock: LockedFile,
}

impl SnapshotFile {
    /// Takes the snapshot for this process, waiting up to `wait` for one that is about to end.
    pub(super) fn open(path: &Path, wait: Duration) -> Result<Self> {
        let lock_path = beside(path, ".lock");
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = open(&lock_path, flags)?;
        let locked = LockedFile::exclusive(file, wait, wait, || lock_path);
        Ok(SnapshotFile {
            path: path.to_owned(),
            _lock: locked.map_err(|failure| match failure.into() {
                Error::Busy { holder, .. } => {
                    let holder = holder.unwrap_or_else(|| "another process".to_owned());
                    let cause = format!("{} is the snapshot of {holder}", path.display());
                    Error::unavailable("cannot load the sessions", cause).with_hint(
                        "sessions in memory belong to one process: give each its own snapshotFile, or use storageType = file",
                    )
                }
                error => error,
            })?,
        })
    }

    /// The sessions of the last snapshot; none when there is no file.
    pub(super) fn load(&self) -> Result<Vec<Saved>> {
        let mut text = Vec::new();
        match open(&self.path, OFlags::RDONLY) {
            Ok(mut file) => file
                .read_to_end(&mut text)
                .map_err(|error| Error::io("cannot read", &self.path, error))?,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        parse(&text).map_err(|unusable| {
            let (reason, hint) = match unusable {
                Unusable::Damaged(reason) => (
                    format!("is no whole snapshot of sessions: {reason}"),
                    MOVE_AWAY.to_owned(),
                ),
                Unusable::LaterVersion(version) => (
                    format!("was written by a later release of cgi-session (version {version})"),
                    format!("use that release, or: {MOVE_AWAY}"),
                ),
            };
            Error::refused(&self.path, reason).with_hint(hint)
        })
    }

    /// Puts a snapshot of these sessions in the place of the last one.
    pub(super) fn write(&self, sessions: &[Saved]) -> Result<()> {
        let temporary = beside(&self.path, ".tmp");
        // One that is there was left by a process that died here before.
        remove(&temporary)?;
        let written = open(&temporary, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
            .and_then(|file| {
                write_to(&file, sessions)
                    .and_then(|()| file.sync_all())
                    .map_err(|error| Error::io("cannot write the snapshot", &temporary, error))
            })
            .and_then(|()| {
                fs::rename(&temporary, &self.path)
                    .map_err(|error| Error::io("cannot replace", &self.path, error))
            });
        if written.is_err() {
            // What stays is deleted by the next snapshot, and the reason for this failure is returned.
            let _ = fs::remove_file(&temporary);
            return written;
        }
        let parent = self.path.parent().unwrap_or(&self.path);
        calls::sync_path(parent)
            .map_err(|errno| Error::io("cannot sync the directory", parent, errno.into()))
    }

    /// Deletes the snapshot. The lock's file stays: it is what another process would wait for.
    pub(super) fn remove(&self) -> Result<()> {
        remove(&beside(&self.path, ".tmp"))?;
        remove(&self.path)
    }
}

/// Deletes a file; one that is gone already is no error.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("cannot delete", path, error))
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Opens a file of ours, following no link and waiting for no pipe. A new one is 0600.
fn open(path: &Path, flags: OFlags) -> Result<File> {
    let safe = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let uid = rustix::process::geteuid().as_raw();
    let rights = Mode::RUSR | Mode::WUSR;
    let opened = retry_on_intr(|| rustix::fs::open(path, flags | safe, rights));
    let file = opened.map(File::from).map_err(|errno| {
        own::refusal(path, errno).unwrap_or_else(|| {
            Error::io("cannot open", path, errno.into()).with_hint(format!(
                "running as uid {uid}; snapshotFile must lie in a directory in which that user may make files"
            ))
        })
    })?;
    // It would hold what others have written, or may read.
    let stat = own::examine(&file, uid, || path.to_owned())?;
    let mode = stat.map_or(Mode::empty(), |stat| Mode::from_raw_mode(stat.st_mode));
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        let reason = format!("is open to others (mode {:04o})", mode.bits());
        let hint = format!("if it is unchanged: chmod 0600 {}", shell_word(path));
        return Err(Error::refused(path, reason).with_hint(hint));
    }
    if flags.contains(OFlags::CREATE) && mode != rights {
        // What the umask took.
        retry_on_intr(|| rustix::fs::fchmod(&file, rights))
            .map_err(|errno| Error::io("cannot set the mode of", path, errno.into()))?;
    }
    Ok(file)
}

fn write_to(file: &File, sessions: &[Saved]) -> io::Result<()> {
    let (mut out, mut hash) = (BufWriter::new(file), Xxh3::new());
    let mut write = |part: &[u8]| {
        hash.update(part);
        out.write_all(part)
    };
    write(format!("{{\"v\":{VERSION}}}\n").as_bytes())?;
    for (session, stored) in sessions {
        let record = stored.record.to_json();
        let since = stored.last_access.duration_since(UNIX_EPOCH);
        let last_access = since.unwrap_or_default().as_millis();
        let length = record.len();
        let head = format!(
            "{{\"session\":\"{session}\",\"lastAccess\":{last_access},\"length\":{length}}}\n"
        );
        write(head.as_bytes())?;
        write(&record)?;
        write(b"\n")?;
    }
    let (number, hash) = (sessions.len(), text_of(&hash));
    writeln!(out, "{{\"sessions\":{number},\"h\":\"{hash}\"}}")?;
    out.flush()
}

fn text_of(hash: &Xxh3) -> String {
    format!("{:016x}", hash.digest())
}

/// Why a file cannot be loaded.
#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    Damaged(&'static str),
    LaterVersion(u64),
}

#[derive(Deserialize)]
struct Head {
    v: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    session: &'a str,
    last_access: u64,
    length: usize,
}

#[derive(Deserialize)]
struct Tail<'a> {
    sessions: u64,
    h: &'a str,
}

fn parse(text: &[u8]) -> Result<Vec<Saved>, Unusable> {
    let (head, mut rest) = line(text)?;
    let head: Head = read(head)?;
    if head.v != VERSION {
        return Err(Unusable::LaterVersion(head.v));
    }
    let mut found = Vec::new();
    let mut number = 0;
    loop {
        let before = text.len() - rest.len();
        let (next, after) = line(rest)?;
        if next.starts_with(b"{\"sessions\":") {
            let tail: Tail<'_> = read(next)?;
            let mut hash = Xxh3::new();
            hash.update(text.get(..before).unwrap_or_default());
            return if tail.h != text_of(&hash) {
                Err(Unusable::Damaged("its checksum is wrong"))
            } else if tail.sessions != number || !after.is_empty() {
                Err(Unusable::Damaged("it does not end where it should"))
            } else {
                Ok(found)
            };
        }
        let entry: Entry<'_> = read(next)?;
        let too_short = Unusable::Damaged("it ends too early");
        let (record, after) = after.split_at_checked(entry.length).ok_or(too_short)?;
        rest = after.strip_prefix(b"\n").ok_or(BAD_LINE)?;
        number += 1;
        found.extend(saved(&entry, record)?);
    }
}

const BAD_LINE: Unusable = Unusable::Damaged("a line of it makes no sense");

/// A session of a snapshot. A record that no program could open is left out.
fn saved(entry: &Entry<'_>, record: &[u8]) -> Result<Option<Saved>, Unusable> {
    let session = SessionDigest::parse(entry.session.as_bytes()).ok_or(BAD_LINE)?;
    let last_access = UNIX_EPOCH.checked_add(Duration::from_millis(entry.last_access));
    let record = Record::from_json(record.to_vec()).ok();
    let stored = record.map(|record| StoredRecord {
        record: Arc::new(record),
        last_access: last_access.unwrap_or(UNIX_EPOCH),
    });
    Ok(stored.map(|stored| (session, stored)))
}

/// The first line, and what follows it.
fn line(text: &[u8]) -> Result<(&[u8], &[u8]), Unusable> {
    let end = text.iter().position(|byte| *byte == b'\n');
    let parts = end.and_then(|end| text.split_at_checked(end));
    let (line, rest) = parts.ok_or(Unusable::Damaged("it ends too early"))?;
    Ok((line, rest.strip_prefix(b"\n").unwrap_or_default()))
}

fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Unusable> {
    serde_json::from_slice(line).map_err(|_| BAD_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = SnapshotFile::open(&directory.path().join("s"), Duration::ZERO).unwrap();
        let sessions = [1, 2, 3].map(|n| {
            let session = SessionDigest::parse(&[b'0' + n; 64]).unwrap();
            // Not on one line, which is for the program to decide.
            let values = format!("{{\"\":{{\n\"n\":{n}}}}}").into();
            let record = Record::new(UNIX_EPOCH).with_values(values);
            let at = UNIX_EPOCH + Duration::from_millis(1_767_225_600_123);
            (session, StoredRecord::new(&record, at))
        });
        snapshot.write(&sessions).unwrap();
        fs::read(&snapshot.path).unwrap()
    }

    #[test]
    fn no_part_of_a_snapshot_passes_for_the_whole() {
        let text = text();
        assert_eq!(parse(&text).map(|found| found.len()).ok(), Some(3));
        for length in 0..text.len() {
            assert!(parse(&text[..length]).is_err(), "{length} bytes");
        }
        assert!(parse(&[&text[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn no_flipped_bit_passes() {
        let original = text();
        for at in 0..original.len() {
            for bit in 0..8 {
                let mut text = original.clone();
                text[at] ^= 1 << bit;
                assert!(parse(&text).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
