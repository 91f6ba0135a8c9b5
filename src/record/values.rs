//! [`Values`]: the values of one application in one session.

mod check;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::unix_seconds;
use crate::config::MAX_KEY_LENGTH;
use crate::error::{Error, Result};

/// Values for one request, as the JSON texts that they are stored as.
pub(crate) type Flashes = BTreeMap<String, Box<RawValue>>;

/// The values that one application keeps in a session, by key.
///
/// A value is anything that serde can write as JSON. It is kept as the text that was written,
/// so that reading one value parses one value and numbers keep every digit.
///
/// ```
/// # use cgi_session::{Config, SessionManager};
/// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
/// let mut session = manager.start(b"")?;
/// session.insert("pageViews", 3)?;
/// assert_eq!(session.get::<u64>("pageViews")?, Some(3));
/// assert_eq!(session.get::<String>("name")?, None);
/// assert!(session.require::<String>("name").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # When a type changes
///
/// Sessions outlive a deployment, and what an earlier build stored may not be a `T` of this one. Give
/// new fields `#[serde(default)]`; store a value of another type under another key, or read it as
/// [`serde_json::Value`] first. Where that was forgotten, the request is answered 500 and the log
/// names the key and the session's digest: `cgi-session show DIGEST` says what is stored, and
/// `cgi-session unset --session DIGEST KEY` or `cgi-session destroy DIGEST` lets the visitor in again.
/// [`Values::insert`] and [`Values::remove`] do not read what was there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Values {
    texts: Unique<Box<RawValue>>,
    /// When the values that end before the session do end, in seconds since 1970.
    #[serde(skip)]
    pub(super) ends: BTreeMap<String, u64>,
    #[serde(skip, default = "max_key_length")]
    pub(super) longest_key: usize,
}

impl Default for Values {
    fn default() -> Self {
        Values {
            texts: Unique(BTreeMap::new()),
            ends: BTreeMap::new(),
            longest_key: MAX_KEY_LENGTH,
        }
    }
}

