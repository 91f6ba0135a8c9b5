//! The index by user: which sessions may be a user's, found without looking at all of them.
//!
//! `<SHA-256 of the user's text>.user` holds one digest a line, 65 bytes with the line feed. It names
//! every session whose record names the user, and may name others: a digest is added *before* the
//! record is written, by the holder of the session's lock, so that a death never leaves a session
//! out. Who reads the index looks into each record.
//!
//! An entry is dropped only by the holder of its session's lock, once the record names the user no
//! more, or when no file has the session's name. That is safe: the file is there, and locked,
//! before the digest is added. Lines are added at the end and made blank in place, never moved, so
//! that a reader needs no lock. A file is made smaller by a new one that takes its place.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::time::SystemTime;

use rustix::fs::{OFlags, Stat};

use super::inner::FileStoreInner;
use crate::error::{Error, Result};
use crate::id::{self, SessionDigest};
use crate::store::MAX_LISTINGS;
use crate::store::files::calls;
use crate::store::files::directory::{self, Directory, Locked};
use crate::store::files::lock::LockedFile;

/// A digest and a line feed.
const LINE: usize = SessionDigest::LENGTH + 1;
/// More lines than any user has: a larger file is a mistake, and not read.
const MAX_BYTES: u64 = (LINE as u64) << 20;
/// In an index up to this size, a session that ends takes its line away.
const SMALL: u64 = (LINE as u64) << 10;
/// From so many lines on, an index is looked through whenever it has doubled.
const FIRST_LOOK: u64 = 64;

/// Notes that a session is about to be this user's. The caller holds the session's lock and writes
/// its record afterwards.
pub(super) fn add(shared: &FileStoreInner, user: &str, session: &SessionDigest) -> Result<()> {
    Index::lock(shared, name_of(shared, user))?.add(session)
}

/// Removes a session that is this user's no more; the caller still holds the
/// session's lock. Where that fails or would take long, the clean-up does it.
pub(super) fn remove(shared: &FileStoreInner, user: &str, session: &SessionDigest) {
    blank_if(shared, user, session, || true);
}

/// Removes a session that was deleted. Another process may have created one of the same id since: that
/// one's file existed before its line.
pub(super) fn forget(shared: &FileStoreInner, user: &str, session: &SessionDigest) {
    let name = shared.directory.file_name(session);
    blank_if(shared, user, session, || !shared.directory.has(&name));
}

fn blank_if(
    shared: &FileStoreInner,
    user: &str,
    session: &SessionDigest,
    is_outdated: impl FnOnce() -> bool,
) {
    let index = Index::try_lock(shared, name_of(shared, user));
    let removed = index.and_then(|index| match index {
        Some(index) if index.size <= SMALL && is_outdated() => index.blank(session),
        _ => Ok(()),
    });
    if let Err(error) = removed {
        log::warn!("{}", error.one_line());
    }
}

/// The live sessions whose record names this user, or may do so. Waits for no process that changes the index.
pub(super) fn sessions_of(
    shared: &FileStoreInner,
    user: &str,
    now: SystemTime,
) -> Result<Vec<SessionDigest>> {
    let name = name_of(shared, user);
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for _ in 0..MAX_LISTINGS {
        let mut has_moved = false;
        // The last first: only that is still there of a session whose id changes all the time.
        for session in listed(shared, &name)?.into_iter().flatten().rev() {
            if !seen.insert(session) {
                continue;
            }
            match shared.peek(&session, now) {
                Ok(Some(stored)) => {
                    has_moved |= stored.record.is_replaced();
                    if stored.record.user() == Some(user) {
                        found.push(session);
                    }
                }
                Ok(None) => has_moved = true,
                // It may be the user's: a caller that ends all of them must not learn that all are ended.
                Err(error) => {
                    log::warn!("{}", error.one_line());
                    found.push(session);
                }
            }
        }
        // A session whose id changes meanwhile is listed under the new one before the old one goes.
        if !has_moved {
            break;
        }
    }
    Ok(found)
}

fn name_of(shared: &FileStoreInner, user: &str) -> String {
    let digest = SessionDigest::of(user.as_bytes());
    shared.directory.name_of(digest.as_str(), ".user")
}

/// What an index holds at this moment.
fn listed(shared: &FileStoreInner, name: &str) -> Result<Vec<Option<SessionDigest>>> {
    while let Some(file) = shared.directory.open_file(name, OFlags::RDONLY)? {
        // None: deleted or replaced since it was opened.
        if let Some(stat) = shared.directory.examine(&file, name)? {
            checked_size(shared, &stat, name)?;
            let lines = lines(&file);
            return lines.map_err(|error| shared.failed("cannot read", name, error));
        }
    }
    Ok(Vec::new())
}

fn checked_size(shared: &FileStoreInner, stat: &Stat, name: &str) -> Result<u64> {
    let size = directory::size(stat);
    if size > MAX_BYTES {
        let refused = Error::refused(&shared.path(name), format!("has {size} bytes"));
        return Err(refused.with_hint(
            "no user has so many sessions; it was left alone. Once it is removed by hand, \
             the user's earlier sessions are no longer found by user",
        ));
    }
    Ok(size)
}

/// One entry for each whole line; what is no digest stands for nothing.
fn lines(file: &File) -> io::Result<Vec<Option<SessionDigest>>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let digest = |line: &[u8]| SessionDigest::parse(line.strip_suffix(b"\n")?);
    Ok(bytes.chunks_exact(LINE).map(digest).collect())
}

pub(super) struct Index<'a> {
    shared: &'a FileStoreInner,
    name: String,
    file: LockedFile,
    size: u64,
}

