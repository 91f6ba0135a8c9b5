//! [`Namespaces`]: all values in a session, by application, and the library's own notes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::SystemTime;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer as _, Serialize, Serializer};

use super::devices::{Device, Devices};
use super::values::{Flashes, Values, twice};
use crate::config::{RESERVED, invalid_name_reason};
use crate::error::{Error, Result};

/// The values of every application in a session, by the application's name.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    /// The program's own namespace.
    app: String,
    own: Values,
    others: BTreeMap<String, Values>,
    pub(crate) notes: Notes,
    /// The names that were reserved in this request.
    reserved: Vec<String>,
    longest_key: usize,
    /// They may differ from what is stored: values were within reach of a change, which may be one of them as a
    /// whole, or notes were changed.
    pub(crate) changed: bool,
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
    /// With `recordClient`: which browsers use the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) devices: Option<Box<Devices>>,
    /// Notes of a later release, which are kept.
    #[serde(flatten, skip_deserializing)]
    unknown: Values,
}

const KNOWN_NOTES: [&str; 6] = [
    "flash",
    "ends",
    "csrfToken",
    "testCookie",
    "csrfDigest",
    "devices",
];

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
            && self.devices.is_none()
            && self.unknown.is_empty()
    }
}

/// The proof that a module reserved a name: its holder alone reaches the values under
/// that name.
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

impl Namespaces {
    /// No values, of a program whose namespace is `app` and whose keys may have so many bytes.
    pub(crate) fn new(app: &str, longest_key: usize) -> Self {
        Namespaces {
            app: app.to_owned(),
            own: Values::with_longest_key(longest_key),
            others: BTreeMap::new(),
            notes: Notes::default(),
            reserved: Vec::new(),
            longest_key,
            changed: false,
        }
    }

    /// Reads what [`Namespaces::to_json`] wrote, without the values whose end has come.
    pub(crate) fn from_json(
        text: &[u8],
        app: &str,
        longest_key: usize,
        now: SystemTime,
    ) -> serde_json::Result<Self> {
        // Once for all, instead of each text by itself.
        let text = std::str::from_utf8(text).map_err(serde_json::Error::custom)?;
        let mut read = Namespaces::new(app, longest_key);
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(&mut read)?;
        json.end()?;
        if let Some(stored) = read.others.remove(RESERVED.encode_utf8(&mut [0; 4])) {
            read.read_notes(stored, now)?;
        }
        Ok(read)
    }

    #[cold]
    fn read_notes(&mut self, mut stored: Values, now: SystemTime) -> serde_json::Result<()> {
        self.notes = serde_json::from_str(&serde_json::to_string(&stored)?)?;
        for known in KNOWN_NOTES {
            stored.remove(known);
        }
        self.notes.unknown = stored;
        for (name, ends) in std::mem::take(&mut self.notes.ends) {
            let values = if name == self.app {
                Some(&mut self.own)
            } else {
                self.others.get_mut(&name)
            };
            self.changed |= values.is_some_and(|values| values.set_ends(ends, now));
        }
        Ok(())
    }

    /// All of it as one JSON object, of about `length` bytes. An application without values leaves no
    /// trace.
    pub(crate) fn to_json(&self, length: usize) -> Result<Vec<u8>> {
        let mut text = Vec::with_capacity(length + length / 8 + 64);
        let written = serde_json::to_writer(&mut text, self);
        written.map(|()| text).map_err(|source| Error::Value {
            key: String::new(),
            source,
        })
    }