impl Values {
    /// The value under `key`, or `None` when there is none; `null`, which is what an `Option` without a value or
    /// Python's `None` is stored as, counts as none where a `T` cannot be that.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] when the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        typed(self.texts.0.get(key).map(|text| &**text), key)
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
        self.texts.0.contains_key(key)
    }

    /// The keys, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.texts.0.keys().map(String::as_str)
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.0.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.0.is_empty()
    }

    /// Puts a value under `key`, in place of any that was there.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] for a key that is empty, or longer than `maxKeyLength` says (at most
    /// [`MAX_KEY_LENGTH`]);
    /// [`Error::Value`] for a value that JSON cannot hold or would not give back as it was: a
    /// number that is not finite or needs more than 64 bits, a map key that is neither text nor a number or comes
    /// twice, nesting deeper than 100. The old value then stays.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Serialize) -> Result<()> {
        let key = key.into();
        let text = self.storable(&key, &value)?;
        self.ends.remove(&key);
        self.texts.0.insert(key, text);
        Ok(())
    }

    /// Puts a value under `key` that ends before the session does: from `life` on, rounded up to
    /// whole seconds, requests no longer find it. A later [`Values::insert`] under this key has no
    /// such end.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager};
    /// # use std::time::Duration;
    /// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
    /// let mut session = manager.start(b"")?;
    /// session.insert_for("code", 4711, Duration::from_secs(300))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Values::insert`].
    pub fn insert_for(
        &mut self,
        key: impl Into<String>,
        value: impl Serialize,
        life: Duration,
    ) -> Result<()> {
        let key = key.into();
        self.insert(&*key, value)?;
        self.ends
            .insert(key, super::end_of(SystemTime::now(), life));
        Ok(())
    }

    /// Removes the value under `key`; tells whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        self.ends.remove(key);
        self.texts.0.remove(key).is_some()
    }

    /// Removes the value under `key` and returns it.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] when the value is not a `T`; it then stays.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        let value = self.get(key)?;
        self.remove(key);
        Ok(value)
    }

    /// Removes all values. The session itself stays.
    pub fn clear(&mut self) {
        self.texts.0.clear();
        self.ends.clear();
    }

    /// All values as a struct of one's own, whose fields are the keys.
    ///
    /// # Errors
    ///
    /// [`Error::Value`], which names the field, when one is missing or of another type. Give the struct
    /// `#[serde(default)]` to begin with a session that is empty.
    pub fn to_struct<T: DeserializeOwned>(&self) -> Result<T> {
        self.current().map(|(fields, _)| fields)
    }

    /// The fields, and the values without those that stand beside an alias. Programs from before and after a change of a
    /// field's name may run at once: an edit of the new one removes its alias, so that the alias was written last.
    fn current<T: DeserializeOwned>(&self) -> Result<(T, Cow<'_, Self>)> {
        let read = self.read_fields();
        let Some(field) = read
            .as_ref()
            .err()
            .and_then(doubled_field)
            .filter(|it| self.contains(it))
        else {
            return Ok((read?, Cow::Borrowed(self)));
        };
        let mut others = self.clone();
        others.remove(&field);
        let (fields, current) = others.current()?;
        Ok((fields, Cow::Owned(current.into_owned())))
    }

    /// The same, but that it refuses a field beside an alias of it.
    fn read_fields<T: DeserializeOwned>(&self) -> Result<T> {
        let (mut texts, current) = (self.texts.0.iter(), Cell::new(None));
        let fields = std::iter::from_fn(|| {
            let field = texts.next();
            current.set(field.map(|(key, _)| key));
            field.map(|(key, text)| (key.as_str(), &**text))
        });
        T::deserialize(MapDeserializer::new(fields)).map_err(|source: serde_json::Error| {
            let key = current.get().cloned().unwrap_or_default();
            let source = if key.is_empty() && source.to_string().starts_with("missing field") {
                let name = std::any::type_name::<T>();
                serde_json::Error::custom(format_args!(
                    "{source} of {name}; #[serde(default)] lets it be absent"
                ))
            } else {
                source
            };
            Error::Value { key, source }
        })
    }

    /// Changes values through a struct of one's own, whose fields are the keys.
    ///
    /// A field that `change` has changed is written under its name, and removed when it is `None` (unless its default
    /// is another) or is now skipped when serialized; everything else stays as it is. What an alias of a changed field
    /// had stored goes; stored beside its field, it is what counts: [`Values::insert`] removes no alias.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager};
    /// # use serde::{Deserialize, Serialize};
    /// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
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
    /// assert!(!session.contains("name"));
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
        let (mut fields, current) = self.current::<T>()?;
        let before = texts_of(&fields, serde_json::value::to_raw_value)?;
        let result = change(&mut fields);
        let after = texts_of(&fields, check::to_text)?;
        let mut edited = current.as_ref().clone();
        let is_own = |key: &str| before.contains_key(key) || after.contains_key(key);
        for (key, value) in before.iter().filter(|it| !after.contains_key(it.0)) {
            edited.take_over(current.alias_of::<T>(key, value, is_own), key);
            edited.remove(key);
        }
        let mut nulls = Vec::new();
        for (key, value) in &after {
            if before.get(key).is_some_and(|old| old.get() == value.get()) {
                continue;
            }
            let known = before.get(key).unwrap_or(value);
            edited.take_over(current.alias_of::<T>(key, known, is_own), key);
            if value.get() == "null" {
                edited.remove(key);
                nulls.push(key);
            } else {
                // Its end stays.
                let text = edited.storable(key, value)?;
                edited.texts.0.insert(key.clone(), text);
            }
        }
        if !nulls.is_empty() {
            // What is missing may be read as a default, or not at all where it is null without being an Option.
            let read = edited.to_struct::<T>();
            let read = read.and_then(|fields| texts_of(&fields, check::to_text));
            let read = read.unwrap_or_default();
            nulls.retain(|key| read.get(*key).is_none_or(|text| text.get() != "null"));
            nulls
                .into_iter()
                .try_for_each(|key| edited.insert(key, ()))?;
        }
        *self = edited;
        Ok(result)
    }

    /// The key of the value that a struct has read as this field by an alias: it would refuse both.
    fn alias_of<T: DeserializeOwned>(
        &self,
        field: &str,
        value: &RawValue,
        is_own: impl Fn(&str) -> bool,
    ) -> Option<String> {
        if self.contains(field) {
            return None;
        }
        let reads = |texts: &Self| texts.read_fields::<T>().is_ok();
        let mut both = self.clone();
        both.texts.0.insert(field.to_owned(), value.to_owned());
        if reads(&both) {
            return None;
        }
        let mut others = self.keys().filter(|key| !is_own(key));
        let alias = others.find(|alias| {
            let mut one = both.clone();
            one.remove(alias) && reads(&one)
        });
        alias.map(str::to_owned)
    }

    /// Lets a field take the place, and the end, of what an alias of it had stored.
    fn take_over(&mut self, alias: Option<String>, field: &str) {
        let Some(alias) = alias else { return };
        if let Some(end) = self.ends.get(&alias).copied() {
            self.ends.insert(field.to_owned(), end);
        }
        self.remove(&alias);
    }
}

