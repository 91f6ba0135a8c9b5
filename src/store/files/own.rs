//! Files that are ours alone: regular, of our own user, under one name.

use std::path::{Path, PathBuf};

use rustix::fd::AsFd;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::calls;
use crate::error::{Error, Result, shell_word};

/// Checks an opened file. `None` when it has no name any more: it was deleted or replaced after it was opened.
pub(in crate::store) fn examine(
    file: impl AsFd,
    uid: u32,
    path: impl Fn() -> PathBuf,
) -> Result<Option<Stat>> {
    let stat =
        calls::stat(file).map_err(|errno| Error::io("cannot examine", path(), errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(suspicious(&path(), "is not a regular file"));
    }
    if stat.st_uid != uid {
        let reason = format!("belongs to uid {}", stat.st_uid);
        return Err(Error::refused(&path(), reason).with_hint(format!(
            "running as uid {uid}: all programs that share sessions must run as one user"
        )));
    }
    match stat.st_nlink {
        0 => Ok(None),
        1 => Ok(Some(stat)),
        _ => {
            let path = path();
            let file = shell_word(&path);
            let hint = format!(
                "it was left alone; remove its other name, as in a copy made of hard links, not this one; \
                 find DIR -samefile {file} shows the names in a directory"
            );
            Err(Error::refused(&path, "has more than one name (hard links)").with_hint(hint))
        }
    }
}

/// The refusal of a file that cannot be opened because of what it is; `None` for other failures.
pub(in crate::store) fn refusal(path: &Path, errno: Errno) -> Option<Error> {
    let reason = match errno {
        Errno::LOOP | Errno::MLINK => "is a symbolic link",
        Errno::ISDIR => "is a directory",
        Errno::NXIO | Errno::NODEV | Errno::OPNOTSUPP => "is not a regular file",
        _ => return None,
    };
    Some(suspicious(path, reason))
}

fn suspicious(path: &Path, reason: &str) -> Error {
    Error::refused(path, reason).with_hint("it was left alone; remove it by hand")
}
