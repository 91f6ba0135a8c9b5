//! [`Values`]: the values of one application in one session.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_LENGTH: usize = 128;

/// The values that one application keeps in a session, by key.
///
/// A value is anything that serde can write as JSON. It is kept as the text that was written,
/// so that reading one value parses one value and numbers keep every digit.
///
/// ```
/// # use cgi_session::{Config, SessionManager};
/// # let directory = tempfile::tempdir()?;
/// # let config = Config::new().set("storageFileDir", directory.path())?;
/// # let manager = SessionManager::new(config)?;
/// let mut session = manager.start(b"")?;
/// session.insert("pageViews", 3)?;
/// assert_eq!(session.get::<u64>("pageViews")?, Some(3));
/// assert_eq!(session.get::<String>("name")?, None);
/// assert!(session.require::<String>("name").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Values(Unique<Box<RawValue>>);

impl Values {
    /// The value under `key`, or `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] when the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.0.0.get(key) else {
            return Ok(None);
        };
        let value = serde_json::from_str(text.get());
        value.map(Some).map_err(|source| Error::Value {
            key: key.to_owned(),
            source,
        })
    }

    /// The value under `key`, which must be there.
    ///
    /// # Errors
    ///
    /// [`Error::MissingKey`], which names the key, and [`Error::Value`] as for [`Values::get`].
    pub fn require<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        self.get(key)?
            .ok_or_else(|| Error::MissingKey(key.to_owned()))
    }

    /// Whether there is a value under `key`.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.0.0.contains_key(key)
    }

    /// The keys, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.0.keys().map(String::as_str)
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.0.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// Puts a value under `key`, in place of any that was there.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] for a key that is empty or longer than [`MAX_KEY_LENGTH`];
    /// [`Error::Value`] for a value that JSON cannot hold or would not give back as it was: a
    /// number that is not finite or needs more than 64 bits, a map key that is not text, nesting
    /// deeper than 100. The old value then stays.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Serialize) -> Result<()> {
        let key = key.into();
        let reason = match key.len() {
            0 => Some("it is empty"),
            1..=MAX_KEY_LENGTH => None,
            _ => Some("it is longer than 128 bytes"),
        };
        if let Some(reason) = reason {
            return Err(Error::Key { key, reason });
        }
        let text = check::storable(&value).and_then(|()| serde_json::value::to_raw_value(&value));
        match text {
            Ok(text) => {
                self.0.0.insert(key, text);
                Ok(())
            }
            Err(source) => Err(Error::Value { key, source }),
        }
    }

    /// Removes the value under `key`; tells whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        self.0.0.remove(key).is_some()
    }

    /// Removes the value under `key` and returns it.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] when the value is not a `T`; it then stays.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        let value = self.get(key)?;
        self.0.0.remove(key);
        Ok(value)
    }

    /// Removes all values. The session itself stays.
    pub fn clear(&mut self) {
        self.0.0.clear();
    }

    /// All values as a struct of one's own, whose fields are the keys.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] when a field is missing or of another type. Give the struct
    /// `#[serde(default)]` to begin with a session that is empty.
    pub fn to_struct<T: DeserializeOwned>(&self) -> Result<T> {
        let refused = |source| Error::Value {
            key: std::any::type_name::<T>().to_owned(),
            source,
        };
        let text = serde_json::to_string(&self.0).map_err(refused)?;
        serde_json::from_str(&text).map_err(refused)
    }

    /// Changes values through a struct of one's own, whose fields are the keys.
    ///
    /// Each field is written back under its name; other keys stay as they are. A field that is
    /// skipped when serialized stays as it was.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager};
    /// # use serde::{Deserialize, Serialize};
    /// # let directory = tempfile::tempdir()?;
    /// # let config = Config::new().set("storageFileDir", directory.path())?;
    /// # let manager = SessionManager::new(config)?;
    /// #[derive(Default, Serialize, Deserialize)]
    /// #[serde(default, rename_all = "camelCase")]
    /// struct Visit {
    ///     page_views: u64,
    ///     name: Option<String>,
    /// }
    ///
    /// let mut session = manager.start(b"")?;
    /// session.edit(|visit: &mut Visit| visit.page_views += 1)?;
    /// assert_eq!(session.get::<u64>("pageViews")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Values::to_struct`] and [`Values::insert`]; nothing is changed then.
    pub fn edit<T, R>(&mut self, change: impl FnOnce(&mut T) -> R) -> Result<R>
    where
        T: Serialize + DeserializeOwned,
    {
        let mut fields: T = self.to_struct()?;
        let result = change(&mut fields);
        let refused = |source| Error::Value {
            key: std::any::type_name::<T>().to_owned(),
            source,
        };
        check::storable(&fields).map_err(refused)?;
        let text = serde_json::to_string(&fields).map_err(refused)?;
        let changed: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&text).map_err(refused)?;
        let mut edited = self.clone();
        for (key, value) in changed {
            edited.insert(key, value)?;
        }
        *self = edited;
        Ok(result)
    }
}

