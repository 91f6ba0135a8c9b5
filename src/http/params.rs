//! [`Params`]: the variables of one request, as bytes and in the order they came.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
#[cfg(all(target_os = "linux", feature = "fastcgi"))]
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The variables that a server hands over.
///
/// Duplicates are kept: nginx hands over several Cookie headers as several `HTTP_COOKIE`.
pub(crate) enum Params {
    /// As the standard library gives out an environment: to copy it once more costs a CGI program as much again.
    Pairs(Vec<(OsString, OsString)>),
    /// Ranges of names and of values in one buffer.
    #[cfg(all(target_os = "linux", feature = "fastcgi"))]
    Ranges(Vec<u8>, Vec<(Range<usize>, Range<usize>)>),
}

impl Params {
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
        let variable = variable(name);
        let joined = self.joined(&variable, separator(variable.as_bytes()));
        joined.map(OsString::from_vec)
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
            let value = values.join(separator(name));
            (name.to_vec(), OsString::from_vec(value))
        });
        joined.collect()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let count = match self {
            Params::Pairs(pairs) => pairs.len(),
            #[cfg(all(target_os = "linux", feature = "fastcgi"))]
            Params::Ranges(_, pairs) => pairs.len(),
        };
        (0..count).filter_map(move |at| match self {
            Params::Pairs(pairs) => {
                let (name, value) = pairs.get(at)?;
                Some((name.as_bytes(), value.as_bytes()))
            }
            #[cfg(all(target_os = "linux", feature = "fastcgi"))]
            Params::Ranges(bytes, pairs) => {
                let (name, value) = pairs.get(at)?;
                Some((bytes.get(name.clone())?, bytes.get(value.clone())?))
            }
        })
    }
}

/// The variable in which a header field comes.
pub(crate) fn variable(name: &str) -> String {
    let variable = name.to_ascii_uppercase().replace('-', "_");
    match variable.as_str() {
        "CONTENT_TYPE" | "CONTENT_LENGTH" => variable,
        _ => format!("HTTP_{variable}"),
    }
}

/// What is put between several fields of one name.
fn separator(variable: &[u8]) -> &'static [u8] {
    if variable == b"HTTP_COOKIE" {
        b"; "
    } else {
        b", "
    }
}
