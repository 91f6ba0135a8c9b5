//! The listening socket: inherited, or created by the program.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::error::{Error, Result};
use crate::store::files::lock::LockedFile;

/// The variable that names the web servers that may connect by TCP.
const ALLOWED: &str = "FCGI_WEB_SERVER_ADDRS";

/// How many connections wait to be accepted; the kernel has its own limit.
const BACKLOG: i32 = 4096;
/// How long another program of this library may take to put its socket in a directory.
const DIRECTORY_LOCK: Duration = Duration::from_secs(5);

/// A socket that web servers connect to.
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    /// `FCGI_WEB_SERVER_ADDRS`: which addresses may connect by TCP, when it is set.
    allowed: Option<Vec<IpAddr>>,
    /// A socket of our own is closed when the program is to end. One that was given stays open.
    is_own: bool,
    name: Option<SocketName>,
}

/// The name of a Unix socket that was made here.
struct SocketName {
    path: PathBuf,
    /// What it leads to while it is ours.
    inode: (u64, u64),
}

/// Where a socket of our own is, and who may connect to it.
pub(crate) struct Bind {
    /// `unix:/path`, `/path`, or `address:port`.
    pub(crate) address: OsString,
    pub(crate) mode: u32,
    pub(crate) group: Option<String>,
}

/// Whether descriptor 0 is a listening socket, which is how FastCGI programs are started
/// (FastCGI 1.0, 2.2). Not whether it is a socket: Apache's `mod_cgid` gives a CGI program one.
pub(crate) fn is_on_stdin() -> bool {
    sockopt::socket_acceptconn(io::stdin()).unwrap_or(false)
}

impl Listener {
    /// Descriptor 0, which is empty from then on: a program that a handler starts would have the socket as its
    /// input, and hold it when this one has ended.
    pub(super) fn from_stdin() -> Result<Self> {
        let failed = |error| Error::io("cannot listen on", "descriptor 0", error);
        let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        // A chroot may have no /dev/null; a pipe that nobody writes to is as empty.
        let nothing = File::open("/dev/null")
            .map(OwnedFd::from)
            .or_else(|_| io::pipe().map(|(nothing, _)| nothing.into()));
        let nothing = nothing.map_err(failed)?;
        rustix::stdio::dup2_stdin(nothing).map_err(|errno| failed(errno.into()))?;
        Listener::new(socket)
    }

    /// The one socket of systemd's `LISTEN_FDS`.
    pub(super) fn from_systemd() -> Result<Self> {
        let mut given = listenfd::ListenFd::from_env();
        if given.len() > 1 {
            return Err(Error::Config(format!(
                "LISTEN_FDS has {} sockets, and a program listens on one: give each a .socket unit of its own",
                given.len()
            )));
        }
        let failed = |error| Error::io("cannot listen on", "LISTEN_FDS", error);
        let socket: Option<OwnedFd> = match given.take_unix_listener(0) {
            Ok(Some(unix)) => Some(unix.into()),
            _ => given.take_tcp_listener(0).map_err(failed)?.map(Into::into),
        };
        match socket {
            Some(socket) if sockopt::socket_acceptconn(&socket).unwrap_or(false) => {
                Listener::new(socket)
            }
            _ => Err(Error::Config(
                "LISTEN_FDS holds no listening socket".to_owned(),
            )),
        }
    }

    pub(super) fn bind(bind: &Bind) -> Result<Self> {
        let text = bind.address.to_string_lossy();
        let path = text.strip_prefix("unix:").map(Path::new);
        let path = path.or_else(|| text.starts_with('/').then(|| Path::new(&bind.address)));
        let (socket, name) = match path {
            Some(path) => {
                let (socket, name) = bind_unix(path, bind)?;
                (socket, Some(name))
            }
            None => (bind_tcp(&text)?.into(), None),
        };
        let listening = rustix::net::listen(&socket, BACKLOG);
        listening.map_err(|errno| Error::io("cannot listen on", &*text, errno.into()))?;
        Ok(Listener {
            is_own: true,
            name,
            ..Listener::new(socket)?
        })
    }

