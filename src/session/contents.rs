//! [`Contents`]: what is stored for a session, as a request sees it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::{Namespaces, Record};
use crate::store::Stored;

/// A record and the values in it. It is large: sessions are moved from hand to hand without it.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// As it is stored, or as it would be stored first.
    pub(super) record: Record,
    pub(super) namespaces: Namespaces,
    /// None of a new session.
    pub(super) last_access: Option<SystemTime>,
}

impl Contents {
    /// Of a session that is not stored yet.
    pub(super) fn new(config: &Config, now: SystemTime) -> Box<Self> {
        Box::new(Contents {
            record: Record::new(now),
            namespaces: Namespaces::new(&config.app, config.max_key_length),
            last_access: None,
        })
    }

    /// Of a session that was found. The values in a record are parsed here, and not before.
    pub(super) fn parse(
        config: &Config,
        session: &SessionDigest,
        stored: Stored,
        now: SystemTime,
    ) -> Result<Box<Self>> {
        let Stored {
            record,
            last_access,
        } = stored;
        let (app, longest_key) = (&config.app, config.max_key_length);
        let namespaces = Namespaces::from_json(record.values(), app, longest_key, now);
        Ok(Box::new(Contents {
            namespaces: namespaces.map_err(|error| Error::Format {
                path: PathBuf::from(session.as_str()),
                reason: error.to_string(),
            })?,
            record,
            last_access: Some(last_access),
        }))
    }

    /// Whether the user has proved who it is within this time. What a clock that was wrong has noted proves nothing.
    pub(super) fn is_confirmed_within(&self, time: Duration) -> bool {
        let confirmed = self.record.confirmed();
        let age = confirmed.and_then(|confirmed| SystemTime::now().duration_since(confirmed).ok());
        age.is_some_and(|age| age <= time)
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        self.namespaces.to_json(self.record.values().len())
    }
}
