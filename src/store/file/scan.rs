//! What lies in the directory: every entry looked at once, by its name.

use std::ops::ControlFlow;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::inner::FileStoreInner;
use crate::error::Result;
use crate::id::SessionDigest;
use crate::store::files::calls;

/// The lock of clean-up and eviction; its time is that of the last clean-up.
pub(super) const SWEEP_LOCK: &str = ".gc";
/// How many sessions there are, as 8 bytes little endian. Only kept when there is a cap.
pub(super) const COUNT: &str = ".count";

/// The lock under which sessions become a user's while there is a limit to them.
pub(super) const USERS_LOCK: &str = ".users";

/// What a name in the directory of a [`FileStore`](super::FileStore) stands for.
#[derive(Debug)]
pub enum Kind {
    /// A session's file.
    Session(SessionDigest),
    /// A file that was to take a session's place.
    Temporary,
    /// A damaged session, kept for the administrator.
    SetAside,
    /// Which sessions may be a user's.
    Index,
    /// One of the 256 subdirectories.
    Shard,
    /// `.gc`, `.count`, `.users`, and the directory's own two names.
    Own,
    /// Anything else.
    Foreign,
}

impl Kind {
    /// By the name alone.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"." | b".." | b".gc" | b".count" | b".users" => Kind::Own,
            [a, b] if is_hex(*a) && is_hex(*b) => Kind::Shard,
            _ if is_temporary(name) => Kind::Temporary,
            _ => {
                let digest =
                    |ending: &[u8]| name.strip_suffix(ending).and_then(SessionDigest::parse);
                match digest(b".json") {
                    Some(session) => Kind::Session(session),
                    None if digest(b".corrupt").is_some() => Kind::SetAside,
                    None if digest(b".user").is_some() => Kind::Index,
                    None => Kind::Foreign,
                }
            }
        }
    }
}

/// Whether a name is one of [`Directory::temporary_name`](crate::store::files::directory::Directory): the
/// temporary file of another program is not ours to delete.
fn is_temporary(name: &[u8]) -> bool {
    let parts = name.strip_prefix(b".tmp-");
    let parts = parts.and_then(|rest| rest.split_last_chunk::<16>());
    parts.is_some_and(|(pid, random)| {
        let pid = pid.strip_suffix(b"-").unwrap_or_default();
        let is_number = !pid.is_empty() && pid.iter().all(u8::is_ascii_digit);
        is_number && random.iter().copied().all(is_hex)
    })
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// A directory that session files lie in: the whole store, or one shard of it.
pub(super) struct Folder {
    pub(super) handle: OwnedFd,
    /// What stands before a name in the store: nothing, or `ab/`.
    pub(super) prefix: String,
}

impl FileStoreInner {
    /// The names that the folders of the store have: nothing for the store itself, then those of its shards. They
    /// are looked at whatever `shards` says now, because it may have said otherwise before.
    pub(super) fn folder_names(&self) -> Result<Vec<String>> {
        let mut names = vec![String::new()];
        if let Some(root) = self.open_folder("")?
            && may_have_subdirectories(&root)
        {
            names.extend((0..=u8::MAX).map(|shard| format!("{shard:02x}/")));
        }
        Ok(names)
    }

    /// Opens a folder; `None` when it is gone or no directory.
    pub(super) fn open_folder(&self, prefix: &str) -> Result<Option<Folder>> {
        let Some(root) = self.directory.handle()? else {
            return Ok(None);
        };
        let name = if prefix.is_empty() {
            "."
        } else {
            prefix.trim_end_matches('/')
        };
        match calls::open_directory_at(&*root, name) {
            Ok(handle) => Ok(Some(Folder {
                handle,
                prefix: prefix.to_owned(),
            })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => {
                let action = "cannot open the directory";
                Err(self.failed(action, prefix, errno))
            }
        }
    }

    /// Calls `visit` for every entry of a folder until it breaks.
    pub(super) fn each_entry(
        &self,
        folder: &Folder,
        mut visit: impl FnMut(&str, Kind) -> ControlFlow<()>,
    ) -> Result<()> {
        let listed = calls::each_name(&folder.handle, |name| {
            visit(&String::from_utf8_lossy(name), Kind::of(name))
        });
        listed.map_err(|errno| self.failed("cannot list", &folder.prefix, errno))
    }

    /// Calls `visit` for every session file of the store until it breaks.
    pub(super) fn each_session(
        &self,
        mut visit: impl FnMut(&Folder, &SessionDigest) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut flow = ControlFlow::Continue(());
        for prefix in self.folder_names()? {
            let Some(folder) = self.open_folder(&prefix)? else {
                continue;
            };
            self.each_entry(&folder, |_, kind| {
                if let Kind::Session(session) = kind {
                    flow = visit(&folder, &session);
                }
                flow
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Most file systems count a directory's `..` entries in its links: with two links it has no
/// subdirectory. Those that do not count say 1.
fn may_have_subdirectories(folder: &Folder) -> bool {
    calls::stat(&folder.handle).map_or(true, |stat| stat.st_nlink != 2)
}
