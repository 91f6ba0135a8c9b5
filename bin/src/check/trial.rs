//! Does what a session file goes through: create, lock, write, rename, delete.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use super::directory::install;
use super::finding::{Finding, Findings};
use crate::account::Account;

const TOPIC: &str = "trial";

/// Tries `directory` out; `true` when everything worked.
pub(super) fn check(directory: &Path, account: &Account, found: &mut Findings) -> bool {
    match run(directory) {
        Ok(()) => {
            let text = "a file can be created, locked, written, renamed and deleted there";
            found.add(Finding::fine(TOPIC, text.to_owned()));
            true
        }
        Err((step, error)) => {
            let text = format!(
                "{account} cannot {step} in {}: {error}",
                directory.display()
            );
            let finding = Finding::problem(TOPIC, text).at(directory);
            found.add(finding.remedy(remedy(directory, account, &error)));
            false
        }
    }
}

fn run(directory: &Path) -> Result<(), (&'static str, io::Error)> {
    let at = |step: &'static str| move |error| (step, error);
    // Should this process be killed, the next clean-up takes the files away.
    let one = Trace(directory.join(format!(".tmp-check-{}", process::id())));
    let two = Trace(directory.join(format!(".tmp-check-{}-renamed", process::id())));
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

fn remedy(directory: &Path, account: &Account, error: &io::Error) -> String {
    let shown = directory.display();
    match error.kind() {
        ErrorKind::PermissionDenied => install(directory, account),
        ErrorKind::ReadOnlyFilesystem => {
            format!("mount it writable; under systemd with ProtectSystem=: ReadWritePaths={shown}")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("make room: df -h {shown}; df -i {shown}")
        }
        _ => "another storageFileDir, on a local disk".to_owned(),
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
