//! Links and forms that carry the session's id to clients that keep no cookie.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Request;
use crate::error::Result;

impl Request {
    /// The address of a page of this site, with the session's id in it when `idFrom` allows that
    /// and the client's cookie does not hold it: CherryPy's `sessionId=` parameter.
    ///
    /// Only a relative reference such as `next` or `/shop?page=2` gets an id; an address with a
    /// scheme or a host may be another site's and stays as it is. Put into HTML, escape it
    /// like any text. A session in which nothing was put yet has no id to carry: call this after
    /// that. The response then says `Referrer-Policy: same-origin`, and may not be cached.
    ///
    /// Everyone who sees such an address has the session: use it only where cookies do not work.
    ///
    /// # Errors
    ///
    /// When no manager can be made, and when the system gives no random bytes.
    pub fn link(&mut self, address: &str) -> Result<String> {
        let (name, from) = self.visit.settings()?;
        let carried = if from.query && is_of_this_site(address) {
            self.visit()?.id_for_links()?
        } else {
            None
        };
        Ok(match carried {
            Some(id) => with_parameter(address, &name, id.secret()),
            None => address.to_owned(),
        })
    }

    /// The hidden field that carries the session's id in a form that posts, when `idFrom` allows
    /// that and the client's cookie does not hold it; otherwise an empty text. See [`Request::link`].
    ///
    /// # Errors
    ///
    /// As [`Request::link`].
    pub fn id_field(&mut self) -> Result<String> {
        let (name, from) = self.visit.settings()?;
        let carried = if from.form {
            self.visit()?.id_for_links()?
        } else {
            None
        };
        let field = carried.map(|id| {
            // A cookie's name is a token (RFC 9110, 5.6.2), which may hold this one sign of HTML.
            let name = name.replace('&', "&amp;");
            let id = id.secret();
            format!(r#"<input type="hidden" name="{name}" value="{id}">"#)
        });
        Ok(field.unwrap_or_default())
    }
}

/// The address as [`Request::link`] makes it for a client that keeps no cookie, for the fuzz target.
#[cfg(fuzzing)]
#[must_use]
pub fn link(address: &str, name: &str, id: &crate::id::SessionId) -> String {
    if is_of_this_site(address) {
        with_parameter(address, name, id.secret())
    } else {
        address.to_owned()
    }
}

/// Whether an address is a relative reference without a host (RFC 3986, 4.2).
fn is_of_this_site(address: &str) -> bool {
    let path = address.split(['/', '?', '#']).next().unwrap_or_default();
    // Browsers read a backslash as a slash, and pass over control characters.
    let is_plain = address.bytes().all(|byte| byte > b' ' && byte != b'\\');
    is_plain && !path.contains(':') && !address.starts_with("//")
}

/// The address with this parameter in place of all of its name, before its fragment.
fn with_parameter(address: &str, name: &str, value: &str) -> String {
    let (address, fragment) = match address.find('#') {
        Some(at) => address.split_at(at),
        None => (address, ""),
    };
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let is_other = |parameter: &&str| {
        let parsed = form_urlencoded::parse(parameter.as_bytes()).next();
        parsed.is_some_and(|(known, _)| known != name)
    };
    let others: String = query
        .split('&')
        .filter(is_other)
        .flat_map(|parameter| [parameter, "&"])
        .collect();
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    format!("{path}?{others}{name}={value}{fragment}")
}
