//! [`Loaded`]: the hash of one session.

use redis::Cmd;

use super::Shared;
use super::scripts::Reply;
use crate::error::Result;
use crate::id::SessionDigest;
use crate::store::{Stored, reading};

/// A record and what stands beside it.
pub(super) struct Loaded {
    pub(super) data: Vec<u8>,
    pub(super) end: u64,
    pub(super) used: u64,
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
        Some(Loaded {
            data: next()?,
            end: parse(&next()?)?,
            used: parse(&next()?)?,
            version: next()?,
        })
    }

    pub(super) fn from_reply(reply: &Reply) -> Option<Self> {
        let fields = (1..=4).map(|at| reply.part(at).map(<[u8]>::to_vec));
        Loaded::from_fields(fields.collect())
    }
}

pub(super) fn parse(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Shared {
    /// What was loaded, as a record; what is no record at all is `None`.
    pub(super) fn stored(&self, session: &SessionDigest, loaded: Loaded) -> Result<Option<Stored>> {
        reading::stored(session, &self.server.shown(), loaded.data, loaded.used)
    }

    /// As [`Shared::stored`], for a listing, which shows also what is no record, and no marker.
    pub(super) fn understand(
        &self,
        session: &SessionDigest,
        loaded: Loaded,
    ) -> Option<Result<Stored>> {
        reading::listed(session, &self.server.shown(), loaded.data, loaded.used)
    }
}
