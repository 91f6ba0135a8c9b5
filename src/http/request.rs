//! [`Request`]: one request as the server describes it, and the way to its session.

pub(crate) mod builder;
mod fields;
mod links;
#[cfg(feature = "multipart")]
pub(crate) mod multipart;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Once;
use std::time::Instant;

use http::Method;

use crate::config::Config;
use crate::cookies;
use crate::error::{Error, Result};
use crate::http::body::{Body, BodyReader};
use crate::http::origin;
use crate::http::params::{self, Params};
use crate::id::{SessionDigest, SessionId};
use crate::record::Device;
use crate::session::lazy_manager::LazyManager;
use crate::session::request_session::{Purpose, RequestSession};
use crate::session::{CSRF_FIELD, MAX_CANDIDATES, Session, SessionManager, Snapshot, UserSession};

#[cfg(fuzzing)]
pub use links::link;

/// One request, as CGI (RFC 3875) and FastCGI hand it over, and the way to its session.
///
/// [`Request::session`] opens the visitor's session and holds it until the response is ready; it is
/// then committed, and the cookie is sent if the client needs one. What is not UTF-8 in a request
/// becomes U+FFFD where text is asked for; a cookie whose value is not is passed over.
pub struct Request {
    params: Params,
    /// The header fields that came as several variables.
    joined: OnceCell<BTreeMap<Vec<u8>, OsString>>,
    body: Body,
    form: Option<Vec<(String, String)>>,
    /// How many fields were found in the body.
    form_fields: usize,
    #[cfg(feature = "multipart")]
    multipart: Option<Box<multipart::Multipart>>,
    /// What [`Request::load_fields`] took from the session.
    loaded: Vec<(String, String)>,
    /// Apart, for it is large, and a request moves often.
    visit: Box<RequestSession>,
}

impl Request {
    pub(crate) fn new(params: Params, body: Body, manager: LazyManager, arrived: Instant) -> Self {
        let method = params.get("REQUEST_METHOD");
        let purpose = Purpose {
            page: is_page(&params),
            document: is_document(&params, method),
            cross_site_write: is_cross_site_write(&params, method),
        };
        let header = cookie_header(&params);
        let visit = Box::new(RequestSession::new(manager, header, purpose, arrived));
        Request {
            params,
            joined: OnceCell::new(),
            body,
            form: None,
            form_fields: 0,
            #[cfg(feature = "multipart")]
            multipart: None,
            loaded: Vec::new(),
            visit,
        }
    }

