//! [`Loaded`]: the hash of one session.

use cgi_session_kit::reading;
use redis::Cmd;

use super::scripts::Reply;

/// A record and what stands beside it.
pub(super) struct Loaded {
    pub(super) row: reading::Loaded,
    pub(super) version: Vec<u8>,
}

/// The fields of a hash, each of which may be missing.
pub(super) type Fields = Vec<Option<Vec<u8>>>;

/// Asks for the fields of a session.
pub(super) fn load(key: &str) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(key).arg(&["record", "end", "used", "version"]);
    command
}

impl Loaded {
    /// `None` when the session is not there, or is none.
    pub(super) fn from_fields(fields: Fields) -> Option<Self> {
        let mut fields = fields.into_iter();
        let mut next = || fields.next().flatten();
        let row = reading::Loaded {
            data: next()?,
            end: parse(&next()?)?,
            used: parse(&next()?)?,
        };
        let version = next()?;
        Some(Loaded { row, version })
    }

    pub(super) fn from_reply(reply: &Reply) -> Option<Self> {
        let fields = (1..=4).map(|at| reply.part(at).map(<[u8]>::to_vec));
        Loaded::from_fields(fields.collect())
    }
}

pub(super) fn parse(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
