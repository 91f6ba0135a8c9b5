//! What most tests name: `use testkit::prelude::*`.

pub use std::collections::{BTreeMap, BTreeSet};
pub use std::ffi::OsStr;
pub use std::fs::{self, File, OpenOptions, Permissions};
pub use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
pub use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
pub use std::ops::ControlFlow;
pub use std::os::fd::OwnedFd;
pub use std::os::unix::ffi::OsStrExt as _;
pub use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
pub use std::os::unix::net::{UnixListener, UnixStream};
pub use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
pub use std::path::{Path, PathBuf};
pub use std::process::{Child, Command, ExitStatus, Stdio};
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub use std::sync::{Arc, Barrier, Mutex};
pub use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
pub use std::{env, thread};

pub use cgi_session::{
    Config, Error, FileStore, Lease, Record, Request, Response, Session, SessionDigest, SessionId,
    SessionManager, Store, Sweep,
};
pub use rustix::process::{Pid, Signal};
pub use serde_json::{Value, json};
pub use tempfile::TempDir;

pub use crate::database::DatabaseServer;
pub use crate::disk::SmallDisk;
pub use crate::holding::Holding;
pub use crate::outside::{Killed, Over, free_port, give, send};
pub use crate::postgres::PostgresServer;
pub use crate::program::{Cgi, Outcome};
pub use crate::redis::{RedisServer, redis};
pub use crate::servers::Servers;
pub use crate::sessions::{change, header_of, set};
pub use crate::site::Site;
pub use crate::stores::{fails, is_lost, saves, says, stored};
pub use crate::tools::Finished;
pub use crate::{
    DEADLINE, Words, example, holds, is_installed, is_root, may_act_as_root, not_installed,
    repository, skip, tool, wait_until,
};