/// The values of every application in a session, by the application's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applications(Unique<Values>);

impl Applications {
    pub(crate) fn from_json(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text).map(Applications)
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.0)
    }

    /// Takes one application's values out, to be put back with [`Applications::put`].
    pub(crate) fn take(&mut self, app: &str) -> Values {
        self.0.0.remove(app).unwrap_or_default()
    }

    /// Puts values back; an application without values leaves no trace.
    pub(crate) fn put(&mut self, app: &str, values: Values) {
        if !values.is_empty() {
            self.0.0.insert(app.to_owned(), values);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Unique::deserialize(deserializer).map(Values)
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A JSON object in which no name may come twice: with two, somebody's value would vanish.
#[derive(Clone, Debug)]
struct Unique<V>(BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Unique(BTreeMap::new())
    }
}

impl<V: Serialize> Serialize for Unique<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = Unique<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, V>()? {
            if values.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{key:?} stands there twice")));
            }
            values.insert(key, value);
        }
        Ok(Unique(values))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn any_unicode_survives_in_keys_and_values() {
        let mut values = Values::default();
        for text in [
            "\"}{,\\",
            "\0",
            "é\u{10ffff}\u{feff}",
            "a\tb\r\n",
            " ",
            "\u{2028}",
        ] {
            values.insert(text, text).unwrap();
            assert_eq!(values.require::<String>(text).unwrap(), text);
        }
        let mut applications = Applications::default();
        applications.put("", values.clone());
        let mut again = Applications::from_json(&applications.to_json().unwrap()).unwrap();
        assert!(again.take("").keys().eq(values.keys()));
    }

    #[test]
    fn numbers_keep_every_digit() {
        let mut values = Values::default();
        values.insert("max", u64::MAX).unwrap();
        values.insert("min", i64::MIN).unwrap();
        values.insert("tenth", 0.1 + 0.2).unwrap();
        assert_eq!(values.require::<u64>("max").unwrap(), u64::MAX);
        assert_eq!(values.require::<i64>("min").unwrap(), i64::MIN);
        assert_eq!(
            values.require::<f64>("tenth").unwrap().to_bits(),
            (0.1 + 0.2f64).to_bits()
        );
    }

    #[test]
    fn what_json_would_not_give_back_is_refused_and_the_old_value_stays() {
        let mut values = Values::default();
        values.insert("x", 1).unwrap();
        assert!(values.insert("x", f64::NAN).is_err());
        assert!(values.insert("x", vec![f32::INFINITY]).is_err());
        assert!(values.insert("x", u128::MAX).is_err());
        assert!(values.insert("x", HashMap::from([(vec![1], 1)])).is_err());
        let mut deep = serde_json::Value::Null;
        for _ in 0..200 {
            deep = serde_json::Value::Array(vec![deep]);
        }
        assert!(values.insert("x", deep).is_err());
        assert_eq!(values.require::<u8>("x").unwrap(), 1);
    }

    #[test]
    fn a_key_is_1_to_128_bytes_long() {
        let mut values = Values::default();
        assert!(values.insert("k".repeat(MAX_KEY_LENGTH), 1).is_ok());
        assert!(matches!(values.insert("", 1), Err(Error::Key { .. })));
        assert!(matches!(
            values.insert("k".repeat(MAX_KEY_LENGTH + 1), 1),
            Err(Error::Key { .. })
        ));
    }

    #[test]
    fn a_key_that_stands_twice_is_not_read() {
        assert!(Applications::from_json(br#"{"":{"a":1,"a":2}}"#).is_err());
        assert!(Applications::from_json(br#"{"":{},"":{"a":2}}"#).is_err());
    }

    #[test]
    fn the_demanding_read_names_the_missing_key() {
        let error = Values::default()
            .require::<String>("firstname")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the session holds no value for \"firstname\""
        );
    }

    #[test]
    fn take_reads_and_removes_but_not_what_it_cannot_read() {
        let mut values = Values::default();
        values.insert("n", "text").unwrap();
        assert!(values.take::<u8>("n").is_err());
        assert_eq!(values.take::<String>("n").unwrap().as_deref(), Some("text"));
        assert_eq!(values.take::<String>("n").unwrap(), None);
    }

    #[test]
    fn an_edit_that_cannot_be_stored_changes_nothing() {
        #[derive(Default, Serialize, Deserialize)]
        #[serde(default)]
        struct Position {
            x: f64,
            y: f64,
        }
        let mut values = Values::default();
        values.insert("other", 1).unwrap();
        values.edit(|p: &mut Position| p.x = 1.5).unwrap();
        assert!(
            values
                .edit(|p: &mut Position| (p.x, p.y) = (2.0, f64::NAN))
                .is_err()
        );
        assert_eq!(
            values.to_struct::<Position>().unwrap().x.to_bits(),
            1.5f64.to_bits()
        );
        assert!(values.keys().eq(["other", "x", "y"]));
    }
}
