//! The database's file: found, checked and opened, and what its errors mean.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Display, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cgi_session::{Config, Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// So many connections are kept for the next request.
const KEPT: usize = 16;
/// SQLite counts the milliseconds that it waits in 31 bits.
const MAX_WAIT: Duration = Duration::from_millis((1 << 31) - 1);
/// What the name of the database ends with until it is one.
pub(super) const NEW: &str = "-new";

/// The database and its open connections.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) path: PathBuf,
    /// Our user, who must own the file.
    uid: u32,
    is_durable: bool,
    pub(super) busy_timeout: Duration,
    idle: Mutex<Vec<Opened>>,
}

/// An open connection, taken for one use.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// The file that it leads to.
    file: FileNumber,
}

/// Device and inode.
type FileNumber = (u64, u64);

impl Database {
    pub(super) fn new(path: PathBuf, config: &Config) -> Self {
        Database {
            path,
            uid: rustix::process::geteuid().as_raw(),
            is_durable: config.is_durable(),
            busy_timeout: config.lock_timeout().min(MAX_WAIT),
            idle: Mutex::default(),
        }
    }

    pub(super) fn shown(&self) -> Display<'_> {
        self.path.display()
    }

    /// A connection to the database, or `None` when there is none: it is not made.
    pub(super) fn open_existing(&self) -> Result<Option<Opened>> {
        let Some(file) = self.examine()? else {
            return Ok(None);
        };
        let kept = self.idle().pop();
        match kept {
            // Else another file has taken its place.
            Some(opened) if opened.file == file => Ok(Some(opened)),
            _ => {
                let connection = self.connect();
                let connection = connection.map_err(|error| self.explain("open", error))?;
                Ok(Some(Opened { connection, file }))
            }
        }
    }

    /// Makes the file, empty and for us alone; one that is there already is left as it is. For one
    /// process at a time: it removes what another one has left that died here.
    pub(super) fn make_file(&self) -> Result<()> {
        let failed = |errno: Errno| {
            let error = Error::io("cannot create the database", &self.path, errno.into());
            error.with_hint(self.advice())
        };
        let mut new = self.path.clone().into_os_string();
        new.push(NEW);
        let new = PathBuf::from(new);
        match rustix::fs::unlink(&new) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&new, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        // Closed before its name is the database's: with any descriptor of the database, closing
        // takes away the locks that SQLite has on it in this process (fcntl(2)).
        drop(file);
        let linked = rustix::fs::link(&new, &self.path);
        let unlinked = rustix::fs::unlink(&new);
        match linked {
            Ok(()) | Err(Errno::EXIST) => unlinked.map_err(failed),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Keeps a connection for the next use. One that failed inside a transaction is closed.
    pub(super) fn keep(&self, opened: Opened) {
        let mut idle = self.idle();
        if idle.len() < KEPT && opened.connection.is_autocommit() {
            idle.push(opened);
        }
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        // The last one empties the log, for which no other thread is to wait.
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Opened>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        // In WAL mode NORMAL can lose the last commits when power fails, but damages nothing.
        let synchronous = if self.is_durable { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        Ok(connection)
    }

    /// Checks the file: regular, and ours alone to write. `None` when there is none.
    fn examine(&self) -> Result<Option<FileNumber>> {
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::io("cannot examine the database", &self.path, error)
                    .with_hint(self.advice()));
            }
        };
        let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        let word = cgi_session::shell_word(&self.path);
        let (reason, hint) = if metadata.is_dir() {
            ("is a directory".to_owned(), "database must name a file")
        } else if !metadata.is_file() {
            let hint = "it was left alone; database must name a file, not a link to one";
            ("is not a regular file".to_owned(), hint)
        } else if uid != self.uid {
            let reason = format!("belongs to uid {uid}");
            let hint = format!(
                "running as uid {}; if it holds sessions alone: chown {0} {word}",
                self.uid
            );
            return Err(Error::refused(&self.path, reason).with_hint(hint));
        } else if mode & 0o022 != 0 {
            let reason = format!("can be written by others (mode {mode:04o})");
            let hint = format!("if it holds sessions alone: chmod 0600 {word}");
            return Err(Error::refused(&self.path, reason).with_hint(hint));
        } else {
            return Ok(Some((metadata.dev(), metadata.ino())));
        };
        Err(Error::refused(&self.path, reason).with_hint(hint))
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
                    waited: self.busy_timeout,
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
            Some(ErrorCode::DiskFull) => {
                "make room, or raise the quota; try: df and df -i".to_owned()
            }
            _ => String::new(),
        };
        Error::store(format!("cannot {action} {path}"), error).with_hint(hint)
    }

    fn advice(&self) -> String {
        let directory = self.path.parent().unwrap_or(&self.path);
        format!(
            "running as uid {}: it must be able to write the database and, for the files beside it, its directory; \
             try: ls -ld {} {}",
            self.uid,
            directory.display(),
            self.path.display()
        )
    }
}

/// Begins to write: no other connection does until this is committed or dropped.
pub(super) fn begin(opened: &mut Opened) -> rusqlite::Result<Transaction<'_>> {
    let behavior = TransactionBehavior::Immediate;
    opened.connection.transaction_with_behavior(behavior)
}

/// The path in the configuration's `database`.
pub(super) fn path(config: &Config) -> Result<PathBuf> {
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

/// Whether a statement failed only because no session was ever stored.
pub(super) fn is_missing_table(error: &rusqlite::Error) -> bool {
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        _ => return false,
    };
    message.starts_with("no such table: ")
}
