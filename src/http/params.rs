//! [`Params`]: the variables of one request, as bytes and in the order they came.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The length of a variable, its name included. With so much room a buffer seldom has to grow.
const USUAL_LENGTH: usize = 48;

/// The variables that a server hands over, in one buffer.
///
/// Duplicates are kept: nginx hands over several Cookie headers as several `HTTP_COOKIE`.
#[derive(Default)]
pub(crate) struct Params {
    bytes: Vec<u8>,
    pairs: Vec<(Range<usize>, Range<usize>)>,
}

impl Params {
    /// Variables that lie in `bytes` already, as ranges of names and of values.
    #[cfg(all(target_os = "linux", feature = "fastcgi"))]
    pub(crate) fn from_ranges(bytes: Vec<u8>, pairs: Vec<(Range<usize>, Range<usize>)>) -> Self {
        Params { bytes, pairs }
    }

    /// Makes room for so many variables.
    pub(crate) fn reserve(&mut self, variables: usize) {
        self.bytes.reserve(variables * USUAL_LENGTH);
        self.pairs.reserve(variables);
    }

    pub(crate) fn push(&mut self, name: &OsStr, value: &OsStr) {
        let mut part = |part: &OsStr| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(part.as_bytes());
            start..self.bytes.len()
        };
        let pair = (part(name), part(value));
        self.pairs.push(pair);
    }

    /// The last variable of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.iter()
            .rev()
            .find(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| OsStr::from_bytes(value))
    }

    /// All variables of this name, joined in their order; `None` when there is none.
    pub(crate) fn joined(&self, name: &str, separator: &[u8]) -> Option<Vec<u8>> {
        let named = self.iter().filter(|(known, _)| *known == name.as_bytes());
        let values: Vec<_> = named.map(|(_, value)| value).collect();
        (!values.is_empty()).then(|| values.join(separator))
    }

    /// A header field by its name, all of its variables joined.
    pub(crate) fn field(&self, name: &str) -> Option<OsString> {
        let variable = name.to_ascii_uppercase().replace('-', "_");
        let variable = match variable.as_str() {
            "CONTENT_TYPE" | "CONTENT_LENGTH" => variable,
            _ => format!("HTTP_{variable}"),
        };
        let separator = if variable == "HTTP_COOKIE" {
            "; "
        } else {
            ", "
        };
        self.joined(&variable, separator.as_bytes())
            .map(OsString::from_vec)
    }

    /// The header fields that came as several variables, each joined in their order. `Set-Cookie`
    /// is no list (RFC 9110, 5.3) and no field of a request.
    pub(crate) fn joined_fields(&self) -> BTreeMap<Vec<u8>, OsString> {
        let mut fields = BTreeMap::<&[u8], Vec<&[u8]>>::new();
        for (name, value) in self.iter().filter(|(name, _)| name.starts_with(b"HTTP_")) {
            fields.entry(name).or_default().push(value);
        }
        fields.retain(|name, values| values.len() > 1 && *name != b"HTTP_SET_COOKIE");
        let joined = fields.into_iter().map(|(name, values)| {
            let separator = if name == b"HTTP_COOKIE" { "; " } else { ", " };
            let value = values.join(separator.as_bytes());
            (name.to_vec(), OsString::from_vec(value))
        });
        joined.collect()
    }

    /// All variables, as names and values.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let part = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.pairs
            .iter()
            .map(move |(name, value)| (part(name), part(value)))
    }
}

impl<N: AsRef<OsStr>, V: AsRef<OsStr>> FromIterator<(N, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        let mut params = Params::default();
        params.reserve(variables.size_hint().0);
        for (name, value) in variables {
            params.push(name.as_ref(), value.as_ref());
        }
        params
    }
}
