//! `minFreeSpace`: no new session without a user when the file system is nearly full.
//!
//! What crawlers would fill is kept for the sessions that exist: they continue, and so does a login. A record
//! that names its user is therefore admitted, and one that takes the place of another under a new id.

use rustix::fs::StatVfs;
use rustix::io::{Errno, retry_on_intr};

use super::inner::FileStoreInner;
use crate::config::FreeSpace;
use crate::error::{Error, Result};
use crate::record::Record;

/// Refuses a creation when there is too little space for it.
pub(super) fn admit(shared: &FileStoreInner, record: &Record) -> Result<()> {
    if record.user().is_some() || record.predecessor().is_some() {
        return Ok(());
    }
    check(shared)
}

/// Whether there is as much space as there must be.
pub(super) fn check(shared: &FileStoreInner) -> Result<()> {
    if shared.config.min_free_space == FreeSpace::Bytes(0) {
        return Ok(());
    }
    let path = shared.directory.path();
    let failed = |errno: Errno| Error::io("cannot find out the free space of", path, errno.into());
    let handle = shared.directory.create()?;
    let system = retry_on_intr(|| rustix::fs::fstatvfs(&*handle)).map_err(failed)?;
    match shortage(shared.config.min_free_space, &system) {
        None => Ok(()),
        Some(reason) => Err(Error::LowSpace {
            path: path.to_owned(),
            reason,
        }),
    }
}

/// How much there is and must be, when it is too little. What only root may use does not count.
fn shortage(floor: FreeSpace, system: &StatVfs) -> Option<String> {
    let free = u128::from(system.f_bavail) * u128::from(system.f_frsize);
    match floor {
        FreeSpace::Bytes(floor) => {
            (free < u128::from(floor)).then(|| format!("{free} bytes are free, {floor} must be"))
        }
        FreeSpace::Percent(floor) => [
            ("bytes", system.f_bavail, system.f_blocks),
            // A file system that does not count its inodes says that it has none.
            ("inodes", system.f_favail, system.f_files),
        ]
        .into_iter()
        .filter_map(|(what, free, total)| Some((what, tenths(free, total)?)))
        .find(|(_, tenths)| *tenths < 10 * u128::from(floor))
        .map(|(what, tenths)| {
            let (percent, tenth) = (tenths / 10, tenths % 10);
            format!("{percent}.{tenth}% of the {what} are free, {floor}% must be")
        }),
    }
}

/// A part in tenths of a percent; none of nothing.
fn tenths(free: u64, total: u64) -> Option<u128> {
    (1000 * u128::from(free)).checked_div(u128::from(total))
}
