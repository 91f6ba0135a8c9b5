//! The database's file: found, checked and opened, and what its errors mean.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use cgi_session::store::SessionLocks;
use cgi_session::{Config, Error, Result};
use cgi_session_kit::lock;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// So many connections are kept for the next request.
const KEPT: usize = 16;
/// SQLite counts the milliseconds that it waits in 31 bits.
const MAX_WAIT: Duration = Duration::from_millis((1 << 31) - 1);

/// What the store, its leases and its clean-up have in common: the database and its open connections, and the locks.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) path: PathBuf,
    pub(super) locks: SessionLocks,
    pub(super) config: Config,
    idle: Mutex<Vec<Opened>>,
}

/// An open connection, taken for one use.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Device and inode of the file that it leads to.
    file: (u64, u64),
}

impl Database {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let path = path(config)?;
        Ok(Database {
            locks: SessionLocks::new(format!("{}.locks", path.display()).as_ref()),
            path,
            config: config.clone(),
            idle: Mutex::default(),
        })
    }

    pub(super) fn busy_timeout(&self) -> Duration {
        self.config.lock_timeout().min(MAX_WAIT)
    }

    /// A connection to the database, or `None` when there is none: it is not made.
    pub(super) fn open_existing(&self) -> Result<Option<Opened>> {
        let Some(file) = self.examine()? else {
            return Ok(None);
        };
        let kept = lock(&self.idle).pop();
        // Else another file has taken its place.
        if let Some(opened) = kept.filter(|opened| opened.file == file) {
            return Ok(Some(opened));
        }
        let connection = self.connect();
        let connection = connection.map_err(|error| self.explain("open", error))?;
        Ok(Some(Opened { connection, file }))
    }

    /// Makes the file, empty and for us alone; one that is there already is left as it is.
    pub(super) fn make_file(&self) -> Result<()> {
        self.examine()?;
        // Without opening it: with any descriptor of the database, closing takes away the locks that SQLite has on it in
        // this process (fcntl(2)).
        match mknodat(
            CWD,
            &self.path,
            FileType::RegularFile,
            Mode::RUSR | Mode::WUSR,
            0,
        ) {
            Err(error) if error != Errno::EXIST => {
                Err(self.inaccessible("cannot create the database", error.into()))
            }
            _ => Ok(()),
        }
    }

    /// Keeps a connection for the next use. One that failed inside a transaction is closed.
    pub(super) fn keep(&self, opened: Opened) {
        let mut idle = lock(&self.idle);
        if idle.len() < KEPT && opened.connection.is_autocommit() {
            idle.push(opened);
        }
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        // The last one empties the log, for which no other thread is to wait.
        let idle = std::mem::take(&mut *lock(&self.idle));
        drop(idle);
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout())?;
        // In WAL mode NORMAL can lose the last commits when power fails, but damages nothing.
        let is_durable = self.config.is_durable();
        let synchronous = if is_durable { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        Ok(connection)
    }

    /// Checks the file: regular, and ours alone to write. Its device and inode, or `None` when there is none. What anyone
    /// can put beside it, SQLite takes for a part of it.
    fn examine(&self) -> Result<Option<(u64, u64)>> {
        let directory = self.path.parent().unwrap_or(&self.path);
        if fs::metadata(directory).is_ok_and(|found| found.mode() & 0o002 != 0) {
            let error = Error::refused(&self.path, "is where everybody can write");
            return Err(error.with_hint("database must name a file in a directory of its own"));
        }
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.inaccessible("cannot examine the database", error)),
        };
        let refused = |reason: &str, hint: &str| {
            let error = Error::refused(&self.path, reason);
            Err(error.with_hint(hint))
        };
        let (own, uid, mode) = (geteuid().as_raw(), metadata.uid(), metadata.mode() & 0o7777);
        let word = cgi_session::shell_word(&self.path);
        if metadata.is_dir() {
            refused("is a directory", "database must name a file")
        } else if !metadata.is_file() {
            let hint = "it was left alone; database must name a file, not a link to one";
            refused("is not a regular file", hint)
        } else if uid != own {
            let running = format!("running as uid {own}");
            let hint = format!("{running}; if it holds sessions alone: chown -R {own} {word}*");
            refused(&format!("belongs to uid {uid}"), &hint)
        } else if mode & 0o022 != 0 {
            let reason = format!("can be written by others (mode {mode:04o})");
            let hint = format!("if it holds sessions alone: chmod 0600 {word}");
            refused(&reason, &hint)
        } else {
            Ok(Some((metadata.dev(), metadata.ino())))
        }
    }

    /// An error of SQLite's with what to do about it.
    pub(super) fn explain(&self, action: &str, error: rusqlite::Error) -> Error {
        let path = self.path.display();
        let hint = match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed,
            ) => {
                return Error::Busy {
                    waited: self.busy_timeout(),
                    holder: Some(format!("a program that has the database {path} locked")),
                };
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => format!(
                "it was left as it is; stop the programs, move {path} away together with {path}-wal and {path}-shm, \
                 and put a backup in its place, or nothing for a new one"
            ),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                self.advice()
            }
            Some(ErrorCode::DiskFull) => "make room, or raise the quota; try: df; df -i".into(),
            _ => String::new(),
        };
        Error::store(format!("cannot {action} {path}"), error).with_hint(hint)
    }

    fn inaccessible(&self, action: &'static str, error: io::Error) -> Error {
        Error::io(action, &self.path, error).with_hint(self.advice())
    }

    fn advice(&self) -> String {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let directory = self.path.parent().unwrap_or(&self.path);
        let [database, word] = [&self.path, directory].map(cgi_session::shell_word);
        let remedy = match fs::metadata(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                format!("try: install -d -m 0700 -o {uid} -g {gid} {word}")
            }
            Ok(found) if found.uid() != uid => {
                format!("if it holds sessions alone: chown {uid} {word}")
            }
            _ => format!("try: ls -ld {word} {database}"),
        };
        format!(
            "running as uid {uid}: it must be able to write the database and, for the files beside it, its directory; \
             {remedy}"
        )
    }
}

/// Begins to write: no other connection does until this is committed or dropped.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<Transaction<'_>> {
    Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
}

/// The path in the configuration's `database`.
fn path(config: &Config) -> Result<PathBuf> {
    let database = config.database().unwrap_or_default();
    let path = database.strip_prefix("sqlite:").unwrap_or(database);
    // As a URL it may have an empty host.
    let path = path
        .strip_prefix("//")
        .filter(|path| path.starts_with('/'))
        .unwrap_or(path);
    if Path::new(path).is_absolute() {
        return Ok(PathBuf::from(path));
    }
    let told = if database.is_empty() {
        "is not set".to_owned()
    } else {
        let shown = config.get("database").unwrap_or_default();
        format!("= {shown} ({})", config.origin("database"))
    };
    Err(Error::Config(format!(
        "database {told}: storageType = sqlite needs the absolute path of a file, such as \
         /var/lib/cgi-session/sessions.db"
    )))
}
