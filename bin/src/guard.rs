//! `cgi-session guard`: answers a web server that asks whose session a request has.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cgi_session::{Error, Program, Request, Response, SessionManager};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION};
use rustix::fs::FileType;

use crate::report::{self, Ended};
use crate::sessions;

const EXAMPLES: &str = "\
Examples:
  # For auth_request of nginx, and for lighttpd
  cgi-session guard --listen unix:/run/cgi-session-guard/guard.sock --socket-group www-data

  # For Apache, whose module knows no Unix sockets
  cgi-session guard --listen 127.0.0.1:9010

Answers FastCGI requests, as Responder and as Authorizer, by the session that their cookie opens, or their header field
with `idFrom = header:NAME`:

  200  it has a user, whom the header Variable-REMOTE_USER names
  401  there is no such session, or it has no user; with --login a redirect. No WWW-Authenticate goes with
       it: the browser would ask for a password
  403  the user's name holds a control character, or begins or ends with a space: as a header
       it would be another name
  503  the sessions cannot be read

It reads the session without waiting for its lock, and that counts as use. A session that was destroyed, an
id that was changed and a private record open nothing. What stands behind the server must not take the
user's name from the client: examples/deploy (in /usr/share/doc/cgi-session) has the settings for
nginx, Apache and lighttpd. SIGTERM ends it when what runs is answered.";

const USER: HeaderName = HeaderName::from_static("variable-remote_user");

/// Answer a web server that asks whose session a request has
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Listen on `unix:/path/of.sock` or 127.0.0.1:9010, and not on descriptor 0 or a socket of systemd
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<OsString>,

    /// The permissions of the Unix socket
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = octal)]
    socket_mode: u32,

    /// The group of the Unix socket: the web server's
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,

    /// Redirect to this address instead of answering 401; not for nginx, which redirects by `error_page`
    #[arg(long, value_name = "URL", value_parser = HeaderValue::from_str)]
    login: Option<HeaderValue>,
}

fn octal(text: &str) -> Result<u32, std::num::ParseIntError> {
    u32::from_str_radix(text, 8)
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    if arguments.listen.is_none() && !has_socket() {
        let line = "there is no socket to listen on; try: --listen unix:/run/cgi-session-guard/guard.sock, \
                    after: install -d -o www-data /run/cgi-session-guard; or --listen 127.0.0.1:9010";
        return Err(Ended::saying(line, report::USAGE));
    }
    let manager = sessions::manager(file, None)?;
    let mut program = Program::new().authorizer().own_arguments();
    if let Some(address) = &arguments.listen {
        program = program.listen(address).socket_mode(arguments.socket_mode);
    }
    if let Some(group) = &arguments.socket_group {
        program = program.socket_group(group);
    }
    let own = manager.clone();
    let program = program.manager(move || Ok(own.clone()));
    let login = arguments.login.as_ref();
    Ended::with(program.run(|request: &mut Request| answer(&manager, login, request)))
}

/// Whether descriptor 0 is a socket, or systemd hands one over.
fn has_socket() -> bool {
    let stdin = rustix::fs::fstat(rustix::stdio::stdin());
    let is_socket = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode).is_socket();
    env::var_os("LISTEN_FDS").is_some() || stdin.is_ok_and(is_socket)
}

fn answer(
    manager: &SessionManager,
    login: Option<&HeaderValue>,
    request: &mut Request,
) -> Result<Response, Error> {
    let session = if sessions::is_by_header(manager.config()) {
        request.read_session()?
    } else {
        // Apart from the request, which would note that a cookie was sent that a server drops here.
        let cookies = request.header("cookie").unwrap_or_default();
        manager.read(cookies.as_bytes())?
    };
    let session = session.filter(|session| !session.is_replaced());
    let user = session.as_ref().and_then(|session| session.user());
    let response = match user.filter(|user| !user.is_empty()) {
        Some(user) => match header_of(user) {
            Some(user) => Response::text("").with_header(USER, user),
            None => Response::text("").with_status(StatusCode::FORBIDDEN),
        },
        None => match login {
            Some(login) => Response::text("")
                .with_status(StatusCode::SEE_OTHER)
                .with_header(LOCATION, login.clone()),
            None => Response::text("").with_status(StatusCode::UNAUTHORIZED),
        },
    };
    Ok(response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

/// A user's name as the value of a header, if that is the same name to every reader.
fn header_of(user: &str) -> Option<HeaderValue> {
    let is_plain = user.trim() == user && !user.chars().any(char::is_control);
    HeaderValue::from_bytes(user.as_bytes())
        .ok()
        .filter(|_| is_plain)
}