    fn new(socket: OwnedFd) -> Result<Self> {
        let failed =
            |errno: rustix::io::Errno| Error::io("cannot use the socket", "", errno.into());
        let flags = rustix::fs::fcntl_getfl(&socket).map_err(failed)?;
        // Another process may take the connection first; accept must not wait for the next one.
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK).map_err(failed)?;
        let allowed = env::var_os(ALLOWED);
        let address = rustix::net::getsockname(&socket).map_err(failed)?;
        if let Ok(address) = SocketAddr::try_from(address)
            && !address.ip().to_canonical().is_loopback()
            && allowed.is_none()
        {
            log::warn!(
                "every peer that can connect to {address} is trusted as the web server, and sets every variable of a \
                 request; listen on 127.0.0.1 or a Unix socket, or name the web servers in {ALLOWED}"
            );
        }
        let allowed = allowed.map(|list| allowed_by(&list.to_string_lossy()));
        Ok(Listener {
            socket,
            allowed: allowed.transpose()?,
            is_own: false,
            name: None,
        })
    }

    /// Gives up a socket of our own, so that another program may take its place, and returns the
    /// connections that were waiting. An inherited one stays open for other processes.
    pub(super) fn end(&self) -> Vec<OwnedFd> {
        if !self.is_own {
            return Vec::new();
        }
        if let Some(name) = &self.name {
            name.give_up();
        }
        let mut waiting = self.accept_all();
        // It was open until now, and is closed in any case when the program ends.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
        waiting.extend(self.accept_all());
        waiting
    }

    fn accept_all(&self) -> Vec<OwnedFd> {
        // More cannot wait.
        let accepted = (0..BACKLOG).map_while(|_| self.accept().ok());
        accepted.flatten().collect()
    }

    /// Takes a connection that is waiting; `None` when there is none, or it may not be served.
    pub(super) fn accept(&self) -> rustix::io::Result<Option<OwnedFd>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, peer) = rustix::net::acceptfrom_with(&self.socket, flags)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        if let Some(peer) = peer {
            if self
                .allowed
                .as_ref()
                .is_some_and(|allowed| !allowed.contains(&peer.ip().to_canonical()))
            {
                return Ok(None);
            }
            // A record in two segments would wait 40 ms for the acknowledgement of the first.
            sockopt::set_tcp_nodelay(&socket, true)?;
        }
        Ok(Some(socket))
    }
}

impl SocketName {
    /// Removes the name, unless it is another socket's by now.
    fn give_up(&self) {
        let _lock = lock_directory(&self.path);
        if inode(&self.path).is_ok_and(|found| found == self.inode) {
            // Left behind, it is replaced by the next program.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketName {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Makes a Unix socket, to which no peer can connect before it listens.
fn bind_unix(path: &Path, bind: &Bind) -> Result<(OwnedFd, SocketName)> {
    let failed = |error: io::Error| Error::io("cannot listen on", path, error);
    let group = bind.group.as_deref().map(group_id).transpose()?;
    let socket = unix_socket().map_err(|errno| failed(errno.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
    // Given up after the lock, for which it would wait.
    let name;
    // Between the look at an abandoned name and its removal another program may take it.
    let _lock = lock_directory(path);
    let mut bound = rustix::net::bind(&socket, &address);
    if bound == Err(Errno::ADDRINUSE) && is_abandoned(path, &address) {
        fs::remove_file(path).map_err(failed)?;
        bound = rustix::net::bind(&socket, &address);
    }
    bound.map_err(|errno| {
        if errno == Errno::ADDRINUSE && !is_socket(path) {
            let found = io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket");
            let hint = if path.is_dir() {
                "name a socket in it, such as app.sock"
            } else {
                "try: remove it, or listen on another path"
            };
            return failed(found).with_hint(hint);
        }
        failed(errno.into())
    })?;
    name = SocketName {
        path: path.to_owned(),
        inode: inode(path).map_err(failed)?,
    };
    if group.is_some() {
        let changed = std::os::unix::fs::lchown(path, None, group);
        changed.map_err(|error| Error::io("cannot change the group of", path, error))?;
    }
    fs::set_permissions(path, Permissions::from_mode(bind.mode)).map_err(failed)?;
    Ok((socket, name))
}

fn bind_tcp(text: &str) -> Result<TcpListener> {
    let parsed = text.parse::<SocketAddr>();
    let parsed = parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error));
    parsed.and_then(TcpListener::bind).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::InvalidInput => "write unix:/run/app.sock or 127.0.0.1:9000",
            io::ErrorKind::AddrInUse => "another program listens there: ss -ltnp shows which",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            io::ErrorKind::PermissionDenied => "ports below 1024 are for root",
            _ => return Error::io("cannot listen on", text, error),
        };
        Error::io("cannot listen on", text, error).with_hint(hint)
    })
}

/// Keeps other programs of this library from changing the names of sockets in the directory of this one.
/// A directory that cannot be locked is used as it is.
fn lock_directory(path: &Path) -> Option<LockedFile> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or(Path::new("."))).ok()?;
    let path = || path.to_owned();
    LockedFile::exclusive(directory, DIRECTORY_LOCK, DIRECTORY_LOCK, path).ok()
}

/// The number of a group by its name, or the number itself.
fn group_id(group: &str) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group");
    let groups = groups.map_err(|error| Error::io("cannot read", "/etc/group", error))?;
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| {
        Error::Config(format!(
            "--socket-group: there is no group {group} in /etc/group; its number is accepted, too"
        ))
    })
}

/// Whether this is a socket that was left by a process that was killed. Any other refusal to connect tells
/// of one in use.
fn is_abandoned(path: &Path, address: &SocketAddrUnix) -> bool {
    let refused = || rustix::net::connect(unix_socket()?, address);
    is_socket(path) && refused() == Err(Errno::CONNREFUSED)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn unix_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn allowed_by(list: &str) -> Result<Vec<IpAddr>> {
    let parse = |address: &str| {
        let parsed = address.trim().parse::<IpAddr>();
        parsed
            .map(|address| address.to_canonical())
            .map_err(|_| Error::Config(format!("{ALLOWED}: {address} is no IP address")))
    };
    list.split(',').map(parse).collect()
}
