//! [`Namespaces`]: all values in a session, by application, and the library's own notes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::record::{Flashes, MAX_KEY_LENGTH, Unique, Values};

/// Before a module's reserved name. Alone it is the name of the library's own notes.
const RESERVED: char = '@';
/// The longest name of an application, in bytes, as in lemon.session.
const MAX_NAME: usize = 255;

/// The values of every application in a session, by the application's name.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    values: Unique<Values>,
    pub(crate) notes: Notes,
    /// The names that were reserved in this request.
    reserved: Vec<String>,
    longest_key: usize,
}

/// What the library itself keeps in a session.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Notes {
    /// Values for the next request only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) flash: Flashes,
    /// When single values end, in seconds since 1970, by application and key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ends: BTreeMap<String, BTreeMap<String, u64>>,
    /// What the session's own forms carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) csrf_token: Option<String>,
    /// The client was sent a cookie to see whether it comes back.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) test_cookie: bool,
    /// In the marker of a change of id: the SHA-256 of the token that forms of requests under way carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) csrf_digest: Option<String>,
    /// Notes of a later release, which are kept.
    #[serde(flatten, skip_deserializing)]
    unknown: Values,
}

/// The members of [`Notes`] in JSON.
const KNOWN_NOTES: [&str; 5] = ["flash", "ends", "csrfToken", "testCookie", "csrfDigest"];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.flash.is_empty()
            && self.ends.is_empty()
            && self.csrf_token.is_none()
            && !self.test_cookie
            && self.csrf_digest.is_none()
            && self.unknown.is_empty()
    }
}

/// The proof that a module reserved a name: whoever holds it reaches the values under that name, and
/// nobody else does.
///
/// [`Session::reserve`](crate::Session::reserve) makes it.
#[derive(Debug)]
pub struct Reservation {
    /// As the values are stored: with the sign of reserved names.
    stored_name: String,
}

impl Reservation {
    /// The name that was reserved.
    #[must_use]
    pub fn name(&self) -> &str {
        self.stored_name.trim_start_matches(RESERVED)
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Namespaces {
            values: Unique::default(),
            notes: Notes::default(),
            reserved: Vec::new(),
            longest_key: MAX_KEY_LENGTH,
        }
    }
}

impl Namespaces {
    /// Reads what [`Namespaces::to_json`] wrote, without the values whose end has come.
    pub(crate) fn from_json(text: &[u8], now: SystemTime) -> serde_json::Result<Self> {
        let mut values: Unique<Values> = serde_json::from_slice(text)?;
        let mut notes = Notes::default();
        if let Some(mut stored) = values.0.remove(RESERVED.encode_utf8(&mut [0; 4])) {
            notes = serde_json::from_str(&serde_json::to_string(&stored)?)?;
            for known in KNOWN_NOTES {
                stored.remove(known);
            }
            notes.unknown = stored;
        }
        for (name, ends) in std::mem::take(&mut notes.ends) {
            if let Some(values) = values.0.get_mut(&name) {
                values.set_ends(ends, now);
            }
        }
        Ok(Namespaces {
            values,
            notes,
            ..Namespaces::default()
        })
    }

    /// All of it as one JSON object, of about `length` bytes. An application without values leaves no
    /// trace.
    pub(crate) fn to_json(&self, length: usize) -> serde_json::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(length + length / 8 + 64);
        serde_json::to_writer(&mut text, self)?;
        Ok(text)
    }

    /// The same, whose keys may be so long.
    pub(crate) fn with_longest_key(mut self, bytes: usize) -> Self {
        for values in self.values.0.values_mut() {
            values.set_longest_key(bytes);
        }
        self.longest_key = bytes;
        self
    }

    /// Whether nothing is there that must be stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.0.values().all(Values::is_empty) && self.notes.is_empty()
    }

    /// Takes one application's values out, to be put back with [`Namespaces::put`].
    pub(crate) fn take(&mut self, app: &str) -> Values {
        let values = self.values.0.remove(app);
        values.unwrap_or_else(|| Values::with_longest_key(self.longest_key))
    }

    /// Puts values back.
    pub(crate) fn put(&mut self, app: &str, values: Values) {
        if !values.is_empty() {
            self.values.0.insert(app.to_owned(), values);
        }
    }

    /// The names of the applications that have values, without those that are reserved.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.values.0.iter();
        all.filter(|(name, values)| !name.starts_with(RESERVED) && !values.is_empty())
            .map(|(name, _)| name.as_str())
    }

    /// The values of an application, which are empty when it has none.
    pub(crate) fn of(&mut self, name: &str) -> Result<&mut Values> {
        check_name(name)?;
        self.check_free(name)?;
        Ok(self.entry(name.to_owned()))
    }

    /// Takes a name out of the applications' reach.
    pub(crate) fn reserve(&mut self, name: &str) -> Result<Reservation> {
        check_name(name)?;
        if name.is_empty() || self.reserved.iter().any(|taken| taken == name) {
            return Err(Error::Reserved(name.to_owned()));
        }
        self.reserved.push(name.to_owned());
        Ok(Reservation {
            stored_name: format!("{RESERVED}{name}"),
        })
    }

    /// The values under a reserved name.
    pub(crate) fn reserved(&mut self, reservation: &Reservation) -> &mut Values {
        self.entry(reservation.stored_name.clone())
    }

    /// Gives a name up, with the values under it.
    pub(crate) fn unreserve(&mut self, reservation: &Reservation) {
        self.values.0.remove(&reservation.stored_name);
        self.reserved.retain(|taken| taken != reservation.name());
    }

    fn entry(&mut self, name: String) -> &mut Values {
        let none = || Values::with_longest_key(self.longest_key);
        self.values.0.entry(name).or_insert_with(none)
    }

    fn filled(&self) -> impl Iterator<Item = (&String, &Values)> {
        self.values
            .0
            .iter()
            .filter(|(_, values)| !values.is_empty())
    }

    /// The notes as they are to be stored.
    fn notes(&self) -> Notes {
        let ending = self
            .filled()
            .filter(|(_, values)| !values.ends().is_empty());
        Notes {
            ends: ending
                .map(|(name, values)| (name.clone(), values.ends().clone()))
                .collect(),
            ..self.notes.clone()
        }
    }

    fn check_free(&self, name: &str) -> Result<()> {
        let is_stored = |name: &str| {
            let values = self.values.0.get(&format!("{RESERVED}{name}"));
            values.is_some_and(|values| !values.is_empty())
        };
        if self.reserved.iter().any(|taken| taken == name) || is_stored(name) {
            return Err(Error::Reserved(name.to_owned()));
        }
        Ok(())
    }
}