/// The field that serde has found twice.
fn doubled_field(error: &Error) -> Option<String> {
    let Error::Value { source, .. } = error else {
        return None;
    };
    let text = source.to_string();
    let (field, _) = text.strip_prefix("duplicate field `")?.split_once('`')?;
    Some(field.to_owned())
}

/// The fields of a struct as JSON texts.
fn texts_of<T: Serialize>(
    fields: &T,
    to_text: impl FnOnce(&T) -> serde_json::Result<Box<RawValue>>,
) -> Result<BTreeMap<String, Box<RawValue>>> {
    let texts = to_text(fields).and_then(|text| serde_json::from_str::<Unique<_>>(text.get()));
    texts.map(|texts| texts.0).map_err(|source| Error::Value {
        key: std::any::type_name::<T>().to_owned(),
        source,
    })
}

/// The value that a JSON text holds, if there is one.
pub(crate) fn typed<T: DeserializeOwned>(text: Option<&RawValue>, key: &str) -> Result<Option<T>> {
    let Some(text) = text.map(RawValue::get) else {
        return Ok(None);
    };
    match serde_json::from_str(text) {
        Err(_) if text == "null" => Ok(None),
        read => read.map(Some).map_err(|source| Error::Value {
            key: key.to_owned(),
            source,
        }),
    }
}

/// For the library's own use.
impl Values {
    /// No values, whose keys may be so long.
    pub(crate) fn with_longest_key(bytes: usize) -> Self {
        Values {
            longest_key: bytes,
            ..Values::default()
        }
    }

    /// A value as JSON text, unless the key or the value breaks the rules of [`Values::insert`].
    pub(crate) fn storable(&self, key: &str, value: &impl Serialize) -> Result<Box<RawValue>> {
        let reason = match key.len() {
            0 => "it is empty".to_owned(),
            length if length > self.longest_key => format!(
                "it has {length} bytes, of at most {} (maxKeyLength)",
                self.longest_key
            ),
            _ => {
                return check::to_text(value).map_err(|source| Error::Value {
                    key: key.to_owned(),
                    source,
                });
            }
        };
        Err(Error::Key {
            key: key.to_owned(),
            reason,
        })
    }

    /// Says when single values end, and removes those whose end has come; tells whether there were any.
    pub(crate) fn set_ends(&mut self, ends: BTreeMap<String, u64>, now: SystemTime) -> bool {
        let now = unix_seconds(now);
        let length = self.len();
        for (key, end) in ends {
            if end <= now {
                self.texts.0.remove(&key);
            } else if self.contains(&key) {
                self.ends.insert(key, end);
            }
        }
        self.len() < length
    }
}

fn max_key_length() -> usize {
    MAX_KEY_LENGTH
}

/// A JSON object in which no name may come twice: with two, a value would vanish.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Unique<V>(pub(crate) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

