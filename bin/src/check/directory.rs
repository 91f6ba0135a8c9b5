//! The directory itself: there, ours, closed to others, and fit for session files.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

use cgi_session::shell_word;
use cgi_session::store::FileKind;
use rustix::fs::Access;

use super::finding::{Findings, Level};
use crate::account::Account;
use crate::owner::directory_of;

const TOPIC: &str = "directory";
const ANOTHER: &str = "name a directory of its own in storageFileDir";
const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const OPEN_TO_OTHERS: u32 = 0o077;

/// Looks at `path`; `true` when session files could lie there. `other` is the command that checks as another
/// user, where it is not known that programs run as `account`.
pub(super) fn check(
    path: &Path,
    account: &Account,
    other: Option<&str>,
    found: &mut Findings,
) -> bool {
    ancestors(path, found);
    let error = match fs::symlink_metadata(path) {
        Ok(stat) => return existing(path, &stat, account, other, found),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::NotFound => missing(path, account, found),
        ErrorKind::PermissionDenied => unreachable(path, account, found),
        _ => {
            let text = format!("cannot examine {}: {error}", path.display());
            found.problem(TOPIC, text).remedy(install(path, account));
        }
    }
    false
}

/// The command that makes the directory as it must be.
pub(super) fn install(path: &Path, account: &Account) -> String {
    let programs = account.of_programs();
    let owner = programs.as_ref().unwrap_or(account);
    format!(
        "install -d -m 0700 -o {} -g {} {}",
        owner.handle(),
        owner.gid,
        shell_word(path)
    )
}

fn existing(
    path: &Path,
    stat: &Metadata,
    account: &Account,
    other: Option<&str>,
    found: &mut Findings,
) -> bool {
    let (shown, word) = (path.display(), shell_word(path));
    if stat.file_type().is_symlink() {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let text = format!(
            "{shown} is a symbolic link; sessions are never kept behind one, because a user who may change it \
             could lead them elsewhere"
        );
        let target = target.display();
        let remedy = format!("name the directory itself: storageFileDir = {target}");
        found.problem(TOPIC, text).at(path).remedy(remedy);
        return false;
    }
    if !stat.is_dir() {
        let text = format!("{shown} is not a directory");
        found.problem(TOPIC, text).at(path).remedy(ANOTHER);
        return false;
    }
    let is_ours = stat.uid() == account.uid;
    if !is_ours {
        let owner = Account::of_uid(stat.uid(), stat.gid());
        let text = format!(
            "{shown} belongs to {owner}, not to {account}; it must be that of the user whom programs run as"
        );
        let remedy = match other {
            None => unless_shared(path, account.chown(path)),
            Some(check) => format!("sudo {check} --as {}", owner.handle()),
        };
        found.problem(TOPIC, text).at(path).remedy(remedy);
    }
    let is_writable = stat.mode() & WRITABLE_BY_OTHERS != 0;
    let (level, said) = if is_writable {
        let said = "can be written by others, who could plant or delete sessions; it is refused";
        (Level::Problem, said)
    } else if stat.mode() & OPEN_TO_OTHERS != 0 {
        let said = "can be listed or entered by others; the files in it are closed to them";
        (Level::Warning, said)
    } else if is_ours {
        let text = format!("{shown} belongs to {account}, closed to others");
        found.fine(TOPIC, text).at(path);
        return true;
    } else {
        return false;
    };
    let remedy = unless_shared(path, format!("chmod 0700 {word}"));
    let finding = found.add(level, TOPIC, format!("{shown} {said}"));
    finding.at(path).remedy(remedy);
    is_ours && !is_writable
}

/// A command that changes the directory, unless it holds other things too.
pub(super) fn unless_shared(path: &Path, command: String) -> String {
    if cgi_session::is_dedicated(path) {
        return command;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    let is_foreign =
        |name: &OsString| matches!(FileKind::of(name.as_encoded_bytes()), FileKind::Foreign);
    names.find(is_foreign).map_or(ANOTHER.to_owned(), |name| {
        format!("{ANOTHER}; this one holds {}, too", name.display())
    })
}

fn missing(path: &Path, account: &Account, found: &mut Findings) {
    let (shown, parent) = (path.display(), path.parent().unwrap_or(path));
    let may_make = Access::WRITE_OK | Access::EXEC_OK;
    let finding = if !parent.exists() {
        let text =
            format!("{shown} does not exist, nor does its parent, so that no program can make it");
        found.problem(TOPIC, text)
    } else if rustix::fs::access(parent, may_make).is_ok() {
        let text = format!("{shown} does not exist yet; the first session makes it");
        found.warning(TOPIC, text).at(parent)
    } else {
        let place = parent.display();
        let text = format!("{shown} does not exist, and {account} cannot make it in {place}");
        found.problem(TOPIC, text).at(parent)
    };
    finding.remedy(install(path, account));
}

/// Looks at the directory of a store that is one file; `true` when it and those beside it can be made there.
pub(super) fn of_file(file: &Path, account: &Account, found: &mut Findings) -> bool {
    let path = directory_of(file);
    ancestors(path, found);
    let (shown, file) = (path.display(), file.display());
    if rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return true;
    }
    let text = format!("{account} cannot make {file} and the files beside it in {shown}");
    let install = install(path, account);
    let remedy = if path.exists() {
        format!("if it holds sessions alone: {install}")
    } else {
        install
    };
    found.problem(TOPIC, text).at(path).remedy(remedy);
    false
}