    /// A variable of the gateway, such as `REMOTE_ADDR`; the last of several of one name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&OsStr> {
        self.params.get(name)
    }

    /// The method; GET when the server sent no valid one.
    #[must_use]
    pub fn method(&self) -> Method {
        let name = self.param("REQUEST_METHOD").map(OsStr::as_bytes);
        name.and_then(|name| Method::from_bytes(name).ok())
            .unwrap_or(Method::GET)
    }

    /// The path after the program's own name, empty when there is none.
    #[must_use]
    pub fn path_info(&self) -> &OsStr {
        self.param("PATH_INFO").unwrap_or_default()
    }

    /// The path of the program itself, as in `/cgi-bin/counter`.
    #[must_use]
    pub fn script_name(&self) -> &OsStr {
        self.param("SCRIPT_NAME").unwrap_or_default()
    }

    /// All variables of the gateway in their order, duplicates included.
    /// Under CGI the process's whole environment is among them.
    pub fn params(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let text = OsStr::from_bytes;
        self.params
            .iter()
            .map(move |(name, value)| (text(name), text(value)))
    }

    /// A header field by its name, as in `user-agent`. Several fields of one name are joined by `, `
    /// in their order (RFC 9110, 5.3): nginx hands over each as a variable of its own. Cookie fields
    /// are joined by `; `.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&OsStr> {
        let variable = params::variable(name);
        let is_named = |(name, _): &(&[u8], _)| *name == variable.as_bytes();
        if self.params.iter().filter(is_named).nth(1).is_none() {
            return self.param(&variable);
        }
        let joined = self.joined.get_or_init(|| self.params.joined_fields());
        let joined = joined.get(variable.as_bytes()).map(OsString::as_os_str);
        joined.or_else(|| self.param(&variable))
    }

    /// The value of the client's first cookie of this name. `;` alone separates cookies and quotes belong to the
    /// value (RFC 6265bis).
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<String> {
        let header = cookie_header(&self.params);
        let mut found = cookies::values(&header, name);
        found.next().map(str::to_owned)
    }

    /// Whether the client came by HTTPS, as the server says, or a proxy that the configuration trusts
    /// (`trustedProxies`). Behind another proxy that ends TLS the server does not know: set `cookieSecure = true`
    /// there.
    #[must_use]
    pub fn is_https(&self) -> bool {
        let manager = self.told_manager();
        origin::is_https(&self.params, manager.as_ref().map(SessionManager::config))
    }

    /// The address of the client: `REMOTE_ADDR`, or what a trusted proxy (`trustedProxies`) says instead. `None` when
    /// the server gave no address.
    ///
    /// ```
    /// use cgi_session::{Client, Config, Request, Response, Result, SessionManager};
    ///
    /// fn page(request: &mut Request) -> Result<Response> {
    ///     let address = request.client_address().map(|address| address.to_string());
    ///     Ok(Response::text(address.unwrap_or_default()))
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let config = Config::new().set("storageType", "ram")?.set("trustedProxies", "10.0.0.0/8")?;
    /// let client = Client::new(SessionManager::new(config)?);
    /// let by_proxy = client.get("/").remote_address("10.0.0.1").header("X-Forwarded-For", "192.0.2.7");
    /// assert_eq!(by_proxy.send(page).body_text(), "192.0.2.7");
    /// let forged = client.get("/").remote_address("198.51.100.1").header("X-Forwarded-For", "192.0.2.7");
    /// assert_eq!(forged.send(page).body_text(), "198.51.100.1");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client_address(&self) -> Option<IpAddr> {
        let manager = self.told_manager();
        origin::client_address(&self.params, manager.as_ref().map(SessionManager::config))
    }

    /// The manager, whose configuration knows which proxies to trust, when one says something.
    fn told_manager(&self) -> Option<SessionManager> {
        if !origin::is_told(&self.params) {
            return None;
        }
        self.visit.find_manager().inspect_err(log_distrust).ok()
    }

    /// The body, of which at most `limit` bytes are accepted.
    pub fn body(&mut self, limit: u64) -> BodyReader<'_> {
        BodyReader {
            body: &mut self.body,
            limit,
        }
    }

    /// The visitor's session, opened or new, and locked until the response is ready. A further call returns the same one.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`](crate::SessionManager::start), and [`Error::Config`].
    pub fn session(&mut self) -> Result<&mut Session> {
        self.visit()?.session()
    }

    /// The visitor's session if it exists, locked until the response is ready.
    ///
    /// # Errors
    ///
    /// As [`Request::session`].
    pub fn existing_session(&mut self) -> Result<Option<&mut Session>> {
        self.visit()?.existing()
    }

    /// The visitor's session as it is at this moment, without waiting or locking.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::read`](crate::SessionManager::read), and [`Error::AlreadyOpen`] while this request holds the session.
    pub fn read_session(&mut self) -> Result<Option<Snapshot>> {
        self.visit()?.read()
    }

    /// The manager of this request's sessions, for what continues after the handler, such as a stream that reads the
    /// session again and again.
    ///
    /// ```no_run
    /// use std::io::{self, Write as _};
    ///
    /// use cgi_session::{Request, Response, Result};
    ///
    /// fn views(request: &mut Request) -> Result<Response> {
    ///     let manager = request.session_manager()?;
    ///     let cookies = request.header("cookie").unwrap_or_default().to_owned();
    ///     Ok(Response::stream("text/plain", move |out| {
    ///         let snapshot = manager.read(cookies.as_encoded_bytes()).map_err(io::Error::other)?;
    ///         let views = snapshot.and_then(|it| it.get::<u64>("pageViews").ok().flatten());
    ///         writeln!(out, "{} views", views.unwrap_or_default())
    ///     }))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] and [`Error::Unavailable`] when there is none.
    pub fn session_manager(&self) -> Result<SessionManager> {
        self.visit.find_manager()
    }

    /// Opens the session, lets `change` change it, and commits at once: the session is locked only
    /// while `change` runs. Nothing is saved when that fails or panics.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::update`](crate::SessionManager::update), and [`Error::AlreadyOpen`] while this request holds the session.
    pub fn update_session<T>(
        &mut self,
        change: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        self.visit()?.update(change)
    }

    /// Commits the session now and releases its lock, before work that takes time.
    ///
    /// # Errors
    ///
    /// As [`Session::commit`].
    pub fn commit_session(&mut self) -> Result<()> {
        self.visit.commit()
    }

    /// Gives up what was changed in the session since it was opened or saved, and its lock (PHP's `session_abort`).
    /// What opens it after that finds it as it is stored.
    pub fn release_session(&mut self) {
        self.visit.release();
    }

    /// A new session with a new id and a cookie, whatever the client sent.
    ///
    /// It is for a login, after the password was checked, when [`Request::session`] is [`Error::Replaced`] because
    /// another request of the same visitor (a double click, a login whose answer was lost) has just changed the
    /// id. A session that this request has open is committed before. No values are copied. After
    /// [`Request::use_session_id`] the id is new as well, and no cookie is sent.
    ///
    /// # Errors
    ///
    /// As [`Session::commit`], and [`Error::Config`].
    pub fn fresh_session(&mut self) -> Result<&mut Session> {
        self.visit()?.fresh()
    }

    /// Deletes the visitor's session, and every other one that the client's cookies lead to. A session opened after this
    /// in the same request is a new one.
    ///
    /// # Errors
    ///
    /// As [`Session::destroy`], and [`Error::Replaced`].
    pub fn destroy_session(&mut self) -> Result<()> {
        self.visit()?.destroy()
    }

    /// Uses the session of this id, or begins it; cookies are then neither read nor sent (lemon.session's `sessionID`), and
    /// the Max-Age of one whose session was read before is not renewed.
    /// See [`SessionManager::start_with_id`](crate::SessionManager::start_with_id).
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyOpen`] while this request holds a session, and once it has committed or destroyed the
    /// client's, whose cookie is to be sent; and as [`SessionManager::start_with_id`].
    pub fn use_session_id(&mut self, id: SessionId) -> Result<()> {
        self.visit.give(id)
    }

    /// Deletes all other sessions of the visitor's user ([`Session::set_user`]), after a change of password for
    /// instance, and returns how many.
    ///
    /// The visitor's own is committed before, so that no two requests wait for each other.
    ///
    /// # Errors
    ///
    /// As [`Session::commit`] and [`SessionManager::destroy_sessions_of`](crate::SessionManager::destroy_sessions_of), and [`Error::Replaced`].
    pub fn destroy_other_sessions(&mut self) -> Result<u64> {
        self.visit()?.destroy_user(true)
    }

    /// The sessions of the visitor's user ([`Session::set_user`](crate::Session::set_user)), this one included, the
    /// most recently used first: for a page "Your devices". With `recordClient = true` each has the browsers that
    /// began it and used it last. Empty when the visitor's session has no user.
    ///
    /// ```
    /// # use cgi_session::{Request, Response, Result};
    /// fn devices(request: &mut Request) -> Result<Response> {
    ///     let mut lines = String::new();
    ///     for session in request.own_sessions()? {
    ///         let agent = session.last_device().and_then(|device| device.agent());
    ///         let mark = if session.is_current() { ", this one" } else { "" };
    ///         lines += &format!("{} {}{mark}\n", session.digest(), agent.unwrap_or("unknown"));
    ///     }
    ///     Ok(Response::text(lines))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Request::read_session`], and when the store cannot list the sessions of a user.
    pub fn own_sessions(&mut self) -> Result<Vec<UserSession>> {
        self.visit()?.own_sessions()
    }

    /// Deletes one of the sessions that [`Request::own_sessions`] lists; `false` if the user has no such session.
    /// The visitor's own ends as by [`Request::destroy_session`]; otherwise it is committed before,
    /// so that no two requests wait for each other.
    ///
    /// # Errors
    ///
    /// As [`Session::commit`], [`Error::Replaced`], and [`Error::Busy`] when a request held it for `lockTimeout`.
    pub fn end_own_session(&mut self, session: &SessionDigest) -> Result<bool> {
        self.visit()?.end_own(session)
    }

    /// Logs out everywhere: deletes all sessions of the user, and each that the client's cookies lead to, the visitor's
    /// own last.
    ///
    /// # Errors
    ///
    /// As [`Request::destroy_other_sessions`] and [`Request::destroy_session`]. All that could be
    /// deleted is, the visitor's own included.
    pub fn destroy_all_sessions(&mut self) -> Result<()> {
        self.visit()?.destroy_all()
    }

    /// Refuses a form that another site sent in the visitor's name: the request must hold [`Session::csrf_token`] in
    /// the field `csrfToken` or in the header field `X-CSRF-Token`.
    ///
    /// ```no_run
    /// # use cgi_session::{Request, Response, Result};
    /// fn form(request: &mut Request) -> Result<Response> {
    ///     if request.method() == "POST" {
    ///         request.check_csrf_token()?;
    ///         // Only now change something.
    ///     }
    ///     let token = request.session()?.csrf_field()?;
    ///     Ok(Response::html(format!("<form method=post>{token}<button>Order</button></form>")))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Forged`] (403) when it does not, or when another site sent the id itself in a link or a
    /// form; [`Error::Replaced`] when the session has another id by now, unless the token was the one
    /// before; and as [`Request::form`] and [`Request::session`].
    pub fn check_csrf_token(&mut self) -> Result<()> {
        let header = self.header("x-csrf-token").and_then(OsStr::to_str);
        // A script may send it empty where a page has no token for it.
        let header = header.filter(|header| !header.is_empty());
        let sent = match header.map(str::to_owned) {
            None => self.form(CSRF_FIELD)?,
            header => header,
        };
        let is_cross_origin = self.is_same_origin() == Some(false);
        let visit = self.visit()?;
        if is_cross_origin && visit.has_link() {
            // The page that sent the id knows the token, too.
            return Err(Error::Forged);
        }
        if let Some(is_former) = visit.knows_former_token(sent.as_deref())? {
            return is_former.then_some(()).ok_or(Error::Replaced);
        }
        let is_own = visit
            .existing()?
            .zip(sent)
            .is_some_and(|(session, token)| session.is_csrf_token(&token));
        is_own.then_some(()).ok_or(Error::Forged)
    }

    /// Whether a page of this very site sent the request, as far as the browser says: by Fetch Metadata, else
    /// by `Origin` (RFC 6454).
    fn is_same_origin(&self) -> Option<bool> {
        if let Some(site) = self.header("sec-fetch-site") {
            return Some(site == "same-origin");
        }
        let origin = self.header("origin")?.as_bytes();
        let host = self.header("host").unwrap_or_default().as_bytes();
        // `null` is the origin of a page that has none of its own: another one.
        let scheme_end = origin.windows(3).position(|part| part == b"://");
        let named = scheme_end.and_then(|end| origin.get(end + 3..));
        Some(named.is_some_and(|named| named.eq_ignore_ascii_case(host)))
    }

    pub(crate) fn into_parts(mut self) -> (Params, Body, Box<RequestSession>) {
        self.visit.allow_rotation(|| is_navigation(&self.params));
        (self.params, self.body, self.visit)
    }

    /// The visit, which knows the client's id if it came at all.
    fn visit(&mut self) -> Result<&mut RequestSession> {
        if self.visit.looks_for_id()? {
            self.look_for_id()?;
        }
        if self.visit.asks_for_device() {
            self.note_device();
        }
        Ok(&mut self.visit)
    }

    #[cold]
    fn note_device(&mut self) {
        let agent = self.param("HTTP_USER_AGENT");
        let device = Device::new(agent, self.client_address());
        self.visit.set_device(device);
    }

    #[cold]
    fn look_for_id(&mut self) -> Result<()> {
        let (name, from) = self.visit.settings()?;
        if let Some(field) = from.header {
            let shown = self.header(field.as_str()).map(OsStr::as_bytes);
            if let Some(id) = shown.and_then(SessionId::parse) {
                self.visit.show_header(id);
            }
            return Ok(());
        }
        let is_posted = from.form && self.method() == Method::POST && self.has_form();
        let mut shown = Vec::new();
        if from.query {
            shown.extend(self.query_values(&name));
        }
        // The body is read only for a client that no cookie knows.
        if (is_posted || !shown.is_empty()) && !self.visit.has_live_cookie()? {
            if is_posted {
                shown.extend(self.form_values(&name)?);
            }
            let ids = shown
                .iter()
                .filter_map(|text| SessionId::parse(text.as_bytes()));
            let ids = ids.take(MAX_CANDIDATES).collect();
            let is_same_origin = self.is_same_origin();
            self.visit.show(ids, is_same_origin == Some(true));
        }
        Ok(())
    }
}