/// Why an object with this name twice is not read.
pub(super) fn twice<E: serde::de::Error>(name: &str) -> E {
    E::custom(format_args!("{name:?} stands there twice"))
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
            match values.entry(key) {
                Entry::Vacant(free) => free.insert(value),
                Entry::Occupied(taken) => return Err(twice(taken.key())),
            };
        }
        Ok(Unique(values))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Serializer;

    use super::*;

    /// Values under these keys.
    fn values(filled: &[(&str, &str)]) -> Values {
        let mut values = Values::default();
        for (key, value) in filled {
            values.insert(*key, value).unwrap();
        }
        values
    }

    #[test]
    fn null_is_no_value_of_a_type_that_has_none() {
        let mut values = Values::default();
        values.insert("name", None::<String>).unwrap();
        assert_eq!(values.get::<String>("name").unwrap(), None);
        assert_eq!(values.get::<Option<String>>("name").unwrap(), Some(None));
        assert_eq!(values.get("name").unwrap(), Some(serde_json::Value::Null));
        let missing = values.require::<u64>("name").unwrap_err();
        assert!(matches!(missing, Error::MissingKey(key) if key == "name"));
        assert_eq!(values.take::<String>("name").unwrap(), None);
        assert!(!values.contains("name"));
    }

    #[test]
    fn what_json_would_not_give_back_is_refused_and_the_old_value_stays() {
        let mut values = values(&[("x", "old")]);
        let brackets = "[".repeat(101) + &"]".repeat(101);
        let deep: serde_json::Value = serde_json::from_str(&brackets).unwrap();
        assert!(values.insert("x", deep).is_err());
        assert!(values.insert("x", f64::NAN).is_err());
        assert!(values.insert("x", vec![f32::INFINITY]).is_err());
        assert!(values.insert("x", u128::MAX).is_err());
        assert!(values.insert("x", HashMap::from([(vec![1], 1)])).is_err());
        for text in [
            "18446744073709551616",
            "[1,-9223372036854775809]",
            "1e999",
            r#"{"a":1,"a":2}"#,
            r#"[{"b":{"a":1,"\u0061":2}}]"#,
            &brackets,
        ] {
            if let Ok(raw) = RawValue::from_string(text.to_owned()) {
                assert!(values.insert("x", &raw).is_err(), "{text}");
                assert!(values.insert("x", [Some(raw)]).is_err(), "{text}");
            }
            assert!(serde_json::from_str::<Values>(text).is_err(), "{text}");
        }
        let twice = Twice(BTreeMap::from([("a", 1)]), BTreeMap::from([("a", 2)]));
        assert!(values.insert("x", twice).is_err());
        assert_eq!(values.require::<String>("x").unwrap(), "old");
    }

    /// As serde's `flatten` writes two maps.
    struct Twice(BTreeMap<&'static str, u8>, BTreeMap<&'static str, u8>);

    impl Serialize for Twice {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().chain(&self.1))
        }
    }

    #[test]
    fn a_json_text_that_keeps_the_rules_is_stored_as_it_is() {
        let mut values = Values::default();
        for text in [
            "18446744073709551615",
            "-9223372036854775808",
            "[1.5e300, -0, 123456789012345678901.0]",
            r#" {"a": {"a": "18446744073709551616 \" {"}, "b": []} "#,
            &("[".repeat(100) + &"]".repeat(100)),
        ] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            values.insert("x", &raw).unwrap();
            let back: Box<RawValue> = values.require("x").unwrap();
            assert_eq!(back.get(), raw.get());
        }
    }

    #[test]
    fn a_key_is_1_to_128_bytes_long_or_as_few_as_the_configuration_says() {
        for longest in [MAX_KEY_LENGTH, 32] {
            let mut values = Values::with_longest_key(longest);
            assert!(values.insert("k".repeat(longest), 1).is_ok());
            assert!(matches!(values.insert("", 1), Err(Error::Key { .. })));
            let error = values.insert("k".repeat(9_999), 1).unwrap_err().to_string();
            let reason = format!("9999 bytes, of at most {longest}");
            assert!(error.contains(&reason) && error.len() < 300, "{error}");
            assert!(values.insert("k".repeat(longest + 1), 1).is_err());
        }
    }

    #[test]
    fn a_value_whose_end_has_come_is_gone_and_one_that_was_put_anew_has_none() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut values = Values::default();
        for key in ["over", "not yet", "anew"] {
            values.insert_for(key, 1, Duration::from_secs(9)).unwrap();
        }
        values.insert("anew", 2).unwrap();
        assert!(values.ends.keys().eq(["not yet", "over"]));
        let ends = [("over", 100), ("not yet", 101), ("absent", 200)];
        let ends = ends.map(|(key, end)| (key.to_owned(), end));
        assert!(values.set_ends(ends.into(), at(100)));
        assert!(values.keys().eq(["anew", "not yet"]));
        values.remove("not yet");
        assert!(!values.ends.contains_key("not yet"));
    }

    #[test]
    fn take_reads_and_removes_but_not_what_it_cannot_read() {
        let mut values = values(&[("n", "text")]);
        assert!(values.take::<u8>("n").is_err());
        assert_eq!(values.take::<String>("n").unwrap().as_deref(), Some("text"));
        assert_eq!(values.take::<String>("n").unwrap(), None);
        let error = values.require::<String>("n").unwrap_err().to_string();
        assert_eq!(error, "the session holds no value for \"n\"");
    }

    #[derive(Serialize, Deserialize)]
    struct Login {
        code: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default)]
        rate: f64,
        #[serde(default)]
        extra: serde_json::Value,
    }

    #[test]
    fn an_edit_writes_what_changed_and_none_is_absent() {
        let mut values = values(&[("name", "Ada"), ("later", "1")]);
        values
            .insert_for("code", 4711, Duration::from_secs(1))
            .unwrap();
        let ends = values.ends.clone();
        values.edit(|login: &mut Login| login.rate = 1.5).unwrap();
        values
            .edit(|login: &mut Login| login.code = Some(4712))
            .unwrap();
        assert_eq!(values.ends, ends);
        assert!(values.keys().eq(["code", "later", "name", "rate"]));
        let failed = values.edit(|login: &mut Login| (login.code, login.rate) = (None, f64::NAN));
        assert!(failed.is_err(), "it is changed in part");
        assert_eq!(values.get::<u32>("code").unwrap(), Some(4712));
        values
            .edit(|login: &mut Login| (login.code, login.name) = (None, None))
            .unwrap();
        assert!(values.keys().eq(["later", "rate"]));
        assert!(values.ends.is_empty());
        values
            .edit(|login: &mut Login| login.code = Some(7))
            .unwrap();
        assert_eq!(values.get::<u32>("code").unwrap(), Some(7));
        assert!(values.ends.is_empty());
    }

    #[test]
    fn an_edit_removes_what_an_alias_had_read() {
        #[derive(Default, Serialize, Deserialize)]
        #[serde(default)]
        struct Renamed {
            #[serde(alias = "name", alias = "zname")]
            full_name: String,
            #[serde(alias = "old")]
            code: u8,
            #[serde(alias = "note")]
            word: Option<String>,
        }
        for alias in ["name", "zname"] {
            let mut values = values(&[(alias, "Ada"), ("other", "2")]);
            values.insert("old", 7).unwrap();
            values.edit(|it: &mut Renamed| it.word = None).unwrap();
            assert_eq!(values.get::<String>(alias).unwrap().as_deref(), Some("Ada"));
            for letter in ["!", "?"] {
                let change = |it: &mut Renamed| (it.full_name += letter, it.code += 1);
                values.edit(change).unwrap();
            }
            assert!(values.keys().eq(["code", "full_name", "other"]));
            let read: Renamed = values.to_struct().unwrap();
            assert_eq!((&*read.full_name, read.code), ("Ada!?", 9));
        }
        let mut values = values(&[("name", "Ada"), ("note", "x")]);
        values.insert("old", 7).unwrap();
        values.edit(|it: &mut Renamed| it.code += 1).unwrap();
        assert!(values.keys().eq(["code", "name", "note"]));
        values.edit(|it: &mut Renamed| it.word = None).unwrap();
        let read: Renamed = values.to_struct().unwrap();
        assert_eq!((&*read.full_name, read.code, read.word), ("Ada", 8, None));
        assert!(values.keys().eq(["code", "name"]));
        // Of a program from before the change, after one from after it.
        for alias in ["name", "zname"] {
            values.insert("full_name", "Ada").unwrap();
            values.insert(alias, "Eve").unwrap();
            values.edit(|it: &mut Renamed| it.code += 1).unwrap();
            values.edit(|it: &mut Renamed| it.full_name += "!").unwrap();
            assert!(values.keys().eq(["code", "full_name"]));
            let read: Renamed = values.to_struct().unwrap();
            assert_eq!(read.full_name, "Eve!");
        }
    }

    #[test]
    fn a_null_that_no_option_holds_can_be_read_again() {
        #[derive(Serialize, Deserialize)]
        struct Page {
            extra: serde_json::Value,
            note: Option<u8>,
        }
        let mut values = values(&[("extra", "1")]);
        values
            .edit(|page: &mut Page| page.extra = serde_json::Value::Null)
            .unwrap();
        assert!(values.to_struct::<Page>().unwrap().extra.is_null());
    }

    #[test]
    fn none_stays_where_the_default_is_another() {
        #[derive(Serialize, Deserialize)]
        #[serde(default)]
        struct Page {
            lines: Option<u8>,
            note: Option<u8>,
        }
        impl Default for Page {
            fn default() -> Self {
                let (lines, note) = (Some(20), None);
                Page { lines, note }
            }
        }
        let mut values = Values::default();
        values.insert("note", 1).unwrap();
        values
            .edit(|page: &mut Page| (page.lines, page.note) = (None, None))
            .unwrap();
        assert!(values.keys().eq(["lines"]));
        assert_eq!(values.to_struct::<Page>().unwrap().lines, None);
    }

    #[test]
    fn a_struct_that_does_not_fit_names_the_field() {
        let mut values = values(&[("aside", "1"), ("code", "text"), ("later", "1")]);
        let error = values.edit(|_: &mut Login| ()).unwrap_err();
        assert_eq!(error.to_string(), "the value of \"code\" does not fit");
    }
}
