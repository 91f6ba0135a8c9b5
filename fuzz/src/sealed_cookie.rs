//! The value of a cookie that holds a session sealed.
//!
//! Tries to have a session opened that nobody sealed. A value is opened only when it is, to the byte, one
//! that was sealed; whatever record was sealed is opened as it was.

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, CookieStore, Error, Record, SessionId, Store, Stored};
use tempfile::NamedTempFile;

use super::record::same;

const ID: &[u8] = b"2f1c0e5d9a8b7c6d5e4f30213243546576879800";
const MINUTE: Duration = Duration::from_secs(60);

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Offers bytes as a cookie's value, changes a sealed one by them, and seals them as a record.
///
/// # Panics
///
/// When something is opened that was not sealed, or opened as something else.
pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    PLACE.with_borrow_mut(|place| {
        let place = place.get_or_insert_with(Place::new);
        match kind % 3 {
            0 => place.try_value(rest),
            1 => place.try_changes(rest),
            _ => place.try_record(rest),
        }
    });
}

struct Place {
    store: CookieStore,
    now: SystemTime,
    record: Record,
    sealed: String,
}

impl Place {
    fn new() -> Self {
        let keys = NamedTempFile::new().expect("a file");
        fs::write(&keys, "07".repeat(64)).expect("written");
        fs::set_permissions(&keys, Permissions::from_mode(0o600)).expect("mode");
        let config = Config::new()
            .set("storageType", "cookie")
            .and_then(|config| config.set("lifetime", "0"))
            .and_then(|config| config.set("secretKeyFile", keys.path()));
        let store = CookieStore::new(config.expect("settings")).expect("a store");
        let now = SystemTime::now();
        let values = br#"{"":{"cart":["one","two"],"views":2}}"#.to_vec();
        let record = Record::new(now).with_values(values);
        let sealed = seal(&store, &record, now).expect("sealed");
        Place {
            store,
            now,
            record,
            sealed,
        }
    }

    fn open(&self, value: &str) -> Option<Stored> {
        let client = self.client();
        let id = client.recognize(value, self.now)?;
        assert_eq!(id.secret().as_bytes(), ID, "the id in the seal");
        let stored = client.read(&id.digest(), self.now).expect("read");
        Some(stored.expect("what is recognized is a session"))
    }

    fn client(&self) -> Box<dyn Store> {
        self.store.for_client().expect("a store for one client")
    }

    fn try_value(&self, bytes: &[u8]) {
        let value = String::from_utf8_lossy(bytes);
        assert!(
            value == self.sealed || self.open(&value).is_none(),
            "opened {value:?}"
        );
    }

    /// Each three bytes are a place, what to do there, and a character to do it with.
    fn try_changes(&self, changes: &[u8]) {
        let mut value = self.sealed.clone().into_bytes();
        for change in changes.chunks_exact(3) {
            let at = usize::from(change[0]) % value.len().max(1);
            match change[1] % 4 {
                0 => value.truncate(at),
                1 => value.insert(at.min(value.len()), change[2]),
                2 if !value.is_empty() => drop(value.remove(at)),
                _ if !value.is_empty() => value[at] = change[2],
                _ => {}
            }
        }
        let value = String::from_utf8_lossy(&value);
        match self.open(&value) {
            Some(stored) => {
                assert_eq!(value, self.sealed, "opened, though it was changed");
                same(&stored.record, &self.record);
            }
            None => assert_ne!(value, self.sealed, "not opened"),
        }
    }

    fn try_record(&self, text: &[u8]) {
        // What goes into a seal is always JSON: the store has parsed it, or the library written it.
        if serde_json::from_slice::<serde_json::Value>(text).is_err() {
            return;
        }
        let Ok(record) = Record::from_json(text.to_vec()) else {
            return;
        };
        match seal(&self.store, &record, self.now) {
            Ok(value) => match self.open(&value) {
                Some(stored) => same(&stored.record, &record),
                None => assert!(
                    record.expires().is_some_and(|end| end < self.now),
                    "not opened"
                ),
            },
            Err(Error::CookieTooLarge { size, limit }) => assert!(size > limit),
            Err(error) => panic!("{error}"),
        }
    }
}

fn seal(store: &CookieStore, record: &Record, now: SystemTime) -> Result<String, Error> {
    let id = SessionId::parse(ID).expect("an id");
    let client = store.for_client().expect("a store for one client");
    let mut lease = client
        .create(&id.digest(), record, now)?
        .expect("a new session");
    let value = lease.cookie_value(&id).expect("a cookie");
    // Within the same minute a use alone seals nothing anew.
    lease.touch(now + MINUTE / 120)?;
    Ok(value)
}
