//! [`Request`]: what a server told about one request, and the way to its session.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use http::{Method, StatusCode};

use crate::body::{Body, BodyReader};
use crate::error::{Error, Result};
use crate::manager::SessionManager;
use crate::params::Params;
use crate::session::{Session, Snapshot};
use crate::visit::Visit;

/// The longest form that is read, in bytes.
const LONGEST_FORM: u64 = 1 << 20;

/// One request, as CGI (RFC 3875) and FastCGI hand it over.
///
/// What comes from a client is bytes: names and values are looked up as they came, and turned into
/// text where text is asked for, with U+FFFD for what is not UTF-8.
///
/// [`Request::session`] opens the visitor's session and holds it until the response is ready; it is
/// then committed, and the cookie is sent if the client needs one.
pub struct Request {
    params: Params,
    body: Body,
    form: Option<Vec<(String, String)>>,
    visit: Visit,
}

impl Request {
    pub(crate) fn new(
        params: Params,
        body: Body,
        manager: impl FnMut() -> Result<SessionManager> + 'static,
    ) -> Self {
        let visit = Visit::new(Box::new(manager), cookie_header(&params));
        Request {
            params,
            body,
            form: None,
            visit,
        }
    }

    /// A variable of the gateway, such as `REMOTE_ADDR`; the last of several of one name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&OsStr> {
        self.params.get(name)
    }

    /// The method; GET when the server said none that could be one.
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

    /// A header field by its name, as in `user-agent`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&OsStr> {
        let variable = name.to_ascii_uppercase().replace('-', "_");
        match variable.as_str() {
            "CONTENT_TYPE" | "CONTENT_LENGTH" => self.param(&variable),
            _ => self.param(&format!("HTTP_{variable}")),
        }
    }

    /// Whether the client came by HTTPS, as the server says. Behind a proxy that ends TLS the
    /// server does not know: set `cookieSecure = true` there.
    #[must_use]
    pub fn is_https(&self) -> bool {
        let on = |value: &OsStr| value.eq_ignore_ascii_case("on") || value == "1";
        self.param("HTTPS").is_some_and(on)
            || self
                .param("REQUEST_SCHEME")
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    /// The first value of a name in the query string.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.param("QUERY_STRING").unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The first value of a name in a form that was sent as `application/x-www-form-urlencoded`.
    ///
    /// # Errors
    ///
    /// [`Error::Body`] when the form is longer than 1 MiB, was cut off, or is of another type.
    pub fn form(&mut self, name: &str) -> Result<Option<String>> {
        if self.form.is_none() {
            self.form = Some(self.read_form()?);
        }
        let pairs = self.form.as_deref().unwrap_or_default();
        Ok(pairs
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone()))
    }

    /// The first value of a name in the form, or else in the query string: GET and POST alike.
    ///
    /// # Errors
    ///
    /// As [`Request::form`].
    pub fn field(&mut self, name: &str) -> Result<Option<String>> {
        let posted = if self.method() == Method::POST {
            self.form(name)?
        } else {
            None
        };
        Ok(posted.or_else(|| self.query(name)))
    }

    /// The body, of which at most `limit` bytes are accepted.
    pub fn body(&mut self, limit: u64) -> BodyReader<'_> {
        BodyReader {
            body: &mut self.body,
            limit,
        }
    }

    /// The visitor's session, opened or new; the same one however often this is called.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`], and [`Error::Config`].
    pub fn session(&mut self) -> Result<&mut Session> {
        self.visit.session()
    }

    /// The visitor's session if there is one; makes nothing.
    ///
    /// # Errors
    ///
    /// As [`Request::session`].
    pub fn existing_session(&mut self) -> Result<Option<&mut Session>> {
        self.visit.existing()
    }

    /// The visitor's session as it is at this moment. Waits for nobody and locks nothing.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::read`], and [`Error::AlreadyOpen`] while this request holds the session.
    pub fn read_session(&mut self) -> Result<Option<Snapshot>> {
        self.visit.read()
    }

    /// Opens the session, lets `change` change it, and commits at once: the session is locked only
    /// while `change` runs.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::update`], and [`Error::AlreadyOpen`] while this request holds the session.
    pub fn update_session<T>(
        &mut self,
        change: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        self.visit.update(change)
    }

    /// Commits the session now and gives up its lock; what follows in this request may take its time.
    ///
    /// # Errors
    ///
    /// As [`Session::commit`].
    pub fn commit_session(&mut self) -> Result<()> {
        self.visit.commit()
    }

    /// Deletes the visitor's session. A session opened after this in the same request is a new one.
    ///
    /// # Errors
    ///
    /// As [`Session::destroy`].
    pub fn destroy_session(&mut self) -> Result<()> {
        self.visit.destroy()
    }

    pub(crate) fn into_parts(self) -> (Body, Visit) {
        (self.body, self.visit)
    }

    fn read_form(&mut self) -> Result<Vec<(String, String)>> {
        let content_type = self.param("CONTENT_TYPE").unwrap_or_default().as_bytes();
        let essence = content_type
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if !essence.is_empty()
            && !essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        {
            let reason = "a form must be sent as application/x-www-form-urlencoded".to_owned();
            return Err(Error::Body {
                reason,
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            });
        }
        let bytes = self.body.read_all(LONGEST_FORM)?;
        Ok(form_urlencoded::parse(&bytes).into_owned().collect())
    }
}

/// All Cookie headers as one: nginx hands over each as a parameter of the same name.
pub(crate) fn cookie_header(params: &Params) -> Vec<u8> {
    let headers = params.iter().filter(|(name, _)| *name == b"HTTP_COOKIE");
    headers
        .map(|(_, value)| value)
        .collect::<Vec<_>>()
        .join(&b"; "[..])
}
