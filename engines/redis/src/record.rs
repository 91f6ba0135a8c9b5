//! [`Loaded`]: the hash of one session.

use cgi_session_kit::reading;

use super::scripts::Reply;

/// A record and what stands beside it.
pub(super) struct Loaded {
    pub(super) row: reading::Loaded,
    pub(super) version: Vec<u8>,
}

/// A field of a hash, which may be missing.
pub(super) type Field = Option<Vec<u8>>;
/// The fields of a session, and what HMGET answers for them.
pub(super) const ALL: &[&str] = &["record", "end", "used", "version"];
pub(super) type Fields = (Field, Field, Field, Field);

impl Loaded {
    /// `None` when the session is not there, or is none.
    pub(super) fn from_fields((data, end, used, version): Fields) -> Option<Self> {
        let row = reading::Loaded {
            data: data?,
            end: parse(&end?)?,
            used: parse(&used?)?,
        };
        let version = version?;
        Some(Loaded { row, version })
    }

    pub(super) fn from_reply(reply: Reply) -> Option<Self> {
        let mut parts = reply.into_parts().skip(1);
        let fields = (parts.next(), parts.next(), parts.next(), parts.next());
        Loaded::from_fields(fields)
    }
}

pub(super) fn parse(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
