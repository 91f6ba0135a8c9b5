//! Runs the handler for one request: the session is committed, the response complete, errors are reported.

use std::error::Error as StdError;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, EXPIRES, PRAGMA, REFERRER_POLICY, SET_COOKIE,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use log::kv::Value;

use crate::config::{CacheLimiter, ClearSiteData, Config};
use crate::cookies::SetCookie;
use crate::error::{Error, Result, described, ours_in, printable};
use crate::gateway::error_log::{REQUEST_TARGET, catch, report};
use crate::gateway::error_page::{Page, Reason};
use crate::http::body::Body;
use crate::http::origin::is_https;
use crate::http::params::Params;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::id::SessionDigest;
use crate::session::SessionManager;
use crate::session::request_session::{Outcome, RequestSession};
use crate::store::Sweep;

/// The longest clean-up after a response. A server that waits for the end of a CGI program lets the client
/// wait as long: Apache sends the page in chunks, the last of them at the end, and so does fcgiwrap.
const CLEAN_UP: Duration = Duration::from_millis(100);

/// A handler whose errors are of every type, and the program's own page of a request that failed.
#[derive(Clone, Copy)]
pub(crate) struct Handler<'a> {
    pub(crate) call: &'a Call<'a>,
    pub(crate) error_page: Option<&'a Page>,
    /// Whether a query string of too many fields is refused. An authorizer is asked about another program's.
    pub(crate) checks_query: bool,
}

type Call<'a> = dyn Fn(&mut Request) -> Result<Response, BoxError> + Sync + 'a;

impl Handler<'_> {
    /// The page of a request that failed before the handler had it, or without it.
    pub(crate) fn page(&self, reason: Reason, params: Option<&Params>) -> Response {
        reason.page(self.error_page, params)
    }
}

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// A response that may be sent, and what is left to do and to read afterwards.
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) body: Body,
    pub(crate) manager: Option<SessionManager>,
    /// Of a response that may be a stream, for its log.
    pub(crate) session: Option<SessionDigest>,
    pub(crate) params: Params,
    /// Closed: freed with the others, or with the process.
    pub(crate) visit: Box<RequestSession>,
}

/// What is answered in place of a response that may be sent.
enum Failed {
    Answer(Response),
    /// With what a logger of the program's gets; the line of the log is there.
    Page(Reason, String),
    Error(BoxError),
}

/// Runs the handler and commits its session. Whether a response may be a stream now, `may_stream` tells.
pub(crate) fn answer(
    handler: &Handler<'_>,
    mut request: Request,
    may_stream: impl FnOnce() -> bool,
) -> Answer {
    let method = request.method();
    let (is_get, is_head) = (method == Method::GET, method == Method::HEAD);
    let result = catch("the handler", || {
        if handler.checks_query {
            request.check_query()?;
        }
        (handler.call)(&mut request).map(|response| response.resolved_for(&request))
    });
    let (params, body, mut visit) = request.into_parts();
    let page = |reason| handler.page(reason, Some(&params));
    let broken = Reason::Status(StatusCode::INTERNAL_SERVER_ERROR);
    let finished = match result {
        Ok(Ok(response)) if response.stream_body(is_head).is_some() && !may_stream() => {
            let line = "a response is not streamed: no other can be at the moment";
            Err(Failed::Page(Reason::BUSY, line.to_owned()))
        }
        Ok(Ok(response)) if response.status().is_informational() => {
            let status = response.status().as_u16();
            let line =
                format!("a response with status {status} announces another one, and is none");
            report(&line);
            Err(Failed::Page(broken, line))
        }
        Ok(Ok(response)) if response.status() >= StatusCode::INTERNAL_SERVER_ERROR => {
            Err(Failed::Answer(response))
        }
        Ok(Ok(response)) => match catch("the store", || visit.finish(response.status())) {
            Ok(Ok(outcome)) => Ok((response, outcome)),
            Ok(Err(error)) => Err(Failed::Error(error.into())),
            Err(line) => Err(Failed::Page(broken, line)),
        },
        Ok(Err(error)) => Err(Failed::Error(error)),
        Err(line) => Err(Failed::Page(broken, line)),
    };
    let is_saved = finished.is_ok();
    let (response, mut outcome, session) = match finished {
        Ok((response, outcome)) => {
            let is_named =
                response.stream_body(is_head).is_some() || response.unreadable().is_some();
            let session = is_named.then(|| visit.digest()).flatten();
            (response, outcome, session)
        }
        Err(failed) => answer_failed(failed, &mut visit, page, is_get),
    };
    if let Some(line) = response.unreadable() {
        report_request(line, None, session.as_ref());
    }
    let mut manager = outcome.manager.take().filter(|_| is_saved);
    let with_headers = with_session_headers(response, outcome, &params, visit.config());
    let response = with_headers.unwrap_or_else(|error| {
        manager = None;
        page(failure(&error, visit.digest(), is_get && is_saved))
    });
    Answer {
        response,
        body,
        manager,
        session,
        params,
        visit,
    }
}

