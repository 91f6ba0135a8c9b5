//! The values of a session: whatever JSON a store, another program or an application brings.
//!
//! Tries to lose a value or to change one in silence. A session that is opened keeps every value's text to
//! the byte when something else is stored; one that is JSON of the right shape is opened. A value that
//! is put in comes back as it was, floating-point numbers to the last bit, or is refused.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cgi_session::{
    Config, Error, MemoryStore, Record, SessionDigest, SessionId, SessionManager, Store as _,
};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::Pairs;

const COOKIE: &str = "sessionId=2f1c0e5d9a8b7c6d5e4f30213243546576879800";

/// Stores the text as a session's values, and puts it in as a value; its bytes are numbers too.
///
/// # Panics
///
/// When a value is lost or has changed.
pub fn check(text: &[u8]) {
    opened(text);
    put_in(text);
    for bytes in text.chunks_exact(8) {
        let number = f64::from_le_bytes(bytes.try_into().unwrap_or_default());
        float(number);
    }
}

fn manager() -> (SessionManager, MemoryStore) {
    let config = Config::new().set("storageType", "ram").expect("a setting");
    let store = MemoryStore::new(&config).expect("a store");
    let manager = SessionManager::with_store(config, store.clone());
    (manager.expect("settings that are good"), store)
}

fn session() -> SessionDigest {
    let (_, id) = COOKIE.split_once('=').unwrap_or_default();
    SessionId::parse(id.as_bytes()).expect("an id").digest()
}

fn opened(text: &[u8]) {
    let (manager, store) = manager();
    let now = SystemTime::now();
    let record = Record::new(now).with_values(text.to_vec());
    store.create(&session(), &record, now).expect("created");
    let mut opened = match manager.existing(COOKIE) {
        Ok(opened) => opened.expect("it was stored"),
        Err(Error::Format { .. }) => {
            let shape = shape(text);
            assert!(
                shape.is_none_or(|shape| shape.contains_key("@")),
                "it is a session"
            );
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let before = shape(text).expect("what is opened has the shape of a session");
    opened.insert("probe", 1).expect("put in");
    opened.commit().expect("committed");
    let record = store
        .read(&session(), now)
        .expect("read")
        .expect("a session")
        .record;
    let mut after = shape(record.values()).expect("what was written has that shape");
    let own = after.get_mut("").expect("the session's own values");
    assert_eq!(own.remove("probe").as_deref(), Some("1"));
    if let Some(probe) = before.get("").and_then(|own| own.get("probe")) {
        own.insert("probe".to_owned(), probe.clone());
    }
    let filled = |shape: &Shape| -> Shape {
        // The library's own notes are not values, and some of them are for one request only.
        let is_kept = |name: &String, values: &BTreeMap<_, _>| name != "@" && !values.is_empty();
        let kept = shape.iter().filter(|(name, values)| is_kept(name, values));
        kept.map(|(name, values)| (name.clone(), values.clone()))
            .collect()
    };
    // The notes may say that a value has ended.
    if !before.contains_key("@") {
        assert_eq!(filled(&after), filled(&before));
    }
}

type Shape = BTreeMap<String, BTreeMap<String, String>>;

/// The texts of all values by application and key, if no name stands twice.
fn shape(text: &[u8]) -> Option<Shape> {
    let applications = Pairs::unique(text)?.0.into_iter();
    let applications = applications.map(|(name, values)| {
        let values = Pairs::unique(values.get().as_bytes())?.0.into_iter();
        let values = values.map(|(key, text)| (key, text.get().to_owned()));
        Some((name, values.collect()))
    });
    applications.collect()
}

fn put_in(text: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        return;
    };
    let (manager, _) = manager();
    let mut session = manager.start("").expect("a new session");
    match session.insert("value", &value) {
        Ok(()) => {}
        Err(Error::Value { .. }) => {
            assert!(depth(&value) > 100, "refused, though it is JSON: {value}");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let cookie = session
        .commit()
        .expect("committed")
        .expect("a cookie")
        .to_string();
    let again = manager
        .existing(&cookie)
        .expect("opened")
        .expect("a session");
    assert_eq!(again.require::<Value>("value").expect("there"), value);
    let raw = again.require::<Box<RawValue>>("value").expect("there");
    assert_eq!(raw.get(), value.to_string());
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(values) => 1 + values.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn float(number: f64) {
    let (manager, _) = manager();
    let mut session = manager.start("").expect("a new session");
    if session.insert("number", number).is_err() {
        assert!(!number.is_finite(), "{number} was refused");
        return;
    }
    let back = session.require::<f64>("number").expect("there");
    assert_eq!(
        back.to_bits(),
        number.to_bits(),
        "{number} came back as {back}"
    );
}
