//! [`run`]: one handler, whichever way a server started the program.

use std::env;
use std::error::Error as StdError;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[cfg(all(target_os = "linux", feature = "fastcgi"))]
use crate::config::Config;
use crate::error::Result;
use crate::gateway::cgi;
#[cfg(all(target_os = "linux", feature = "fastcgi"))]
use crate::gateway::error_log::report;
use crate::gateway::error_log::{self, report_everything};
use crate::gateway::error_page::{ErrorPage, Page};
#[cfg(all(target_os = "linux", feature = "fastcgi"))]
use crate::gateway::fastcgi::{self, Socket, listener::Bind};
use crate::gateway::limits::Limits;
use crate::gateway::runner::{BoxError, Handler};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::session::SessionManager;
use crate::session::lazy_manager::LazyManager;
use crate::store::StoreKind;

/// No timeout is longer: a deadline must be a moment that clocks have.
const LONGEST: Duration = Duration::from_secs(crate::config::MAX_TIME);

/// Answers the requests of a web server with this handler, as CGI or FastCGI.
///
/// Started with a listening socket as descriptor 0, or one of systemd's, the program is a FastCGI responder; otherwise
/// it answers one request as CGI. [`Program`] has settings for the first.
///
/// The configuration is found as [`Config::find`](crate::Config::find) does: under CGI when the handler first
/// asks for a session, under FastCGI once, when the program starts. The session is committed
/// before the first byte of the response goes out; when that fails, the handler fails, or it
/// panics, nothing is saved, the client gets a complete error page, and the reason goes to stderr
/// on one line, under FastCGI to the web server's log, too (`errorLog`). A response with a status from 500 on
/// saves nothing either.
///
/// It sets the process's panic hook, which writes that line, and a logger that writes the library's warnings to
/// stderr unless the program has set its own. A program that wants its own hook sets it in the handler.
///
/// ```no_run
/// use std::process::ExitCode;
/// use cgi_session::{Request, Response, Result};
///
/// fn main() -> ExitCode {
///     cgi_session::run(counter)
/// }
///
/// fn counter(request: &mut Request) -> Result<Response> {
///     let session = request.session()?;
///     let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
///     session.insert("pageViews", views)?;
///     Ok(Response::html(format!("Hello, you've been here {views} time(s)")))
/// }
/// ```
pub fn run<H, E>(handler: H) -> ExitCode
where
    H: Fn(&mut Request) -> Result<Response, E> + Send + Sync,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    Program::new().run(handler)
}

