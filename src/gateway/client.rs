//! [`Client`]: sends requests to a handler without a server, for its tests.

use std::error::Error as StdError;
use std::sync::Arc;

use http::Method;

use crate::error::Result;
use crate::gateway::error_log;
use crate::gateway::runner::{BoxError, Handler, answer, report_cut};
use crate::http::jar::Jar;
use crate::http::request::Request;
use crate::http::request::builder::{RequestBuilder, in_memory};
use crate::http::response::Response;
use crate::http::stream::StreamEnd;
use crate::session::SessionManager;
use crate::session::lazy_manager::LazyManager;

/// A browser without a server, for the tests of handlers: it shows the cookies that it was given, and keeps
/// those that a response sets, as their Path, Secure, Max-Age and Expires say. It follows no redirects.
///
/// A handler is called as [`run`](crate::run) calls it: its session is committed, a failure becomes an error
/// page, and what was said about it is on stderr. Several clients of one manager are several visitors of one
/// site; a clone is the same visitor.
///
/// ```
/// use cgi_session::{Client, Config, Request, Response, Result, SessionManager};
///
/// fn counter(request: &mut Request) -> Result<Response> {
///     let session = request.session()?;
///     let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
///     session.insert("pageViews", views)?;
///     Ok(Response::text(format!("{views} views")))
/// }
///
/// # fn main() -> Result<()> {
/// let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
/// let client = Client::new(manager);
/// assert_eq!(client.get("/").send(counter).body_text(), "1 views");
/// let again = client.post("/").form([("name", "Ada")]).send(counter);
/// assert_eq!((again.status().as_u16(), again.body_text().as_ref()), (200, "2 views"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    manager: LazyManager,
    jar: Arc<Jar>,
    is_https: bool,
}

/// A client of sessions in memory, which end with it.
impl Default for Client {
    fn default() -> Self {
        Client {
            manager: in_memory(),
            jar: Arc::default(),
            is_https: false,
        }
    }
}

impl Client {
    /// A client without cookies, of a site with these sessions. [`Client::default`] has sessions in memory.
    #[must_use]
    pub fn new(manager: SessionManager) -> Self {
        Client {
            manager: LazyManager::new(move || Ok(manager.clone())),
            ..Client::default()
        }
    }

    /// Lets all requests come by HTTPS, or not.
    #[must_use]
    pub fn over_https(mut self, https: bool) -> Self {
        self.is_https = https;
        self
    }

    /// Starts a request that shows this client's cookies, to be sent by [`RequestBuilder::send`].
    pub fn request(&self, method: impl AsRef<str>, path: &str) -> RequestBuilder {
        let request = Request::builder().method(method).path(path);
        let request = request.lazy_manager(self.manager.clone());
        request.over_https(self.is_https).jar(Arc::clone(&self.jar))
    }

    /// Starts a GET of this path, which may have a query string.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Starts a POST to this path; [`RequestBuilder::form`] gives it a form.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// The value of a cookie that the client has.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.get(name)
    }

    /// Gives the client a cookie for all paths.
    pub fn set_cookie(&self, name: &str, value: &str) {
        self.jar.set(name, value);
    }

    /// Takes all cookies away, as when the browser is closed.
    pub fn clear_cookies(&self) {
        self.jar.clear();
    }
}

impl RequestBuilder {
    /// Sends the request to a handler and returns the whole response as a gateway gets it, its Content-Length
    /// included, after the session is committed. The [`Client`] that started it keeps the cookies.
    #[must_use]
    pub fn send<H, E>(self, handler: H) -> Response
    where
        H: Fn(&mut Request) -> Result<Response, E> + Sync,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let handler = |request: &mut Request| -> Result<Response, BoxError> {
            handler(request).map_err(Into::into)
        };
        let (jar, path, is_https) = (self.jar.clone(), self.uri_path(), self.is_https());
        let request = self.build();
        let head_only = request.method() == Method::HEAD;
        let handler = Handler {
            call: &handler,
            error_page: None,
            checks_query: true,
        };
        let (answer, lines) = error_log::keep(|| answer(&handler, request, || true));
        for line in lines {
            // Not to the descriptor: a test's output is captured.
            eprintln!("{line}");
        }
        if let Some(jar) = jar {
            jar.take(answer.response.headers(), &path, is_https);
        }
        let response = answer.response;
        let mut body = response.content(head_only).to_vec();
        if let Some(stream) = response.stream_body(head_only) {
            match stream.run(&mut body, &|| false, response.announced()) {
                StreamEnd::Failed(reason) => {
                    report_cut(reason.as_deref(), answer.session.as_ref());
                }
                StreamEnd::Whole | StreamEnd::ClientLeft => {}
            }
        }
        response.with_fields_as_sent(head_only).with_body(body)
    }
}
