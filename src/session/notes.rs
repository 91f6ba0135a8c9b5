//! What the library keeps in a session for its users: flash values, the token of forms, the test cookie.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Session;
use crate::cookies::By;
use crate::error::Result;
use crate::id::{SessionId, hex};
use crate::record::{Flashes, Namespaces, Record, typed};

/// What the marker of a change of id keeps of a token.
pub(super) fn digest_of_token(token: &str) -> String {
    let mut text = [0; 64];
    hex(&Sha256::digest(token), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// What was left under an id says of the token of the forms before.
fn token_digest(left: &Record) -> Option<String> {
    let read = Namespaces::from_json(left.values(), "", 0, SystemTime::UNIX_EPOCH);
    let notes = read.ok()?.notes;
    let token = notes.csrf_token.as_deref();
    notes.csrf_digest.or(token.map(digest_of_token))
}

/// The name of the form field, and in lower case with a hyphen that of the header field, which
/// carry [`Session::csrf_token`].
pub(crate) const CSRF_FIELD: &str = "csrfToken";

/// The flash values of earlier requests, and those of them that this request uses up.
#[derive(Clone, Debug, Default)]
pub(super) struct Flashed {
    pub(super) values: Flashes,
    pub(super) used: RefCell<BTreeSet<String>>,
    /// No browser shows the response, so that a value that is read has not been seen.
    pub(super) stay: bool,
}

impl Flashed {
    /// What a commit stores: `own`, and of the earlier values those that are not used up.
    pub(super) fn beside(&self, own: &Flashes) -> Flashes {
        let mut left = self.values.clone();
        left.retain(|key, _| !self.used.borrow().contains(key));
        left.extend(own.iter().map(|(key, text)| (key.clone(), text.clone())));
        left
    }

    /// When this request opens the session again and finds `stored`: the part of it that belongs to
    /// the next request. An earlier value that another request has used up or replaced is not left again.
    pub(super) fn reopen(&mut self, mut stored: Flashes) -> Flashes {
        let used = self.used.get_mut();
        for (key, text) in &self.values {
            let is_stored = stored.get(key).is_some_and(|now| now.get() == text.get());
            if used.insert(key.clone()) && is_stored {
                used.remove(key);
                stored.remove(key);
            }
        }
        stored
    }
}

impl Session {
    /// Leaves a value for the next page of this session, and for that one only: a message that
    /// the page after a redirect shows.
    ///
    /// It stays until a request that is a page (neither HEAD nor a browser's prefetch) has read it
    /// with [`Session::flashed`] and committed, or until the session ends.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager};
    /// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
    /// let mut session = manager.start(b"")?;
    /// session.flash("notice", "The order is on its way.")?;
    /// assert_eq!(session.flashed::<String>("notice")?, None); // not in this request
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Values::insert`](crate::Values::insert).
    pub fn flash(&mut self, key: impl Into<String>, value: impl Serialize) -> Result<()> {
        let key = key.into();
        let text = self.storable(&key, &value)?;
        self.contents.namespaces.notes.flash.insert(key, text);
        Ok(())
    }

    /// The value that an earlier request left under `key` with [`Session::flash`].
    ///
    /// It is gone when this request commits, if the request is a page; one that fails leaves it for
    /// the next.
    ///
    /// # Errors
    ///
    /// [`Error::Value`](crate::Error::Value) when the value is not a `T`; it is used up anyway.
    pub fn flashed<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let text = self.flashes.values.get(key);
        if !self.flashes.stay && text.is_some() {
            self.flashes.used.borrow_mut().insert(key.to_owned());
        }
        typed(text.map(|text| &**text), key)
    }

    /// Leaves all that [`Session::flashed`] finds for the next page too, read or not, for a page that
    /// only leads on to another.
    pub fn keep_flash(&mut self) {
        for (key, text) in &self.flashes.values {
            let kept = &mut self.contents.namespaces.notes.flash;
            kept.entry(key.clone()).or_insert_with(|| text.clone());
        }
    }

    /// The secret that the site's own forms carry, which distinguishes them from a form that
    /// another site sends in the visitor's name: 160 random bits as hexadecimal digits, made when it is
    /// first asked for, new with each new id that a program asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Random`](crate::Error::Random) when the system gives no random bytes.
    pub fn csrf_token(&mut self) -> Result<&str> {
        let namespaces = &mut self.contents.namespaces;
        if namespaces.notes.csrf_token.is_none() {
            namespaces.notes.csrf_token = Some(SessionId::generate()?.secret().to_owned());
            namespaces.changed = true;
        }
        Ok(namespaces.notes.csrf_token.as_deref().unwrap_or_default())
    }

    /// [`Session::csrf_token`] as a hidden field, to be put into a form that posts.
    /// [`Request::check_csrf_token`](crate::Request::check_csrf_token) looks for it.
    ///
    /// # Errors
    ///
    /// As [`Session::csrf_token`].
    pub fn csrf_field(&mut self) -> Result<String> {
        let token = self.csrf_token()?;
        Ok(format!(
            r#"<input type="hidden" name="{CSRF_FIELD}" value="{token}">"#
        ))
    }

    /// Whether this is the session's token. How long the answer takes tells nothing about it.
    #[must_use]
    pub fn is_csrf_token(&self, token: &str) -> bool {
        let own = self.contents.namespaces.notes.csrf_token.as_deref();
        own.is_some_and(|own| own.as_bytes().ct_eq(token.as_bytes()).into())
    }

    /// Whether a marker of a change of id knows this as the token of the forms before.
    pub(super) fn was_csrf_token(marker: &Record, token: &str) -> bool {
        token_digest(marker).is_some_and(|known| known == digest_of_token(token))
    }

    /// The marker that takes the place of a copy.
    pub(super) fn marker_of(copy: &Record, now: SystemTime) -> Result<Record> {
        let mut left = Namespaces::new("", 0);
        left.notes.csrf_digest = token_digest(copy);
        Ok(copy.marker(left.to_json(0)?, now))
    }

    /// Stores a mark, and with it a cookie, to see whether the client sends it back: the next
    /// request asks [`Session::test_cookie_worked`].
    pub fn set_test_cookie(&mut self) {
        self.contents.namespaces.notes.test_cookie = true;
        self.contents.namespaces.changed = true;
    }

    /// Whether the client sent the cookie back that [`Session::set_test_cookie`] gave it. A client whose session a link
    /// or form has opened did not.
    #[must_use]
    pub fn test_cookie_worked(&self) -> bool {
        let is_by_link = matches!(self.presented.by, By::Link { .. });
        !self.is_new() && !is_by_link && self.contents.namespaces.notes.test_cookie
    }

    /// Removes the mark of [`Session::set_test_cookie`].
    pub fn delete_test_cookie(&mut self) {
        self.contents.namespaces.notes.test_cookie = false;
        self.contents.namespaces.changed = true;
    }
}