/// How much of an index is of use.
pub(super) enum Occupancy {
    /// None of its sessions exists.
    Empty,
    /// These exist, and they are less than half of it.
    Sparse(Vec<SessionDigest>),
    Dense,
}

impl<'a> Index<'a> {
    /// Waits for the lock; creates the file when there is none.
    fn lock(shared: &'a FileStoreInner, name: String) -> Result<Self> {
        let wait = shared.config.lock_timeout;
        let locked = shared.directory.lock_or_create(&name, wait)?;
        Index::of(shared, name, locked)
    }

    /// Locks an existing index if its lock is free.
    pub(super) fn try_lock(shared: &'a FileStoreInner, name: String) -> Result<Option<Self>> {
        let locked = shared.directory.try_lock(&name)?;
        let index = locked.map(|locked| Index::of(shared, name, locked));
        index.transpose()
    }

    fn of(shared: &'a FileStoreInner, name: String, (file, stat): Locked) -> Result<Self> {
        Ok(Index {
            size: checked_size(shared, &stat, &name)?,
            shared,
            name,
            file,
        })
    }

    fn add(&self, session: &SessionDigest) -> Result<()> {
        // A torn last line, of a process that died while it wrote it, is written over.
        let lines = self.size / LINE as u64;
        if lines >= FIRST_LOOK && lines.is_power_of_two() {
            match self.in_use()? {
                Occupancy::Empty => return self.rewrite(&[*session]),
                Occupancy::Sparse(sessions) => {
                    return self.rewrite(&[&sessions[..], &[*session]].concat());
                }
                Occupancy::Dense => {}
            }
        }
        let line = [session.as_str(), "\n"].concat();
        let written = calls::write_all_at(&self.file, line.as_bytes(), lines * LINE as u64);
        written
            .and_then(|()| self.sync())
            .map_err(|error| self.failed("cannot add a session to", error))?;
        self.shared.sync_name(&self.name)
    }

    /// Makes the lines of a session blank, and deletes an index that holds no other.
    fn blank(&self, session: &SessionDigest) -> Result<()> {
        let lines = self.lines()?;
        if lines.iter().flatten().all(|listed| listed == session) {
            return self.delete();
        }
        for (number, line) in (0..).zip(&lines) {
            if line.as_ref() == Some(session) {
                let blank = [b' '; SessionDigest::LENGTH];
                let written = calls::write_all_at(&self.file, &blank, number * LINE as u64);
                written.map_err(|error| self.failed("cannot take a session from", error))?;
            }
        }
        Ok(())
    }

    /// Finds out how many of its sessions exist. An index belongs to the sessions that lie as it
    /// does, in shards or not, whatever `shards` says now.
    pub(super) fn in_use(&self) -> Result<Occupancy> {
        let lines = self.lines()?;
        let in_shards = self.name.contains('/');
        let sessions: HashSet<_> = lines.iter().flatten().copied().collect();
        let exist = sessions.into_iter().filter(|session| {
            let name = Directory::name_in(in_shards, session.as_str(), ".json");
            self.shared.directory.has(&name)
        });
        let exist: Vec<_> = exist.collect();
        Ok(if exist.is_empty() {
            Occupancy::Empty
        } else if 2 * exist.len() < lines.len() {
            Occupancy::Sparse(exist)
        } else {
            Occupancy::Dense
        })
    }

    /// Puts an index of these sessions in the place of this one.
    pub(super) fn rewrite(&self, sessions: &[SessionDigest]) -> Result<()> {
        let directory = &self.shared.directory;
        let temporary = Directory::temporary_name(&self.name, id::random::<1>()?[0]);
        let lines = sessions.iter().flat_map(|it| [it.as_str(), "\n"]);
        let text: String = lines.collect();
        // Locked before its name is the index's: another process that finds it there waits for us.
        let file = directory
            .create_file(&temporary)?
            .map(LockedFile::try_exclusive);
        let file = file.transpose().map(Option::flatten);
        let written = file.and_then(|file| {
            let file = file.ok_or(io::ErrorKind::AlreadyExists)?;
            calls::write_all_at(&file, text.as_bytes(), 0)?;
            if self.shared.config.is_durable() {
                file.sync_data()?;
            }
            Ok(file)
        });
        let replaced = written
            .map_err(|error| directory.failed("cannot write", &temporary, error))
            .and_then(|_file| {
                if self.is_in_place()? {
                    directory.rename(&temporary, &self.name)
                } else {
                    Err(self.failed("cannot replace", io::ErrorKind::NotFound))
                }
            });
        if replaced.is_err() {
            directory.discard(&temporary);
            return replaced;
        }
        self.shared.sync_name(&self.name)
    }

    /// Deletes the index. A process that waits for it finds its link gone and creates a new one.
    pub(super) fn delete(&self) -> Result<()> {
        if self.is_in_place()? {
            self.shared.directory.unlink(&self.name)?;
        }
        Ok(())
    }

    /// Whether the name leads to this file, and not into a directory that has taken the place of
    /// ours.
    fn is_in_place(&self) -> Result<bool> {
        self.shared.directory.leads_to(&self.name, &*self.file)
    }

    fn lines(&self) -> Result<Vec<Option<SessionDigest>>> {
        lines(&self.file).map_err(|error| self.failed("cannot read", error))
    }

    /// Under `durability = data` the disk has the index before it has the record.
    fn sync(&self) -> io::Result<()> {
        if self.shared.config.is_durable() {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }

    fn failed(&self, action: &'static str, cause: impl Into<io::Error>) -> Error {
        self.shared.failed(action, &self.name, cause)
    }
}
