//! The listening socket: given by whoever started the program, or made by it.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::net::{SocketFlags, sockopt};

use crate::error::{Error, Result};

/// A socket that web servers connect to.
pub(super) struct Listener {
    socket: OwnedFd,
    /// `FCGI_WEB_SERVER_ADDRS`: who may connect by TCP, when it is set.
    allowed: Option<Vec<IpAddr>>,
    /// A Unix socket that was made here goes away with the program.
    made: Option<PathBuf>,
}

/// Whether descriptor 0 is a listening socket, which is how FastCGI programs are started
/// (FastCGI 1.0, 2.2). Not whether it is a socket: Apache's `mod_cgid` gives a CGI program one.
pub(crate) fn is_on_stdin() -> bool {
    sockopt::socket_acceptconn(io::stdin()).unwrap_or(false)
}

impl Listener {
    /// Descriptor 0.
    pub(super) fn from_stdin() -> Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned();
        let socket =
            socket.map_err(|error| Error::io("cannot listen on", "descriptor 0", error))?;
        Listener::new(socket, None)
    }

    /// The first of systemd's `LISTEN_FDS`, if there is one.
    pub(super) fn from_systemd() -> Result<Option<Self>> {
        let mut given = listenfd::ListenFd::from_env();
        let failed = |error| Error::io("cannot listen on", "LISTEN_FDS", error);
        if let Ok(Some(unix)) = given.take_unix_listener(0) {
            return Listener::new(unix.into(), None).map(Some);
        }
        let tcp = given.take_tcp_listener(0).map_err(failed)?;
        tcp.map(|tcp| Listener::new(tcp.into(), None)).transpose()
    }

    /// A socket of our own: `unix:/path`, `/path`, or `address:port`.
    pub(super) fn bind(address: &OsStr) -> Result<Self> {
        let text = address.to_string_lossy();
        let path = text.strip_prefix("unix:").map(Path::new);
        if let Some(path) = path.or_else(|| text.starts_with('/').then(|| Path::new(address))) {
            let socket =
                bind_unix(path).map_err(|error| Error::io("cannot listen on", path, error))?;
            return Listener::new(socket.into(), Some(path.to_owned()));
        }
        let parsed = text.parse::<SocketAddr>();
        let parsed = parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error));
        let socket = parsed.and_then(TcpListener::bind).map_err(|error| {
            let hint = "write unix:/run/app.sock or 127.0.0.1:9000";
            Error::io("cannot listen on", &*text, error).with_hint(hint)
        })?;
        Listener::new(socket.into(), None)
    }

    fn new(socket: OwnedFd, made: Option<PathBuf>) -> Result<Self> {
        let failed =
            |errno: rustix::io::Errno| Error::io("cannot use the socket", "", errno.into());
        let flags = rustix::fs::fcntl_getfl(&socket).map_err(failed)?;
        // Another process may accept what we were told of; nobody may wait in accept for the next.
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK).map_err(failed)?;
        let allowed = env::var_os("FCGI_WEB_SERVER_ADDRS");
        let allowed = allowed.map(|list| allowed_by(&list.to_string_lossy()));
        let allowed = allowed.transpose()?;
        Ok(Listener {
            socket,
            allowed,
            made,
        })
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

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Whether or not it is still there, nobody listens on it any more.
            let _ = fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    // The web server connects as another user of the same group.
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(bound)
}

/// Whether this is a socket that nobody listens on: left by a process that was killed.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err()
}

fn allowed_by(list: &str) -> Result<Vec<IpAddr>> {
    let parse = |address: &str| {
        let parsed = address.trim().parse::<IpAddr>();
        parsed.map(|address| address.to_canonical()).map_err(|_| {
            Error::Config(format!("FCGI_WEB_SERVER_ADDRS: {address} is no IP address"))
        })
    };
    list.split(',').map(parse).collect()
}
