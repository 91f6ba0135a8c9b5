//! Making the directory before the first session, and removing what is ours in it.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::inner::FileStoreInner;
use super::scan::{COUNT, Folder, Kind, SWEEP_LOCK, USERS_LOCK};
use super::space;
use super::users::{Index, Occupancy};
use crate::error::{Error, Result};
use crate::id;
use crate::store::Uninstalled;
use crate::store::files::calls;
use crate::store::files::directory::Directory;
use crate::store::files::lock::{self, LockedFile};

/// Makes the directory and tries in it what a session needs. Returns every problem.
pub(super) fn install(shared: &FileStoreInner) -> Vec<Error> {
    let directory = &shared.directory;
    // As it is now, and not as it was when it was opened.
    directory.reopen();
    match directory.create() {
        Ok(_) => {}
        // One that others may write in and that is not ours has two problems.
        Err(Error::Refused { .. }) if !directory.problems().is_empty() => {
            return directory.problems();
        }
        Err(error) => return vec![error],
    }
    let mut problems = Vec::new();
    problems.extend(space::check(shared).err());
    problems.extend(try_files(shared));
    for name in [SWEEP_LOCK, COUNT, USERS_LOCK] {
        problems.extend(try_own(shared, name).err());
    }
    problems.extend(try_shards(shared));
    problems
}

/// Makes a file, writes and locks it, and puts it in the place of another.
fn try_files(shared: &FileStoreInner) -> Vec<Error> {
    let [old, new] = match id::random::<2>() {
        Ok(random) => random.map(|random| Directory::temporary_name("", random)),
        Err(error) => return vec![error],
    };
    let mut problems = Vec::new();
    let made = shared
        .directory
        .create_file(&old)
        .and_then(|_| shared.directory.create_file(&new));
    match made {
        Ok(file) => {
            problems.extend(file.and_then(|file| try_write(shared, file, &new).err()));
            problems.extend(shared.directory.rename(&new, &old).err());
        }
        Err(error) => problems.push(error),
    }
    for name in [old, new] {
        problems.extend(shared.directory.unlink(&name).err());
    }
    problems
}

fn try_write(shared: &FileStoreInner, file: File, name: &str) -> Result<()> {
    let failed = |action| move |error: io::Error| shared.failed(action, name, error);
    let locked = LockedFile::try_exclusive(file).map_err(failed("cannot lock"))?;
    let written = locked.map_or(Ok(()), |file| calls::write_all_at(&file, &[b' '; 1024], 0));
    written.map_err(failed("cannot write"))
}

/// Sees whether a lock of the store's own that is there can be used: root's clean-up may have left
/// one that is root's.
fn try_own(shared: &FileStoreInner, name: &str) -> Result<()> {
    match shared.directory.open_file(name, OFlags::RDWR)? {
        Some(file) => shared.directory.examine(&file, name).map(drop),
        None => Ok(()),
    }
}

/// Looks at the shards that there are; more are made when they are needed.
fn try_shards(shared: &FileStoreInner) -> Vec<Error> {
    let prefixes = match shared.folder_names() {
        Ok(prefixes) => prefixes,
        Err(error) => return vec![error],
    };
    let shards = prefixes.iter().filter(|prefix| !prefix.is_empty());
    let problems = shards.flat_map(|prefix| match shared.open_folder(prefix) {
        Ok(Some(folder)) => shared.directory.problems_of(prefix, &folder.handle),
        Ok(None) => Vec::new(),
        Err(error) => vec![error],
    });
    problems.collect()
}

/// Removes the sessions and the store's own files; then the directory, if nothing else is in it.
/// A session in use is left and named.
pub(super) fn uninstall(shared: &FileStoreInner) -> Uninstalled {
    let mut done = Uninstalled::default();
    if let Err(error) = remove_all(shared, &mut done) {
        done.errors.push(error);
    }
    done
}

fn remove_all(shared: &FileStoreInner, done: &mut Uninstalled) -> Result<()> {
    shared.directory.reopen();
    if shared.directory.handle()?.is_none() {
        return Ok(());
    }
    let Some(_sweep_lock) = shared.directory.try_lock_or_create(SWEEP_LOCK)? else {
        return Err(in_use(shared, SWEEP_LOCK, "when the clean-up has ended"));
    };
    // The shards first, so that they are empty when the directory itself is gone through; and the
    // indexes after all sessions, for one is needed as long as one of its sessions is left.
    let mut prefixes = shared.folder_names()?;
    prefixes.reverse();
    let is_late = |kind: &Kind| matches!(kind, Kind::Index | Kind::Shard);
    for round in [false, true] {
        for prefix in &prefixes {
            if let Some(folder) = shared.open_folder(prefix)? {
                remove_from(shared, &folder, done, |kind| is_late(kind) == round)?;
            }
        }
    }
    if !done.errors.is_empty() {
        return Ok(());
    }
    shared.directory.unlink(COUNT)?;
    shared.directory.unlink(USERS_LOCK)?;
    shared.directory.unlink(SWEEP_LOCK)?;
    if done.foreign.is_empty() {
        shared.directory.remove()?;
    }
    Ok(())
}

fn remove_from(
    shared: &FileStoreInner,
    folder: &Folder,
    done: &mut Uninstalled,
    is_wanted: impl Fn(&Kind) -> bool,
) -> Result<()> {
    shared.each_entry(folder, |name, kind| {
        if is_wanted(&kind) {
            let stored = format!("{}{name}", folder.prefix);
            if let Err(error) = remove(shared, folder, name, stored, &kind, done) {
                done.errors.push(error);
            }
        }
        ControlFlow::Continue(())
    })
}

fn remove(
    shared: &FileStoreInner,
    folder: &Folder,
    name: &str,
    stored: String,
    kind: &Kind,
    done: &mut Uninstalled,
) -> Result<()> {
    match kind {
        Kind::Own => {}
        Kind::Foreign => done.foreign.push(stored),
        Kind::Shard => match rustix::fs::unlinkat(&folder.handle, name, AtFlags::REMOVEDIR) {
            // What lies in it is foreign or in use, and has been named.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOTDIR) => done.foreign.push(stored),
            Err(errno) => return Err(shared.failed("cannot remove", &stored, errno)),
        },
        Kind::Index => {
            if let Some(index) = Index::try_lock(shared, stored)?
                && matches!(index.in_use()?, Occupancy::Empty)
            {
                index.delete()?;
            }
        }
        Kind::Session(_) | Kind::Temporary | Kind::SetAside => {
            if remove_file(shared, &stored)? && matches!(kind, Kind::Session(_)) {
                done.sessions += 1;
            }
        }
    }
    Ok(())
}

/// Deletes a file of ours under its lock; `false` when another process has deleted it.
fn remove_file(shared: &FileStoreInner, name: &str) -> Result<bool> {
    match shared.directory.lock(name, Duration::ZERO) {
        Ok(Some(_locked)) => shared.directory.unlink(name).map(|()| true),
        Err(Error::Busy { .. }) => Err(in_use(shared, name, "when that has ended")),
        gone => gone.map(|_| false),
    }
}

fn in_use(shared: &FileStoreInner, name: &str, when: &str) -> Error {
    let file = shared
        .directory
        .open_file(name, OFlags::RDWR)
        .ok()
        .flatten();
    let holder = file.and_then(|file| lock::holder(&file));
    let holder = holder.map_or(String::new(), |holder| format!(" by {holder}"));
    Error::refused(&shared.path(name), format!("is in use{holder}"))
        .with_hint(format!("it was left where it is; run it again {when}"))
}
