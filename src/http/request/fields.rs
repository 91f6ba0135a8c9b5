//! The fields of a request, from its query string and its form, and over several pages.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use http::{Method, StatusCode};
use serde_json::Value;

use super::Request;
use crate::error::{Error, Result};
use crate::session::CSRF_FIELD;

/// The longest form that is read, in bytes.
pub(super) const MAX_FORM: u64 = 1 << 20;

impl Request {
    /// The first value of a name in the query string.
    ///
    /// A request whose query string holds more fields than `maxFormFields` says is answered 400
    /// before the handler is called, except by an [authorizer](crate::Program::authorizer).
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        self.query_values(name).next()
    }

    /// The first value of a name in a form that was sent as `application/x-www-form-urlencoded`; with the
    /// feature `multipart` also in one with files, as `Request::next_file` says.
    ///
    /// # Errors
    ///
    /// [`Error::Body`] when the form is longer than 1 MiB, was cut off, or is of another type;
    /// [`Error::TooManyFields`] (400) when it holds more fields than `maxFormFields` says.
    pub fn form(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.form_values(name)?.into_iter().next())
    }

    /// The first value of a name in the form, or else in the query string, or else among what
    /// [`Request::load_fields`] loaded: GET and POST alike.
    ///
    /// # Errors
    ///
    /// As [`Request::form`].
    pub fn field(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.fields(name)?.into_iter().next())
    }

    /// All values of a name, where [`Request::field`] finds the first: a group of check boxes, say.
    ///
    /// # Errors
    ///
    /// As [`Request::form`].
    pub fn fields(&mut self, name: &str) -> Result<Vec<String>> {
        let mut sent = Vec::new();
        if self.sends_form() {
            sent = self.form_values(name)?;
        }
        if sent.is_empty() {
            sent.extend(self.query_values(name));
        }
        Ok(if sent.is_empty() {
            all(&self.loaded, name)
        } else {
            sent
        })
    }

    /// The values of every name that the form or else the query string holds, as [`Request::fields`] finds them: for a
    /// form whose names the program does not know. Any client can send any name.
    ///
    /// # Errors
    ///
    /// As [`Request::form`].
    pub fn all_fields(&mut self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut sent = grouped(form_urlencoded::parse(self.query_string()).into_owned());
        if self.sends_form() {
            // What the form holds, it holds in place of the query string.
            sent.extend(grouped(self.pairs()?.to_vec()));
        }
        Ok(sent)
    }

    /// Puts fields of this request into the session, each under its own name, for a form that
    /// goes over several pages; no names are all of them. Fields that the request does not hold stay
    /// as they are. One value becomes a text, several become an array of texts. With no names, a field
    /// whose own name cannot be a key is passed over: any client can send one, and can overwrite any value of the
    /// session. Name the fields where it holds anything else.
    ///
    /// ```no_run
    /// # use cgi_session::{Request, Response, Result};
    /// fn address(request: &mut Request) -> Result<Response> {
    ///     request.save_fields(&["street", "town"])?; // what this page of the form sent
    ///     request.load_fields(&[])?; // and what earlier pages did
    ///     let name = request.field("name")?.unwrap_or_default();
    ///     Ok(Response::text(name))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Request::form`], [`Request::session`] and [`Values::insert`](crate::Values::insert).
    pub fn save_fields(&mut self, names: &[&str]) -> Result<()> {
        let sent = self.all_fields()?;
        let (id_name, _) = self.visit.settings()?;
        let session = self.visit()?.session()?;
        for (name, values) in sent {
            let is_wanted = names.is_empty() || names.contains(&name.as_str());
            if !is_wanted || name == id_name || name == CSRF_FIELD {
                continue;
            }
            let saved = match values.as_slice() {
                [only] => session.insert(name, only),
                several => session.insert(name, several),
            };
            match saved {
                Err(Error::Key { .. }) if names.is_empty() => {}
                saved => saved?,
            }
        }
        Ok(())
    }

    /// Takes fields from the session into this request, where [`Request::field`] finds those that
    /// the client did not send; no names are all values. Texts, numbers, truth values and arrays
    /// of them can be fields; others are passed over.
    ///
    /// # Errors
    ///
    /// As [`Request::existing_session`].
    pub fn load_fields(&mut self, names: &[&str]) -> Result<()> {
        let mut loaded = Vec::new();
        if let Some(session) = self.visit()?.existing()? {
            let wanted = session
                .keys()
                .filter(|key| names.is_empty() || names.contains(key));
            for name in wanted {
                let values = match session.require(name)? {
                    Value::Array(values) => values,
                    value => vec![value],
                };
                let texts = values.iter().filter_map(as_field);
                loaded.extend(texts.map(|text| (name.to_owned(), text)));
            }
        }
        self.loaded = loaded;
        Ok(())
    }

    pub(super) fn query_values(&self, name: &str) -> impl Iterator<Item = String> {
        let parsed = form_urlencoded::parse(self.query_string());
        let values = parsed.filter(move |(known, _)| known == name);
        values.map(|(_, value)| value.into_owned())
    }

    pub(super) fn form_values(&mut self, name: &str) -> Result<Vec<String>> {
        Ok(all(self.pairs()?, name))
    }

    /// Whether a form may be in the body: that of a POST must be one.
    fn sends_form(&self) -> bool {
        match self.method() {
            Method::POST => true,
            Method::GET | Method::HEAD => false,
            _ => self.has_form(),
        }
    }

    /// Whether the body is a form, as far as its type tells.
    pub(super) fn has_form(&self) -> bool {
        #[cfg(feature = "multipart")]
        if self.is_multipart() {
            return true;
        }
        let essence = self.essence();
        essence.is_empty() || essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    }

    /// The type of the body, without parameters.
    pub(super) fn essence(&self) -> &[u8] {
        let content_type = self.param("CONTENT_TYPE").unwrap_or_default().as_bytes();
        let essence = content_type.split(|byte| *byte == b';').next();
        essence.unwrap_or_default().trim_ascii()
    }

    fn query_string(&self) -> &[u8] {
        let query = self.param("QUERY_STRING").map(OsStr::as_bytes);
        query.unwrap_or_default()
    }

    fn pairs(&mut self) -> Result<&[(String, String)]> {
        #[cfg(feature = "multipart")]
        if self.is_multipart() {
            self.begin_multipart()?;
        }
        if self.form.is_none() {
            self.form = Some(self.read_form()?);
        }
        Ok(self.form.as_deref().unwrap_or_default())
    }

    /// Refuses a query string that holds too many fields, before the handler looks for one.
    pub(crate) fn check_query(&mut self) -> Result<()> {
        let count = count_fields(self.query_string());
        self.check_fields(count)
    }

    pub(super) fn check_fields(&mut self, count: usize) -> Result<()> {
        // One is never too many, and mostly spares a program without a session its configuration.
        let limit = if count > 1 {
            self.visit.max_form_fields()
        } else {
            1
        };
        if count > limit {
            return Err(Error::TooManyFields { count, limit });
        }
        Ok(())
    }

    fn read_form(&mut self) -> Result<Vec<(String, String)>> {
        if !self.has_form() {
            let reason = "a form must be sent as application/x-www-form-urlencoded".to_owned();
            return Err(Error::Body {
                reason,
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            });
        }
        // Of a form that was refused the number is left.
        self.check_fields(self.form_fields)?;
        let bytes = self.body.read_all(MAX_FORM)?;
        self.form_fields = count_fields(&bytes);
        self.check_fields(self.form_fields)?;
        Ok(form_urlencoded::parse(&bytes).into_owned().collect())
    }
}

/// How many fields a query string or a form holds.
fn count_fields(text: &[u8]) -> usize {
    let fields = text.split(|byte| *byte == b'&');
    fields.filter(|field| !field.is_empty()).count()
}

/// The values of each name, in their order.
fn grouped(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in pairs {
        groups.entry(name).or_default().push(value);
    }
    groups
}

fn all(pairs: &[(String, String)], name: &str) -> Vec<String> {
    let found = pairs.iter().filter(|(known, _)| known == name);
    found.map(|(_, value)| value.clone()).collect()
}

fn as_field(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
