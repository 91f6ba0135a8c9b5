//! Values: what is stored, and what is no JSON.

use cgi_session::{MemoryStore, Store as _};
use testkit::prelude::*;

use super::trace::{Trace, mark};
use super::{DIRECTORY, manager, own_part};

const ID: &str = "2f1c0e5d9a8b7c6d5e4f30213243546576879800";

#[test]
fn i_values_that_are_no_json_are_an_error_and_stay() {
    for text in [
        "",
        "\u{feff}{}",
        "{} x",
        r#"{"":{"a":NaN}}"#,
        r#"{"":{"a":"\ud800"}}"#,
        r#"{"":{"a":1,"a":2}}"#,
        r#"{"":{"a":1},"":{}}"#,
        "{\"\":{\"a\":\"\u{1}\"}}",
        "null",
        r#"{"":null}"#,
        "\u{fffd}",
    ] {
        let config = Config::new().set("storageType", "ram").unwrap();
        let store = MemoryStore::new(&config).unwrap();
        let manager = SessionManager::with_store(config, store.clone()).unwrap();
        let (id, now) = (SessionId::parse(ID.as_bytes()).unwrap(), SystemTime::now());
        // The last one stands for bytes that are no text at all.
        let bytes = if text == "\u{fffd}" {
            b"{\"\":{\"a\":\"\xff\"}}".to_vec()
        } else {
            text.into()
        };
        let record = Record::new(now).with_values(bytes.clone());
        drop(store.create(&id.digest(), &record, now).unwrap());
        let opened = manager.start(format!("sessionId={ID}")).err();
        let parsed = manager.read(format!("sessionId={ID}")).map(|snapshot| {
            let snapshot = snapshot.expect("a session");
            snapshot.require::<String>("a").map(drop)
        });
        // A text that cannot be one is found out when it is asked for, and no sooner.
        let is_refused =
            matches!(opened, Some(Error::Format { .. })) || matches!(parsed, Ok(Err(_)));
        assert!(is_refused, "{text:?}: {opened:?}");
        let stored = store.peek(&id.digest(), now).unwrap().unwrap();
        assert_eq!(stored.record.values(), bytes);
    }
}

#[test]
fn numbers_that_would_be_rounded_are_kept_as_they_are_written() {
    let config = Config::new().set("storageType", "ram").unwrap();
    let store = MemoryStore::new(&config).unwrap();
    let manager = SessionManager::with_store(config, store.clone()).unwrap();
    let (id, now) = (SessionId::parse(ID.as_bytes()).unwrap(), SystemTime::now());
    let text = r#"{"":{"float":1e400,"large":18446744073709551616}}"#;
    let record = Record::new(now).with_values(text.into());
    drop(store.create(&id.digest(), &record, now).unwrap());
    let mut session = manager.start(format!("sessionId={ID}")).unwrap();
    assert!(session.require::<u64>("large").is_err());
    assert!(session.require::<f64>("float").is_err());
    session.insert("more", 1).unwrap();
    session.commit().unwrap();
    let stored = store.peek(&id.digest(), now).unwrap().unwrap();
    let expected = text.replace("616}}", "616,\"more\":1}}");
    assert_eq!(std::str::from_utf8(stored.record.values()), Ok(&*expected));
}

#[test]
fn a_lock_is_given_up_by_its_holder_and_not_by_whoever_has_a_copy_of_the_descriptor() {
    let place = tempfile::tempdir().unwrap();
    let mut child = testkit::again(module_path!(), "child_that_ends_its_requests");
    child.env(DIRECTORY, place.path());
    let Some(trace) = Trace::of(&child, &["-e", "trace=flock,statx,stat"]) else {
        return;
    };
    for part in 1..=6 {
        let calls = trace.between(part, part + 1);
        let is_unlocked = |call: &String| call.contains("LOCK_UN");
        assert!(calls.iter().any(is_unlocked), "part {part}: {calls:#?}");
    }
}

/// The child's part: a commit, a release, a drop, a file that is refused, a session that is destroyed,
/// and a damaged one, for which a reader takes the shared lock.
#[test]
fn child_that_ends_its_requests() {
    let Some(directory) = own_part() else { return };
    let manager = manager(&directory);
    let mut session = manager.start("").unwrap();
    session.insert("a", 1).unwrap();
    let cookie = session.commit().unwrap().unwrap().to_string();
    let open = || manager.existing(&cookie).unwrap().unwrap();
    mark(1);
    let mut session = open();
    session.insert("a", 2).unwrap();
    session.commit().unwrap();
    mark(2);
    assert!(open().release().is_none());
    mark(3);
    drop(open());
    mark(4);
    let digest = manager.session_id(&cookie).unwrap().digest();
    let store = cgi_session::FileStore::new(manager.config()).unwrap();
    let path = store.path(&manager.session_id(&cookie).unwrap());
    fs::hard_link(&path, path.with_extension("other")).unwrap();
    assert!(manager.existing(&cookie).is_err());
    fs::remove_file(path.with_extension("other")).unwrap();
    mark(5);
    let wait = Duration::from_secs(1);
    let found = store.lock(&digest, wait, SystemTime::now()).unwrap();
    found.unwrap().1.destroy().unwrap();
    mark(6);
    fs::write(&path, [b' '; 1024]).unwrap();
    assert!(manager.read(&cookie).unwrap().is_none());
    mark(7);
}
