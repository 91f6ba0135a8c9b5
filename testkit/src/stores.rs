//! Stores whose sessions count, and what they say where something fails.

use cgi_session::store_contract::{WAIT, counted, create, record};

use crate::prelude::*;

/// Parts of the passwords that tests set, which no error may show.
const SECRETS: [&str; 2] = ["four-words", "s3cret"];

/// Creates a session of this number, and lets it go.
pub fn stored(store: &dyn Store, number: u64) -> SessionId {
    create(store, number, SystemTime::now()).0
}

/// Saves this number as a request does, and finds it again.
#[track_caller]
pub fn saves(store: &dyn Store, session: &SessionDigest, number: u64) {
    let now = SystemTime::now();
    let (_, mut lease) = store.lock(session, WAIT, now).unwrap().unwrap();
    lease.finish(&record(number, now), now).unwrap();
    drop(lease);
    assert_eq!(counted(store, session), Some(number));
}

/// An error holds these parts and no password.
#[track_caller]
pub fn says(error: &Error, parts: impl Words) {
    let line = error.one_line();
    for part in parts.parts() {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    let shown = format!("{line} {error:?}");
    assert!(!SECRETS.iter().any(|it| shown.contains(it)), "{shown}");
}

/// An error of this status that holds these parts and no password.
#[track_caller]
pub fn fails<T>(outcome: Result<T, Error>, status: u16, parts: impl Words) {
    let error = outcome.map(drop).unwrap_err();
    assert_eq!(error.status().as_u16(), status, "{error:?}");
    says(&error, parts);
}

/// The lock of a session that another request has taken over.
#[track_caller]
pub fn is_lost<T>(outcome: Result<T, Error>) {
    let error = outcome.map(drop).unwrap_err();
    assert!(matches!(error, Error::LeaseLost), "{error:?}");
    assert_eq!(error.status(), 503);
}
