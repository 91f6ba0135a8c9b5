//! Set-Cookie: only when the client needs one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cgi_session::{Config, CustomFunctions, CustomResult, CustomStore, SessionId, SessionManager};

use testkit::sessions::{Site, cookie, count, given_id};

#[test]
fn a_client_gets_a_cookie_once() {
    let (site, mut session) = Site::begun();
    count(&mut session);
    let set_cookie = session.commit().unwrap().expect("a cookie");
    assert!(!set_cookie.is_removal());
    let id = given_id(Some(set_cookie));
    for _ in 0..3 {
        let mut session = site.open(&id);
        count(&mut session);
        assert!(session.commit().unwrap().is_none());
    }
}

#[test]
fn a_cookie_that_leads_nowhere_is_left_until_it_is_replaced_or_removed() {
    let site = Site::new();
    let id = site.visitor();
    site.open(&id).destroy().unwrap();
    let session = site.open(&id);
    assert!(session.commit().unwrap().is_none());
    let session = site.open(&id);
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
}

/// Rows of which one cannot be read.
#[derive(Clone, Default)]
struct Rows {
    rows: Arc<Mutex<HashMap<String, (String, u64)>>>,
    damaged: Arc<Mutex<Option<String>>>,
}

impl CustomFunctions for Rows {
    fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()> {
        let row = (data.to_owned(), expires);
        self.rows.lock().unwrap().insert(key.to_owned(), row);
        Ok(())
    }

    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
        if self.damaged.lock().unwrap().as_deref() == Some(key) {
            return Err("the row is damaged".into());
        }
        Ok(self.rows.lock().unwrap().get(key).cloned())
    }

    fn clean_up(&self, _: u64) -> CustomResult<u64> {
        Ok(0)
    }
}

#[test]
fn in_any_store_a_session_that_cannot_be_read_does_not_hide_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new().set("storageFileDir", directory.path());
    let (config, rows) = (config.unwrap(), Rows::default());
    let store = CustomStore::new(&config, rows.clone()).unwrap();
    let manager = SessionManager::with_store(config, store).unwrap();
    let begin = || {
        let mut session = manager.start("").unwrap();
        count(&mut session);
        given_id(session.commit().unwrap())
    };
    let bad = begin();
    let key = rows.rows.lock().unwrap().keys().next().cloned();
    let good = begin();
    *rows.damaged.lock().unwrap() = key;
    let shown = |ids: [&SessionId; 2]| {
        ids.map(|id| format!("sessionId={}", id.secret()))
            .join("; ")
    };
    for ids in [[&bad, &good], [&good, &bad]] {
        assert_eq!(manager.start(shown(ids)).unwrap().id(), Some(&good));
        assert!(manager.read(shown(ids)).unwrap().is_some());
    }
    assert!(manager.start(cookie(&bad)).is_err());
    let session = manager.start(shown([&bad, &good])).unwrap();
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
    assert!(manager.start(shown([&bad, &good])).is_err());
}