/// What the client gets instead, and what its session leaves to be sent.
#[cold]
fn answer_failed(
    failed: Failed,
    visit: &mut RequestSession,
    page: impl FnOnce(Reason) -> Response,
    is_get: bool,
) -> (Response, Outcome, Option<SessionDigest>) {
    let session = visit.digest();
    // The client must still find its session, and no other request of it waits for what the program's
    // own page and logger do.
    let outcome = catch("the store", || visit.abandon()).unwrap_or_default();
    let response = match failed {
        Failed::Answer(response) => response,
        Failed::Page(reason, line) => {
            log_request(&in_session(&line, session.as_ref()), None, session.as_ref());
            page(reason)
        }
        Failed::Error(error) => page(failure(&*error, session, is_get)),
    };
    (response, outcome, session)
}

#[inline(never)] // Below the handler the stack is deep enough without it.
fn with_session_headers(
    mut response: Response,
    outcome: Outcome,
    params: &Params,
    config: Option<&Config>,
) -> Result<Response> {
    let Some(limiter) = outcome.cache_limiter else {
        return Ok(response);
    };
    let headers = response.headers_mut();
    headers.append(
        VARY,
        match &outcome.id_header {
            Some(name) => HeaderValue::from(name.clone()),
            None => HeaderValue::from_static("Cookie"),
        },
    );
    let is_removal = outcome
        .set_cookie
        .as_ref()
        .is_some_and(SetCookie::is_removal);
    if outcome.is_logout
        && let Some(config) = config
        && let Some(types) = clear_site_data(config.clear_site_data, is_removal)
    {
        headers.insert(HeaderName::from_static("clear-site-data"), types);
    }
    if let (Some(name), Some(set_cookie)) = (&outcome.id_header, &outcome.set_cookie) {
        return Ok(with_id(response, name, set_cookie.value()));
    }
    if outcome.has_links && !headers.contains_key(REFERRER_POLICY) {
        // The addresses of the site's pages hold the id.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    if let Some(name) = outcome.cookie_name
        && headers.contains_key(SET_COOKIE)
    {
        leave_out_cookie(headers, &name);
    }
    if let Some(set_cookie) = outcome.set_cookie {
        headers.append(SET_COOKIE, cookie_field(set_cookie, params, config)?);
    }
    if headers.contains_key(CACHE_CONTROL) {
        if headers.contains_key(SET_COOKIE) && !says(headers, &["private", "no-store"]) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        return Ok(response);
    }
    let fields: &[(HeaderName, &'static str)] = match limiter {
        CacheLimiter::Nocache => &[
            (CACHE_CONTROL, "no-store, no-cache, must-revalidate"),
            (PRAGMA, "no-cache"),
            (EXPIRES, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ],
        CacheLimiter::PrivateNoCache => &[(CACHE_CONTROL, "private, no-cache")],
        CacheLimiter::Private => &[(CACHE_CONTROL, "private, max-age=10800")],
        // A cache that kept a cookie would give one visitor's session, or what the program's own cookie
        // holds, to another.
        CacheLimiter::Public | CacheLimiter::None if headers.contains_key(SET_COOKIE) => {
            &[(CACHE_CONTROL, "private")]
        }
        CacheLimiter::Public => &[(CACHE_CONTROL, "public, max-age=10800")],
        CacheLimiter::None => &[],
    };
    for (name, value) in fields {
        // Not by reference, which would be a second copy of the map's code in a request.
        headers.insert(name.clone(), HeaderValue::from_static(value));
    }
    Ok(response)
}

#[cold]
fn cookie_field(
    set_cookie: SetCookie,
    params: &Params,
    config: Option<&Config>,
) -> Result<HeaderValue> {
    let text = set_cookie.over_https(is_https(params, config)).to_string();
    HeaderValue::try_from(text).map_err(|_| {
        let tried = "the session's cookie cannot be sent: a setting of the cookie, or the value that the \
            store gave it, holds what no header field may hold";
        Error::Config(tried.to_owned())
    })
}

/// Leaves out the handler's cookie of the session's name: a client keeps one of that name, and it must be the session's.
#[cold]
fn leave_out_cookie(headers: &mut HeaderMap, name: &str) {
    let is_ours = |cookie: &HeaderValue| {
        let named = cookie.as_bytes().split(|byte| *byte == b'=').next();
        named.is_some_and(|named| named.trim_ascii() == name.as_bytes())
    };
    if headers.get_all(SET_COOKIE).iter().any(is_ours) {
        log::warn!("the handler sets the cookie {name}, which is its session's: it is left out");
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().cloned().collect();
        headers.remove(SET_COOKIE);
        for cookie in cookies.into_iter().filter(|cookie| !is_ours(cookie)) {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

/// The data that a browser is to delete at a logout: other cookies only where the session's goes, too, and not
/// that of a session which follows in the same response.
#[cold]
fn clear_site_data(data: ClearSiteData, is_removal: bool) -> Option<HeaderValue> {
    let types = [
        (data.cache, "\"cache\""),
        (data.cookies && is_removal, "\"cookies\""),
        (data.storage, "\"storage\""),
    ];
    let types = types.iter().filter(|(is_set, _)| *is_set);
    let types: Vec<_> = types.map(|(_, name)| *name).collect();
    (!types.is_empty()).then(|| HeaderValue::from_str(&types.join(", ")).ok())?
}

/// Tells a client without cookies its id in a header field; an empty one takes it away.
#[cold]
fn with_id(mut response: Response, name: &HeaderName, id: &str) -> Response {
    let headers = response.headers_mut();
    // An id is of letters and digits.
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(name.clone(), id);
    }
    headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, name.clone().into());
    if !says(headers, &["no-store"]) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whether the handler itself says one of these words about caches.
fn says(headers: &HeaderMap, words: &[&str]) -> bool {
    let values = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .map(HeaderValue::as_bytes);
    let mut said = values.flat_map(|value| value.split(|byte| *byte == b','));
    said.any(|said| {
        let said = said.trim_ascii();
        words
            .iter()
            .any(|word| said.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// Logs what failed, and in which session; returns the reason for the client.
#[cold]
fn failure(
    error: &(dyn StdError + Send + Sync + 'static),
    session: Option<SessionDigest>,
    is_get: bool,
) -> Reason {
    let (line, kind) = described(error);
    report_request(&line, Some(error), session.as_ref());
    match kind {
        Some(kind) if kind.is_replaced => Reason::Replaced { is_get },
        Some(kind) => Reason::Status(kind.status),
        None => Reason::Status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn in_session(line: &str, session: Option<&SessionDigest>) -> String {
    let session = session.map(|it| format!(" (session {it})"));
    format!("{line}{}", session.unwrap_or_default())
}

/// Reports an error of a request, to the program's own logger, too.
#[cold]
pub(crate) fn report_request(
    line: &str,
    error: Option<&(dyn StdError + 'static)>,
    session: Option<&SessionDigest>,
) {
    let line = in_session(line, session);
    report(&line);
    log_request(&line, error, session);
}

/// Tells the program's own logger of an error of a request, with what a machine may look for.
#[cold]
fn log_request(
    line: &str,
    error: Option<&(dyn StdError + 'static)>,
    session: Option<&SessionDigest>,
) {
    if !log::log_enabled!(target: REQUEST_TARGET, log::Level::Error) {
        return;
    }
    let mut fields = Vec::new();
    if let Some(session) = session {
        fields.push(("session", Value::from(session.as_str())));
    }
    if let Some(Error::Busy { waited, holder }) = error.and_then(ours_in) {
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        fields.push(("waitedMs", Value::from(waited)));
        if let Some(holder) = holder {
            fields.push(("holder", Value::from(holder.as_str())));
        }
    }
    let fields: &[(&str, Value<'_>)] = &fields;
    log::logger().log(
        &log::Record::builder()
            .level(log::Level::Error)
            .target(REQUEST_TARGET)
            .module_path_static(Some(module_path!()))
            .key_values(&fields)
            .args(format_args!("{}", printable(line)))
            .build(),
    );
}

/// Cleans up after a response, if it is time to.
pub(crate) fn clean_up(manager: &SessionManager) {
    let sweep = Sweep::new().max_time(CLEAN_UP);
    if let Ok(Err(error)) = catch("the store", || manager.clean_up_if_due(&sweep)) {
        report(&error.one_line());
    }
}

/// Tells the log that the client has the beginning of a response alone.
pub(crate) fn report_cut(reason: Option<&str>, session: Option<&SessionDigest>) {
    let reason = reason.unwrap_or("its handler panicked");
    let line = format!("a streamed response is cut off: {reason}");
    report_request(&line, None, session);
}
