//! [`RequestBuilder`]: a request without a server, for the tests of handlers.

use std::borrow::Borrow;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Instant;

use form_urlencoded::Serializer;

use super::Request;
use crate::config::Config;
use crate::http::body::Body;
use crate::http::jar::Jar;
use crate::http::params::{self, Params};
use crate::session::SessionManager;
use crate::session::lazy_manager::LazyManager;

/// Builds a [`Request`] as a server would hand it over, out of nothing but what is said here: neither the
/// environment nor a configuration file is read.
///
/// A [`Client`](crate::Client) starts one that shows its cookies; [`Request::builder`] starts one of a client
/// that has none.
#[must_use]
pub struct RequestBuilder {
    variables: Vec<(OsString, OsString)>,
    cookies: Vec<String>,
    body: Option<Vec<u8>>,
    manager: Option<LazyManager>,
    pub(crate) jar: Option<Arc<Jar>>,
}

impl Request {
    /// Starts a request without a server: GET of `/`, by HTTP, from 127.0.0.1.
    ///
    /// ```
    /// use cgi_session::{Request, Response, Result};
    ///
    /// fn greeting(request: &mut Request) -> Result<Response> {
    ///     let name = request.query("name").unwrap_or_default();
    ///     Ok(Response::text(format!("Hello, {name}")))
    /// }
    ///
    /// let response = Request::builder().path("/greeting?name=Ada").send(greeting);
    /// assert_eq!(response.body_text(), "Hello, Ada");
    /// ```
    pub fn builder() -> RequestBuilder {
        let builder = RequestBuilder {
            variables: Vec::new(),
            cookies: Vec::new(),
            body: None,
            manager: None,
            jar: None,
        };
        builder
            .param("GATEWAY_INTERFACE", "CGI/1.1")
            .param("SERVER_PROTOCOL", "HTTP/1.1")
            .param("REQUEST_METHOD", "GET")
            .param("SCRIPT_NAME", "")
            .param("HTTP_HOST", "localhost")
            .path("/")
            .remote_address("127.0.0.1")
    }
}

impl RequestBuilder {
    /// The method, as `Method::PUT` or `"PUT"`.
    pub fn method(self, method: impl AsRef<str>) -> Self {
        self.param("REQUEST_METHOD", method.as_ref())
    }

    /// The path, which the handler finds in [`Request::path_info`]; after a `?` the query string, too. `/` begins it
    /// in any case.
    pub fn path(self, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = &format!("/{}", path.strip_prefix('/').unwrap_or(path));
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
        self.param("REQUEST_URI", path)
            .param("PATH_INFO", OsStr::from_bytes(&decoded))
            .query(query)
    }

    /// The query string, as in `a=1&b=2`.
    pub fn query(self, query: &str) -> Self {
        let path = self.variable("REQUEST_URI").to_string_lossy();
        let path = path.split('?').next().unwrap_or_default();
        let address = match query {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        self.param("REQUEST_URI", address)
            .param("QUERY_STRING", query)
    }

    /// Adds a header field; a further one of the same name is joined to the first.
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        let variable = params::variable(name.as_ref());
        let value = OsStr::from_bytes(value.as_ref());
        match variable.as_str() {
            "CONTENT_TYPE" | "CONTENT_LENGTH" | "HTTP_HOST" => self.param(variable, value),
            _ => self.added(variable.into(), value.to_owned()),
        }
    }

    /// Adds a cookie to those that the client shows.
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        self.cookies.push(format!("{name}={value}"));
        self
    }

    /// The body. Its length is announced.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        self.body = Some(body);
        self.param("CONTENT_LENGTH", length)
    }

    /// Sends a form, as `application/x-www-form-urlencoded`, by POST unless [`RequestBuilder::method`] has said another
    /// method than GET.
    pub fn form<K, V>(self, fields: impl IntoIterator<Item: Borrow<(K, V)>>) -> Self
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut encoded = Serializer::new(String::new());
        let encoded = encoded.extend_pairs(fields).finish();
        let is_get =
            |(name, value): &(OsString, OsString)| name == "REQUEST_METHOD" && value == "GET";
        let builder = if self.variables.iter().any(is_get) {
            self.method("POST")
        } else {
            self
        };
        builder
            .header("content-type", "application/x-www-form-urlencoded")
            .body(encoded)
    }

    /// The address that the server has the request from, `REMOTE_ADDR`.
    pub fn remote_address(self, address: impl Display) -> Self {
        self.param("REMOTE_ADDR", address.to_string())
    }

    /// Whether the client came by HTTPS.
    pub fn over_https(self, https: bool) -> Self {
        self.param("HTTPS", if https { "on" } else { "" })
    }

    /// Sets a variable of the gateway, in place of any of this name.
    pub fn param(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref();
        self.variables.retain(|(known, _)| known != name);
        self.added(name.to_owned(), value.as_ref().to_owned())
    }

    /// Whose sessions the request uses. Without it there is none but its own, in memory.
    pub fn manager(self, manager: SessionManager) -> Self {
        self.lazy_manager(LazyManager::new(move || Ok(manager.clone())))
    }

    /// The request, to be handed to a function that takes one. [`RequestBuilder::send`] also commits the
    /// session and builds the whole response.
    #[must_use]
    pub fn build(self) -> Request {
        let (is_https, path) = (self.is_https(), self.uri_path());
        let kept = self.jar.as_ref().map(|jar| jar.shown(&path, is_https));
        let cookies = kept.into_iter().flatten().chain(self.cookies);
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let cookies = (!cookies.is_empty()).then(|| ("HTTP_COOKIE".into(), cookies.into()));
        let params = Params::Pairs(self.variables.into_iter().chain(cookies).collect());
        let length = params.get("CONTENT_LENGTH").map(OsStr::as_bytes);
        let source = Box::new(Cursor::new(self.body.unwrap_or_default()));
        let body = Body::new(source, length.or(Some(b"0")));
        let manager = self.manager.unwrap_or_else(in_memory);
        Request::new(params, body, manager, Instant::now())
    }

    pub(crate) fn lazy_manager(mut self, manager: LazyManager) -> Self {
        self.manager = Some(manager);
        self
    }

    /// The cookies that the client has, and has after the response.
    pub(crate) fn jar(mut self, jar: Arc<Jar>) -> Self {
        self.jar = Some(jar);
        self
    }

    pub(crate) fn uri_path(&self) -> String {
        let address = self.variable("REQUEST_URI").to_string_lossy();
        address.split('?').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.variable("HTTPS") == "on"
    }

    fn variable(&self, name: &str) -> &OsStr {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_os_str())
            .unwrap_or_default()
    }

    fn added(mut self, name: OsString, value: OsString) -> Self {
        self.variables.push((name, value));
        self
    }
}

/// A manager of sessions in memory that end with it.
pub(crate) fn in_memory() -> LazyManager {
    LazyManager::new(|| SessionManager::new(Config::new().set("storageType", "ram")?))
}