/// [`run`] with settings: the store, error pages, and how to serve as a FastCGI responder.
///
/// A responder takes `--workers`, `--connections` and `--streams` from its command line before what is set here,
/// and started by hand also `--listen`, `--socket-mode` and `--socket-group`.
///
/// SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 end it: it stops listening and gives up the name of a socket of
/// its own at once, so that another one may take its place, and answers what runs, for at most 10 s.
///
/// ```no_run
/// # use cgi_session::{Program, Request, Response, Result};
/// # fn counter(_: &mut Request) -> Result<Response> { Ok(Response::text("")) }
/// Program::new().workers(32).listen("unix:/run/app.sock").run(counter);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Program {
    limits: Limits,
    listen: Option<OsString>,
    socket_mode: Option<u32>,
    socket_group: Option<String>,
    manager: Option<LazyManager>,
    kinds: Vec<StoreKind>,
    has_own_arguments: bool,
    error_page: Option<Arc<Page>>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut program = f.debug_struct("Program");
        program
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// A program with default settings.
    pub fn new() -> Self {
        Program::default()
    }

    /// Adds a store outside of the library, which is used when the configuration's `storageType` chooses it.
    ///
    /// ```ignore
    /// Program::new().store(cgi_session_redis::REDIS).run(counter)
    /// ```
    pub fn store(mut self, kind: StoreKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Makes the manager, instead of [`SessionManager::find`]: for a configuration in code or a store of the program's
    /// own. Under CGI it is called when the first session is asked for, or a form or a query of several fields, when
    /// a body is first read, and by [`Request::is_https`] and [`Request::client_address`] where the client sends
    /// `Forwarded` or `X-Forwarded-*`; a responder calls it at the start, and again once a second at most until it
    /// succeeds.
    pub fn manager(
        mut self,
        make: impl Fn() -> Result<SessionManager> + Send + Sync + 'static,
    ) -> Self {
        self.manager = Some(LazyManager::new(make));
        self
    }

    /// Answers FastCGI's role Authorizer, too: a web server asks whether a request may go on, and takes a response with
    /// status 200 for yes, of which each header `Variable-NAME` becomes the variable `NAME`. The handler gets the
    /// request without its body. Without this, other roles than Responder are refused.
    pub fn authorizer(mut self) -> Self {
        self.limits.authorizes = true;
        self
    }

    /// The command line is the program's own: no `--workers` or `--listen` is taken from it.
    pub fn own_arguments(mut self) -> Self {
        self.has_own_arguments = true;
        self
    }

    /// Makes the error pages: for a session that is busy, a handler's error, a form that is too large.
    ///
    /// `page` gets the status and the sentence that the library's own page has, which may be translated, and
    /// returns a body with its type. The status is that of the library's page, and so are `Retry-After` and
    /// `Cache-Control: no-store` unless `page` sets its own. It sends no cookie but that of a session that was saved.
    /// When `page` panics, or returns a stream, the client gets the library's page. A response with a status from
    /// 500 on that the handler returned itself is the handler's own page already.
    ///
    /// ```no_run
    /// # use cgi_session::{ErrorPage, Program, Request, Response, Result};
    /// # fn counter(_: &mut Request) -> Result<Response> { Ok(Response::text("")) }
    /// fn page(error: &ErrorPage) -> Response {
    ///     let text = match error.status().as_u16() {
    ///         503 => "Bitte gleich noch einmal versuchen.",
    ///         400..=499 => "Das geht so nicht.",
    ///         _ => "Das hat nicht geklappt.",
    ///     };
    ///     Response::html(format!("<!doctype html><html lang=\"de\"><title>Fehler</title><p>{text}</html>"))
    /// }
    /// Program::new().error_page(page).run(counter);
    /// ```
    pub fn error_page(
        mut self,
        page: impl Fn(&ErrorPage<'_>) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.error_page = Some(Arc::new(page));
        self
    }

    /// Creates a socket, `unix:/path/of.sock` or `127.0.0.1:9000`, instead of taking one from the server.
    pub fn listen(mut self, address: impl Into<OsString>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// The permissions of the Unix socket of [`Program::listen`], by default 0660.
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.socket_mode = Some(mode & 0o777);
        self
    }

    /// The group of that socket, by its name or number, by default that of the program. The web server's lets it connect.
    pub fn socket_group(mut self, group: impl Into<String>) -> Self {
        self.socket_group = Some(group.into());
        self
    }

    /// How many requests are handled at once, at most one on each of [`Program::connections`]. Default: four for each
    /// processor, at least 16. Those that wait for a session do not count: each has a further thread, and
    /// [`Program::connections`] limits their number.
    pub fn workers(mut self, workers: usize) -> Self {
        self.limits.workers = Some(workers.max(1));
        self
    }

    /// How many connections are open at once, by default 1024. A further one takes the place of
    /// the one that has been idle longest, and is closed at once where a request runs on each: the error log counts
    /// such requests without a response, once a second. At most a quarter of them wait for sessions, and at most 16
    /// for one, and a quarter with long bodies for workers; a request beyond is answered 503 at once.
    ///
    /// The soft limit of descriptors is raised towards the hard one to twice as many and 1024, also for the programs that
    /// a handler starts. Of what there is then a quarter is left for sessions and files, and connections are at most the
    /// others.
    pub fn connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections.max(1);
        self
    }

    /// How many responses are streamed at once ([`Response::stream`], and long files), by default 64. Each has
    /// a thread and a connection of its own; a request beyond is answered 503.
    pub fn streams(mut self, streams: usize) -> Self {
        self.limits.streams = streams;
        self
    }

    /// The size limit of one request's variables, by default 512 KiB. A request with more is answered 400.
    pub fn max_params_bytes(mut self, bytes: usize) -> Self {
        self.limits.params_bytes = bytes;
        self
    }

    /// How many variables one request may have, by default 1000. A request with more is answered 400.
    pub fn max_params(mut self, variables: usize) -> Self {
        self.limits.params = variables;
        self
    }

    /// How long a connection may be silent between requests or amid the parameters of one, by default
    /// 60 s. It holds no worker.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout.min(LONGEST);
        self
    }

    /// The longest pause in a request's body, by default 60 s.
    ///
    /// Bodies and responses also have to keep to a least rate (`bodyTimeout`, `bodyMinRate` and
    /// `responseMinRate` of the configuration). A body up to `bodyBuffer` is collected before a worker
    /// takes the request, and a response is sent without one, so that slow clients hold neither
    /// workers nor sessions; requests with longer bodies hold half of the workers at most, and are
    /// answered 503 when they have waited for these as long as `bodyTimeout`. What is collected and
    /// what is not taken is in memory: up to 64 times `bodyBuffer` and 32 KiB for each connection. Beyond 64 MiB of
    /// responses each worker stays with its own until that is taken, and those are cut off of which nothing is taken for
    /// 5 s, or less than 16 KiB a second: what is large is for [`Response::stream`].
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.limits.read_timeout = timeout.min(LONGEST);
        self
    }

    /// How long the server may take nothing of a response, by default 60 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.limits.write_timeout = timeout.min(LONGEST);
        self
    }
}

