//! What most tests name: `use testkit::prelude::*`.

pub use std::collections::{BTreeMap, BTreeSet};
pub use std::fs::{self, File, Permissions};
pub use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
pub use std::net::{SocketAddr, TcpListener, TcpStream};
pub use std::ops::ControlFlow;
pub use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
pub use std::os::unix::net::UnixListener;
pub use std::os::unix::process::CommandExt as _;
pub use std::path::{Path, PathBuf};
pub use std::process::{Child, Command, Stdio};
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub use std::sync::{Arc, Mutex};
pub use std::time::{Duration, Instant, SystemTime};
pub use std::{env, thread};

pub use cgi_session::{
    Config, Error, FileStore, Lease, Record, Request, Response, Session, SessionDigest, SessionId,
    SessionManager, Store, Sweep,
};
pub use rustix::process::{Pid, Signal};
pub use serde_json::{Value, json};
pub use tempfile::TempDir;

pub use crate::database::DatabaseServer;
pub use crate::outside::{Killed, free_port, send};
pub use crate::postgres::PostgresServer;
pub use crate::program::{Cgi, Outcome};
pub use crate::redis::{RedisServer, redis};
pub use crate::servers::Servers;
pub use crate::sessions::{change, header_of, set};
pub use crate::stores::{fails, is_lost, saves, says, stored};
pub use crate::tools::Finished;
pub use crate::{
    DEADLINE, Words, example, holds, is_installed, is_root, may_act_as_root, not_installed,
    repository, skip, tool, wait_until,
};
