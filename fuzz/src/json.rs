//! An object of JSON, as the pairs that stand in it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The names and the texts of the values, in their order, also those whose name stands there twice.
pub struct Pairs(pub Vec<(String, Box<RawValue>)>);

impl Pairs {
    /// The pairs of a text that is one object, in which no name stands twice.
    #[must_use]
    pub fn unique(text: &[u8]) -> Option<Self> {
        let pairs: Self = serde_json::from_slice(text).ok()?;
        let mut names: Vec<_> = pairs.0.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        (names.len() == pairs.0.len()).then_some(pairs)
    }

    /// The text of the value under a name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.get())
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