impl Serialize for Namespaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        for (name, values) in self.filled() {
            members.serialize_entry(name, values)?;
        }
        let notes = self.notes();
        if !notes.is_empty() {
            members.serialize_entry(&RESERVED, &notes)?;
        }
        members.end()
    }
}

/// Why a text cannot be the name of an application.
pub(crate) fn invalid_name_reason(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME {
        Some("must be at most 255 bytes")
    } else if name.chars().any(char::is_control) {
        Some("must hold no control characters")
    } else if name.starts_with(RESERVED) {
        Some("must not begin with @, which marks reserved names")
    } else {
        None
    }
}

fn check_name(name: &str) -> Result<()> {
    match invalid_name_reason(name) {
        None => Ok(()),
        Some(reason) => Err(Error::Key {
            key: name.to_owned(),
            reason: format!("the name of an application {reason}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn again(applications: &Namespaces) -> Namespaces {
        Namespaces::from_json(&applications.to_json(0).unwrap(), NOW).unwrap()
    }

    #[test]
    fn a_name_that_stands_twice_is_not_read() {
        assert!(Namespaces::from_json(br#"{"":{"a":1,"a":2}}"#, NOW).is_err());
        assert!(Namespaces::from_json(br#"{"":{},"":{"a":2}}"#, NOW).is_err());
    }

    #[test]
    fn an_application_without_values_leaves_no_trace() {
        let mut applications = Namespaces::default();
        applications.of("shop").unwrap();
        assert!(applications.is_empty());
        assert_eq!(applications.to_json(0).unwrap(), b"{}");
    }

    #[test]
    fn a_reserved_name_stays_out_of_reach_in_later_requests_until_it_is_given_up() {
        let mut applications = Namespaces::default();
        let auth = applications.reserve("auth").unwrap();
        assert!(matches!(applications.of("auth"), Err(Error::Reserved(name)) if name == "auth"));
        assert!(matches!(
            applications.reserve("auth"),
            Err(Error::Reserved(_))
        ));
        applications.reserved(&auth).insert("user", "ada").unwrap();

        let mut later = again(&applications);
        assert!(matches!(later.of("auth"), Err(Error::Reserved(_))));
        assert!(matches!(later.of("@auth"), Err(Error::Key { .. })));
        assert_eq!(later.names().count(), 0);
        let auth = later.reserve("auth").unwrap();
        let user: String = later.reserved(&auth).require("user").unwrap();
        assert_eq!((auth.name(), &*user), ("auth", "ada"));
        later.unreserve(&auth);
        assert!(later.of("auth").unwrap().is_empty());
    }

    #[test]
    fn notes_of_a_later_release_are_kept() {
        let text = br#"{"":{"a":1},"@":{"csrfToken":"t","later":[{"x":1.50}]}}"#;
        let applications = Namespaces::from_json(text, NOW).unwrap();
        assert_eq!(applications.to_json(0).unwrap(), text);
    }

    #[test]
    fn notes_come_back_as_they_were_and_none_leave_no_trace() {
        let mut applications = Namespaces::default();
        let life = std::time::Duration::from_secs(60);
        applications
            .of("shop")
            .unwrap()
            .insert_for("offer", 1, life)
            .unwrap();
        applications.notes.csrf_token = Some("token".to_owned());
        let later = again(&applications);
        assert_eq!(later.to_json(0).unwrap(), applications.to_json(0).unwrap());
        let much_later = SystemTime::now() + 2 * life;
        let mut over =
            Namespaces::from_json(&applications.to_json(0).unwrap(), much_later).unwrap();
        assert!(over.of("shop").unwrap().is_empty());
        over.notes.csrf_token = None;
        assert_eq!(over.to_json(0).unwrap(), b"{}");
    }
}