impl Program {
    /// Answers requests; see [`run`].
    pub fn run<H, E>(self, handler: H) -> ExitCode
    where
        H: Fn(&mut Request) -> Result<Response, E> + Send + Sync,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let call = |request: &mut Request| -> Result<Response, BoxError> {
            handler(request).map_err(Into::into)
        };
        let error_page = self.error_page.clone();
        let handler = Handler {
            call: &call,
            error_page: error_page.as_deref(),
            checks_query: !self.limits.authorizes,
        };
        #[cfg(all(target_os = "linux", feature = "fastcgi"))]
        if fastcgi::listener::is_on_stdin() {
            report_everything();
            // A command line that is not ours is the program's own affair.
            let program = self.clone().with_arguments().unwrap_or_else(|error| {
                report(&format!("the command line is passed over: {error}"));
                self
            });
            if let Some(address) = &program.listen {
                let address = address.display();
                report(&format!(
                    "--listen {address} is passed over: descriptor 0 listens"
                ));
            }
            let limits = program.limits;
            return fastcgi::run(&handler, limits, &program.lazy_manager(), &Socket::Stdin);
        }
        // To read the environment is to copy all of it: once is enough. Not vars(): it panics on bytes that are
        // not UTF-8, and a client may send some.
        let variables: Vec<_> = env::vars_os().collect();
        if variables.iter().any(|(name, _)| name == "REQUEST_METHOD") {
            report_everything();
            // The command line is not looked at: RFC 3875, 4.4 lets a client choose it.
            return cgi::run(&handler, self.limits, self.manager, self.kinds, variables);
        }
        self.start_by_hand(&handler)
    }

    #[cfg(all(target_os = "linux", feature = "fastcgi"))]
    fn lazy_manager(self) -> LazyManager {
        let kinds = self.kinds;
        let find = move || SessionManager::with_kinds(Config::find()?, &kinds);
        self.manager.unwrap_or_else(|| LazyManager::new(find))
    }

    #[cfg(all(target_os = "linux", feature = "fastcgi"))]
    fn start_by_hand(self, handler: &Handler<'_>) -> ExitCode {
        match self.with_arguments() {
            Ok(program) if program.listen.is_some() || fastcgi::is_given_by_systemd() => {
                let socket = program.listen.clone().map_or(Socket::Systemd, |address| {
                    Socket::Bind(Bind {
                        address,
                        mode: program.socket_mode.unwrap_or(0o660),
                        group: program.socket_group.clone(),
                    })
                });
                report_everything();
                fastcgi::run(handler, program.limits, &program.lazy_manager(), &socket)
            }
            Ok(_) => explain(),
            Err(error) => {
                report(&format!("{error}; --help says more"));
                ExitCode::from(2)
            }
        }
    }

    #[cfg(not(all(target_os = "linux", feature = "fastcgi")))]
    #[expect(clippy::unused_self, reason = "on Linux it has settings")]
    fn start_by_hand(self, _: &Handler<'_>) -> ExitCode {
        explain()
    }

    #[cfg(all(target_os = "linux", feature = "fastcgi"))]
    fn with_arguments(mut self) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::{Long, ValueExt as _};
        if self.has_own_arguments {
            return Ok(self);
        }
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("listen") => self.listen = Some(arguments.value()?),
                Long("socket-mode") => {
                    let octal = |text: &str| u32::from_str_radix(text, 8);
                    self = self.socket_mode(arguments.value()?.parse_with(octal)?);
                }
                Long("socket-group") => self = self.socket_group(arguments.value()?.string()?),
                Long("workers") => self = self.workers(arguments.value()?.parse()?),
                Long("streams") => self = self.streams(arguments.value()?.parse()?),
                Long("connections") => self = self.connections(arguments.value()?.parse()?),
                // Whatever was said before it, help comes instead.
                Long("help") => return Ok(Program::new()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(self)
    }
}

/// Explains a program that was started by hand, instead of waiting for a body.
fn explain() -> ExitCode {
    let program = error_log::program();
    let program = program.to_string_lossy();
    let (kind, responder) = if cfg!(feature = "fastcgi") {
        let responder = format!(
            "To run it as a FastCGI responder that a server connects to:\n\n\
             \x20   {program} --listen unix:/run/app.sock [--socket-mode 660] [--socket-group www-data]\n\
             \x20   {program} --listen 127.0.0.1:9000 [--workers N] [--connections N] [--streams N]\n\n"
        );
        ("CGI and FastCGI program", responder)
    } else {
        let kind = "CGI program (and no FastCGI responder: it was built without feature fastcgi)";
        (kind, String::new())
    };
    let text = format!(
        "{program} is a {kind}: a web server starts it.\n\n\
         To try it without a server, as one CGI request:\n\n\
         \x20   CGI_SESSION_STORAGE_FILE_DIR=$HOME/sessions REQUEST_METHOD=GET {program}\n\n\
         {responder}\
         To deploy it as CGI, copy it into the server's cgi-bin directory.\n"
    );
    let is_asked = env::args_os().skip(1).any(|argument| argument == "--help");
    let mut out: Box<dyn io::Write> = if is_asked || io::stdout().is_terminal() {
        Box::new(io::stdout())
    } else {
        Box::new(io::stderr())
    };
    // It is closed: there is nothing to do.
    let _ = out.write_all(text.as_bytes());
    ExitCode::from(if is_asked { 0 } else { 2 })
}