    /// Whether nothing is there that must be stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled().next().is_none() && self.notes.is_empty()
    }

    /// Notes which browser uses the session now.
    pub(crate) fn note_device(&mut self, device: Device) {
        match &mut self.notes.devices {
            Some(devices) if devices.last == device => return,
            Some(devices) => devices.last = device,
            none => {
                let (first, last) = (device.clone(), device);
                *none = Some(Box::new(Devices { first, last }));
            }
        }
        self.changed = true;
    }

    pub(crate) fn own(&self) -> &Values {
        &self.own
    }

    pub(crate) fn own_mut(&mut self) -> &mut Values {
        self.changed = true;
        &mut self.own
    }

    /// The names of the applications that have values, without those that are reserved.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.filled().map(|(name, _)| name);
        names.filter(|name| !name.starts_with(RESERVED))
    }

    /// The values of an application, which are empty when it has none.
    pub(crate) fn namespace(&mut self, name: &str) -> Result<&mut Values> {
        if name == self.app {
            return Ok(self.own_mut());
        }
        check_name(name)?;
        self.check_free(name)?;
        Ok(self.entry(name.to_owned()))
    }

    /// Takes a name out of the applications' reach.
    pub(crate) fn reserve(&mut self, name: &str) -> Result<Reservation> {
        check_name(name)?;
        let is_taken = name == self.app || self.reserved.iter().any(|taken| taken == name);
        if name.is_empty() || is_taken {
            return Err(Error::Reserved(name.to_owned()));
        }
        self.reserved.push(name.to_owned());
        Ok(Reservation {
            stored_name: format!("{RESERVED}{name}"),
        })
    }

    pub(crate) fn reserved(&mut self, reservation: &Reservation) -> &mut Values {
        self.entry(reservation.stored_name.clone())
    }

    /// Gives a name up, with the values under it.
    pub(crate) fn unreserve(&mut self, reservation: &Reservation) {
        self.changed |= self.others.remove(&reservation.stored_name).is_some();
        self.reserved.retain(|taken| taken != reservation.name());
    }

    fn entry(&mut self, name: String) -> &mut Values {
        self.changed = true;
        let none = || Values::with_longest_key(self.longest_key);
        self.others.entry(name).or_insert_with(none)
    }

    /// All that have values, in the order of their names.
    fn filled(&self) -> impl Iterator<Item = (&str, &Values)> {
        let is_before = |(name, _): &(&String, &Values)| **name < self.app;
        let before = self.others.iter().take_while(is_before);
        let after = self.others.iter().skip_while(is_before);
        before
            .map(|(name, values)| (name.as_str(), values))
            .chain([(&*self.app, &self.own)])
            .chain(after.map(|(name, values)| (name.as_str(), values)))
            .filter(|(_, values)| !values.is_empty())
    }

    fn notes(&self) -> Option<Notes> {
        let ending = self.filled().filter(|(_, values)| !values.ends.is_empty());
        let ends: BTreeMap<_, _> = ending
            .map(|(name, values)| (name.to_owned(), values.ends.clone()))
            .collect();
        (!ends.is_empty() || !self.notes.is_empty()).then(|| Notes {
            ends,
            ..self.notes.clone()
        })
    }

    fn check_free(&self, name: &str) -> Result<()> {
        let is_stored = |name: &str| {
            let values = self.others.get(&format!("{RESERVED}{name}"));
            values.is_some_and(|values| !values.is_empty())
        };
        if self.reserved.iter().any(|taken| taken == name) || is_stored(name) {
            return Err(Error::Reserved(name.to_owned()));
        }
        Ok(())
    }
}

/// Reads the members of an object into what has none yet.
impl<'de> Visitor<'de> for &mut Namespaces {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_own = false;
        while let Some((name, mut values)) = map.next_entry::<String, Values>()? {
            values.longest_key = self.longest_key;
            if name == self.app {
                if std::mem::replace(&mut has_own, true) {
                    return Err(twice(&name));
                }
                self.own = values;
                continue;
            }
            match self.others.entry(name) {
                Entry::Vacant(free) => free.insert(values),
                Entry::Occupied(taken) => return Err(twice(taken.key())),
            };
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
        if let Some(notes) = self.notes() {
            members.serialize_entry(&RESERVED, &notes)?;
        }
        members.end()
    }
}

fn check_name(name: &str) -> Result<()> {
    let invalid = invalid_name_reason(name).map(|reason| Error::Key {
        key: name.to_owned(),
        reason: format!("the name of an application {reason}"),
    });
    invalid.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_KEY_LENGTH;

    fn read(text: &[u8], app: &str) -> serde_json::Result<Namespaces> {
        Namespaces::from_json(text, app, MAX_KEY_LENGTH, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn notes_of_a_later_release_are_kept() {
        let text = br#"{"":{"a":1},"@":{"csrfToken":"t","later":[{"x":1.50}]}}"#;
        let applications = read(text, "").unwrap();
        assert_eq!(applications.to_json(0).unwrap(), text);
    }
}
