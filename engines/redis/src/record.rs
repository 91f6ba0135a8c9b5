//! What is stored: the names of the keys, and the hash of one session.

use cgi_session::SessionDigest;
use cgi_session_kit::reading::Loaded;

use super::Shared;

/// A field of a hash, which may be missing.
pub(super) type Field = Option<Vec<u8>>;
/// The fields that make a session.
pub(super) const ALL: [&str; 4] = ["record", "end", "used", "version"];

/// A record and its version; `None` when the session is not there, or is none.
pub(super) fn loaded([data, end, used, version]: [Field; 4]) -> Option<(Loaded, Vec<u8>)> {
    let loaded = Loaded {
        data: data?,
        end: number(end)?,
        used: number(used)?,
    };
    Some((loaded, version?))
}

pub(super) fn number(digits: Field) -> Option<u64> {
    String::from_utf8(digits?).ok()?.parse().ok()
}

impl Shared {
    /// The key of this name among those of the store.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.config.table())
    }

    /// The key of a session. In a cluster the part in braces says which node has it.
    pub(super) fn record(&self, session: &SessionDigest) -> String {
        format!("{}:{{{session}}}", self.config.table())
    }

    /// The session whose record has this key.
    pub(super) fn session(&self, key: &str) -> Option<SessionDigest> {
        let name = self.name(key)?.strip_prefix('{')?;
        SessionDigest::parse(name.strip_suffix('}')?.as_bytes())
    }

    /// The name of a key among those of the store.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.config.table())?.strip_prefix(':')
    }
}