/// Whether a browser shows the response: it asks for more than the head, and not for a page that may
/// never be opened.
fn is_page(params: &Params) -> bool {
    let is = |name: &str, word: &str| {
        let value = params.get(name).unwrap_or_default().as_bytes();
        let mut parts = value.windows(word.len());
        parts.any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    };
    let ahead = ["HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_MOZ"];
    !is("REQUEST_METHOD", "head") && !ahead.iter().any(|name| is(name, "prefetch"))
}

/// Whether a browser shows the response as a page of its own (Fetch Metadata; without it every GET may be one).
fn is_document(params: &Params, method: Option<&OsStr>) -> bool {
    match params.get("HTTP_SEC_FETCH_DEST") {
        Some(destination) => destination == "document",
        None => method.is_none_or(|method| method == "GET"),
    }
}

/// Whether a page of another site sent this, to change something.
fn is_cross_site_write(params: &Params, method: Option<&OsStr>) -> bool {
    let is_write = method.is_some_and(|method| method != "GET" && method != "HEAD");
    is_write
        && params
            .get("HTTP_SEC_FETCH_SITE")
            .is_some_and(|site| site == "cross-site")
}

/// Whether a visitor opens a page, to which a new id is sure to arrive: not what a page or a script loads beside
/// others, nor what a browser loads ahead.
fn is_navigation(params: &Params) -> bool {
    let is_document = if let Some(destination) = params.get("HTTP_SEC_FETCH_DEST") {
        destination == "document"
    } else {
        let accepted = params.get("HTTP_ACCEPT").unwrap_or_default();
        accepted.to_string_lossy().contains("text/html")
    };
    let is_get = params
        .get("REQUEST_METHOD")
        .is_some_and(|method| method == "GET");
    is_get && is_document && is_page(params)
}

/// All Cookie headers as one: nginx hands over each as a parameter of the same name.
pub(crate) fn cookie_header(params: &Params) -> Vec<u8> {
    params.joined("HTTP_COOKIE", b"; ").unwrap_or_default()
}

/// Tells the log once that no proxy is believed, since the configuration that may name some cannot be used.
fn log_distrust(error: &Error) {
    static LOGGED: Once = Once::new();
    if !Config::find().is_ok_and(|config| config.trusted_proxies.is_empty()) {
        LOGGED.call_once(|| log::error!("no proxy is trusted: {}", error.one_line()));
    }
}
