//! [`Snapshot`]: a session as it was at one moment.

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::cookies;
use crate::error::Result;
use crate::record::{Reservation, Values, typed};
use crate::session::contents::Contents;

/// A session as it was at one moment, read without its lock.
///
/// Reading one never waits. It cannot be changed; [`Values`] has its values.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) contents: Box<Contents>,
}

impl Snapshot {
    /// When the session was made, to the second.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.contents.record.created()
    }

    /// When the session was used before this, to a sixtieth of `timeout` or, if that is set, to `touchAfter`.
    #[must_use]
    pub fn last_access(&self) -> SystemTime {
        let last_access = self.contents.last_access;
        last_access.unwrap_or_else(|| self.created())
    }

    /// Whether the session continues under another id, as [`Session::is_replaced`](crate::Session::is_replaced).
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.contents.record.is_replaced()
    }

    pub(super) fn is_cookie_due(&self, config: &Config, now: SystemTime) -> bool {
        let record = &self.contents.record;
        let idle = record.idle_or(config.timeout);
        cookies::is_due_again(record.max_age(config), idle, record.sent(), now)
    }

    /// Whether the user has proved who it is within this time, as
    /// [`Session::is_confirmed_within`](crate::Session::is_confirmed_within).
    #[must_use]
    pub fn is_confirmed_within(&self, time: Duration) -> bool {
        self.contents.is_confirmed_within(time)
    }

    /// Whose session it is, as [`Session::set_user`](crate::Session::set_user) said.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.contents.record.user()
    }

    /// The names of the applications that have values here, without reserved ones.
    pub fn applications(&self) -> impl Iterator<Item = &str> {
        self.contents.namespaces.names()
    }

    /// The values of another application, as [`Session::application`](crate::Session::application).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn application(&mut self, name: &str) -> Result<&Values> {
        let values = self.contents.namespaces.namespace(name);
        values.map(|values| &*values)
    }

    /// Reserves a name, as [`Session::reserve`](crate::Session::reserve).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reserve(&mut self, name: &str) -> Result<Reservation> {
        self.contents.namespaces.reserve(name)
    }

    /// The values under a reserved name.
    pub fn reserved(&mut self, reservation: &Reservation) -> &Values {
        self.contents.namespaces.reserved(reservation)
    }

    /// The value that an earlier request left for the next one. Reading it here does not use it up.
    ///
    /// # Errors
    ///
    /// [`Error::Value`](crate::Error::Value) when the value is not a `T`.
    pub fn flashed<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let text = self.contents.namespaces.notes.flash.get(key);
        typed(text.map(|text| &**text), key)
    }
}

impl Deref for Snapshot {
    type Target = Values;

    fn deref(&self) -> &Values {
        self.contents.namespaces.own()
    }
}