/// The first directory on the way that is closed to us is the one that counts.
fn unreachable(path: &Path, account: &Account, found: &mut Findings) {
    let is_closed = |above: &&Path| rustix::fs::access(*above, Access::EXEC_OK).is_err();
    let closed = path.ancestors().skip(1).filter(is_closed).last();
    let closed = closed.unwrap_or(path);
    let (shown, place) = (path.display(), closed.display());
    let text = format!("{account} cannot reach {shown}, because {place} is closed to it");
    // What another account has closed may be closed for a reason.
    let remedy = if Account::owning(closed).is_some_and(|owner| owner.uid == account.uid) {
        format!("chmod u+x {}", shell_word(closed))
    } else {
        "name a directory elsewhere in storageFileDir, such as /var/lib/cgi-session".to_owned()
    };
    found.problem(TOPIC, text).at(closed).remedy(remedy);
}

/// A user who may rename the directory away may put another one in its place.
fn ancestors(path: &Path, found: &mut Findings) {
    for above in path.ancestors().skip(1) {
        let Ok(stat) = fs::metadata(above) else {
            continue;
        };
        if stat.mode() & WRITABLE_BY_ALL != 0 && stat.mode() & STICKY == 0 {
            let text = format!(
                "everybody can write in {}, and so put another directory in the place of {}",
                above.display(),
                path.display()
            );
            // Others keep what they may do there, but for removing what is not theirs.
            let remedy = format!("chmod +t {}", shell_word(above));
            found.problem("parent", text).at(above).remedy(remedy);
        }
    }
}

/// Does what a session file goes through; `true` when everything worked.
pub(super) fn try_out(directory: &Path, account: &Account, found: &mut Findings) -> bool {
    let shown = directory.display();
    let (step, error) = match run(directory) {
        Ok(()) => {
            let text = "a file can be created, locked, written, renamed and deleted there";
            found.fine("trial", text);
            return true;
        }
        Err(failed) => failed,
    };
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => install(directory, account),
        ErrorKind::ReadOnlyFilesystem => {
            format!("mount it writable; under systemd with ProtectSystem=: ReadWritePaths={shown}")
        }
        kind => make_room(kind, directory)
            .unwrap_or_else(|| "another storageFileDir, on a local disk".to_owned()),
    };
    let text = format!("{account} cannot {step} in {shown}: {error}");
    found.problem("trial", text).at(directory).remedy(remedy);
    false
}

/// What helps where there is no room left.
pub(super) fn make_room(kind: ErrorKind, directory: &Path) -> Option<String> {
    let word = shell_word(directory);
    let is_full = matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    is_full.then(|| format!("make room: df -h {word}; df -i {word}"))
}

fn run(directory: &Path) -> Result<(), (&'static str, io::Error)> {
    let at = |step: &'static str| move |error| (step, error);
    // Should this process be killed, the next clean-up takes the files away.
    let file = |number: u64| Trace(directory.join(format!(".tmp-{}-{number:016x}", process::id())));
    let (one, two) = (file(1), file(2));
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(&one.0).map_err(at("create a file"))?;
    locks_exclude(&file, &one.0).map_err(at("lock a file"))?;
    file.write_all(b"[null]\n")
        .and_then(|()| file.sync_all())
        .map_err(at("write a file"))?;
    fs::rename(&one.0, &two.0).map_err(at("rename a file"))?;
    fs::remove_file(&two.0).map_err(at("delete a file"))
}

fn locks_exclude(file: &File, path: &Path) -> io::Result<()> {
    file.try_lock()?;
    match File::open(path)?.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Err(io::Error::other(
            "two processes had the lock at once; this file system has no working flock(2)",
        )),
    }
}

/// A file of the trial, which is gone when the trial is over.
struct Trace(PathBuf);

impl Drop for Trace {
    fn drop(&mut self) {
        // It is gone already when all went well.
        let _ = fs::remove_file(&self.0);
    }
}
