//! Making the directory before the first session, and removing what is ours in it.

use std::ops::ControlFlow;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::Shared;
use super::scan::{self, Folder, Kind};
use crate::error::{Error, Result};
use crate::store::Uninstalled;
use crate::store::directory::{Directory, Missing};
use crate::store::lock;

/// Makes the directory and tries in it what a session needs. Returns every problem.
pub(super) fn install(shared: &Shared) -> Vec<Error> {
    if let Err(error) = shared.directory.handle(Missing::Create) {
        return vec![error];
    }
    let tried = [try_file(shared), try_lock(shared)];
    tried.into_iter().filter_map(Result::err).collect()
}

/// Makes a file and deletes it again.
fn try_file(shared: &Shared) -> Result<()> {
    let name = Directory::temporary_name("")?;
    shared.directory.create_file(&name)?;
    shared.directory.unlink(&name)
}

/// Takes the lock of the clean-up, or sees that somebody has it.
fn try_lock(shared: &Shared) -> Result<()> {
    if shared.directory.handle(Missing::Leave)?.is_none() {
        return Ok(());
    }
    let name = Directory::temporary_name("")?;
    let Some(file) = shared.directory.create_file(&name)? else {
        return Ok(());
    };
    let locked = lock::try_exclusive(&file)
        .map_err(|error| Error::io("cannot lock a file in", shared.directory.path(), error));
    shared.directory.unlink(&name).and(locked.map(drop))
}

/// Removes the sessions and the store's own files; then the directory, if nothing else is in it.
pub(super) fn uninstall(shared: &Shared) -> Uninstalled {
    let mut done = Uninstalled::default();
    match remove_all(shared, &mut done) {
        Ok(()) => {}
        Err(error) => done.errors.push(error),
    }
    done
}

fn remove_all(shared: &Shared, done: &mut Uninstalled) -> Result<()> {
    if shared.directory.handle(Missing::Leave)?.is_none() {
        return Ok(());
    }
    // The shards first, so that they are empty when the store's own folder is gone through.
    let mut prefixes = scan::folder_names(shared)?;
    prefixes.reverse();
    for prefix in prefixes {
        if let Some(folder) = scan::open(shared, &prefix)? {
            remove_from(shared, &folder, done)?;
        }
    }
    if done.foreign.is_empty() && done.errors.is_empty() {
        let path = shared.directory.path();
        rustix::fs::rmdir(path).map_err(|errno| {
            Error::io("cannot remove", path, errno.into())
                .with_hint("it is empty; remove it by hand")
        })?;
        shared.directory.reopen();
    }
    Ok(())
}

fn remove_from(shared: &Shared, folder: &Folder, done: &mut Uninstalled) -> Result<()> {
    let mut entries = Vec::new();
    scan::each_entry(shared, folder, |name, kind| {
        entries.push((name.to_owned(), kind));
        ControlFlow::Continue(())
    })?;
    for (name, kind) in entries {
        let flags = match kind {
            _ if name == "." || name == ".." => continue,
            Kind::Foreign => {
                done.foreign.push(format!("{}{name}", folder.prefix));
                continue;
            }
            Kind::Shard => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        match rustix::fs::unlinkat(&folder.handle, &name, flags) {
            Ok(()) if matches!(kind, Kind::Session(_)) => done.sessions += 1,
            Ok(()) | Err(Errno::NOENT) => {}
            // Something foreign lies in it, and has been named.
            Err(Errno::NOTEMPTY | Errno::EXIST) if matches!(kind, Kind::Shard) => {}
            Err(errno) => {
                let path = shared.path(&folder.prefix).join(&name);
                done.errors
                    .push(Error::io("cannot delete", path, errno.into()));
            }
        }
    }
    Ok(())
}
