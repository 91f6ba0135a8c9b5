//! `CherryPy`'s storages: rows C10, C12 to C14, C16 to C18, C21 and C23.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, Error, SessionId, SessionManager, Sweep};
use serde_json::Value;

use super::place::{Place, Visitor, ago};
use testkit::sessions::{Site, cookie, count, eventually, given_id};

/// The record in a session's file.
fn stored(path: &Path) -> Value {
    let slots: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let slots = slots.as_array().unwrap().iter();
    let current = slots.max_by_key(|slot| slot["g"].as_u64()).unwrap();
    current["d"].clone()
}

#[test]
fn c10_what_has_expired_in_files_or_in_memory_is_deleted() {
    for storage in ["file", "ram"] {
        let site = Site::with(&[("storageType", storage), ("timeout", "1s")]);
        let manager = site.manager();
        let mut session = manager.start(b"").unwrap();
        count(&mut session);
        let id = given_id(session.commit().unwrap());
        if storage == "file" {
            site.set_modified(&id, ago(3600));
        }
        // The shortest timeout: wait for the clock, not for the program.
        eventually("it is deleted", || {
            manager.delete_expired(&Sweep::new()).unwrap().deleted == 1
        });
        assert_eq!(manager.delete_expired(&Sweep::new()).unwrap().deleted, 0);
    }
}

#[test]
fn c12_memory_is_not_shared_by_programs_and_ends_with_its_own() {
    let mut place = Place::fastcgi("storageType = ram\n");
    let other = Place::fastcgi("storageType = ram\n");
    let mut visitor = Visitor::new();
    visitor.get(&place, "counter");
    assert_eq!(visitor.clone().get(&other, "counter").views(), 1);
    assert_eq!(visitor.get(&place, "counter").views(), 2);
    place.restart();
    assert_eq!(visitor.get(&place, "counter").views(), 1);
}

#[test]
fn c13_a_file_is_written_when_something_changed_and_at_no_other_time() {
    let site = Site::new();
    let id = site.visitor();
    let before = fs::read(site.path(&id)).unwrap();
    for _ in 0..3 {
        // Another program each time.
        let session = site.manager().start(cookie(&id)).unwrap();
        assert_eq!(session.require::<u64>("pageViews").unwrap(), 1);
        session.commit().unwrap();
    }
    assert_eq!(fs::read(site.path(&id)).unwrap(), before);
    let mut session = site.manager().start(cookie(&id)).unwrap();
    count(&mut session);
    session.commit().unwrap();
    assert_ne!(fs::read(site.path(&id)).unwrap(), before);
    assert_eq!(site.views(&id), Some(2));
}

#[test]
fn c13_a_save_that_fails_loses_nothing_of_what_was_saved_before() {
    let site = Site::with(&[("maxRecordBytes", "1000")]);
    let id = site.visitor();
    let mut session = site.manager().start(cookie(&id)).unwrap();
    count(&mut session);
    session.insert("large", "x".repeat(2000)).unwrap();
    let error = session.commit().unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(site.views(&id), Some(1));
}

#[test]
fn c13_reading_counts_as_activity() {
    let site = Site::new();
    let id = site.visitor();
    let read = || assert_eq!(site.views(&id), Some(1));
    let open = || {
        let session = site.manager().start(cookie(&id)).unwrap();
        session.commit().unwrap();
    };
    // Each time nearly over; only looked at, it lives for another hour.
    for look in [&read as &dyn Fn(), &open] {
        site.set_modified(&id, ago(3500));
        look();
        let used = fs::metadata(site.path(&id)).unwrap().modified().unwrap();
        assert!(used > ago(60));
    }
}

#[test]
fn c16_custom_without_a_store_says_that_the_program_brings_one() {
    let config = Config::new().set("storageType", "custom").unwrap();
    let error = SessionManager::new(config).err().unwrap().to_string();
    assert!(error.contains("brings its own store"), "{error}");
    assert!(error.contains("SessionManager::with_store"), "{error}");
}

#[test]
fn c17_setting_a_value_to_what_it_was_is_no_change() {
    let site = Site::new();
    let id = site.visitor();
    let before = fs::read(site.path(&id)).unwrap();
    let mut session = site.manager().start(cookie(&id)).unwrap();
    session.insert("pageViews", 2).unwrap();
    session.insert("other", "came").unwrap();
    session.remove("other");
    session.insert("pageViews", 1).unwrap();
    session.commit().unwrap();
    assert_eq!(fs::read(site.path(&id)).unwrap(), before);
}

#[test]
fn c18_the_end_of_a_session_travels_with_its_data_in_whole_seconds() {
    let site = Site::new();
    let id = site.visitor();
    let mut session = site.manager().start(cookie(&id)).unwrap();
    session.set_timeout(Some(Duration::from_secs(600)));
    session.commit().unwrap();
    let record = stored(&site.path(&id));
    assert_eq!(record["idle"], 600, "{record}");
    // It is the record that says so, whatever the configuration of the program that looks.
    let other = site.manager_with(&[("timeout", "1d")]);
    assert!(other.read(cookie(&id)).unwrap().is_some());
    site.set_modified(&id, ago(602));
    assert!(other.read(cookie(&id)).unwrap().is_none());
}

#[test]
fn c21_an_id_fits_into_the_50_characters_of_the_old_column() {
    let id = SessionId::generate().unwrap();
    assert!(id.secret().len() <= 50);
    assert_eq!(id.secret().len(), SessionId::LENGTH);
}

#[test]
fn c23_a_session_never_ends_before_the_moment_that_was_promised() {
    let site = Site::new();
    for seconds in [1, 2, 60, 3600] {
        let id = site.visitor();
        let promised = Duration::from_secs(seconds);
        let mut session = site.manager().start(cookie(&id)).unwrap();
        session.set_timeout(Some(promised));
        let before = SystemTime::now();
        session.commit().unwrap();
        let idle = stored(&site.path(&id))["idle"].as_u64().unwrap();
        let used = fs::metadata(site.path(&id)).unwrap().modified().unwrap();
        // The file system's clock lags by a tick.
        let end = used + Duration::from_secs(idle) + Duration::from_millis(20);
        assert!(end >= before + promised);
        assert!(end <= SystemTime::now() + promised + Duration::from_secs(1));
    }
}

#[cfg(feature = "cookie-store")]
mod cookie_storage {
    use std::os::unix::fs::PermissionsExt as _;

    use cgi_session::SetCookie;

    use super::*;

    /// The settings of programs that share one key, and its directory.
    fn config(settings: &[(&str, &str)]) -> (Config, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        fs::write(&file, format!("{}\n", "5c".repeat(64))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let config = Config::new().set("storageType", "cookie").unwrap();
        let config = config.set("secretKeyFile", file).unwrap();
        let config = settings.iter().fold(config, |config, (key, value)| {
            config.set(key, value).unwrap()
        });
        (config, directory)
    }

    fn header(set_cookie: Option<SetCookie>) -> String {
        let text = set_cookie.expect("a cookie").to_string();
        text.split(';').next().unwrap().to_owned()
    }

    /// What the client holds after a page view, and the number of it.
    fn visit(config: &Config, cookie: &str) -> (String, u64) {
        let manager = SessionManager::new(config.clone()).unwrap();
        let (views, set_cookie) = manager
            .update(cookie, |session| Ok(count(session)))
            .unwrap();
        (header(set_cookie), views)
    }

    #[test]
    fn c10_a_cookie_whose_end_has_come_is_no_session_any_more() {
        let (config, _directory) = config(&[("timeout", "1s")]);
        let (cookie, _) = visit(&config, "");
        let manager = SessionManager::new(config).unwrap();
        eventually("it ends", || manager.existing(&cookie).unwrap().is_none());
    }

    #[test]
    fn c14_the_client_keeps_all_data_sealed_and_any_program_with_the_key_opens_it() {
        let (config, directory) = config(&[]);
        let (mut cookie, _) = visit(&config, "");
        for expected in 2..5 {
            let (next, views) = visit(&config, &cookie);
            assert_eq!(views, expected);
            cookie = next;
        }
        assert!(!cookie.contains("pageViews"));
        let altered = cookie.replacen("sessionId=", "sessionId=A", 1);
        assert_eq!(visit(&config, &altered).1, 1);
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "nothing but the key");
    }

    #[test]
    fn c14_a_cookie_of_more_than_4096_bytes_is_an_error_and_never_dropped_in_silence() {
        let (config, _directory) = config(&[]);
        let manager = SessionManager::new(config).unwrap();
        let mut session = manager.start("").unwrap();
        session.insert("fits", "x".repeat(2500)).unwrap();
        assert!(header(session.commit().unwrap()).len() <= 4096);
        let mut session = manager.start("").unwrap();
        session.insert("large", "x".repeat(4000)).unwrap();
        let error = session.commit().unwrap_err();
        assert!(matches!(error, Error::CookieTooLarge { limit: 4096, .. }));
        assert!(error.to_string().contains("storageType = file"), "{error}");
    }

    /// The limit that the table on choosing a store tells.
    #[test]
    fn c14_an_old_copy_of_a_cookie_still_opens_what_it_held() {
        let (config, _directory) = config(&[]);
        let (old, _) = visit(&config, "");
        let manager = SessionManager::new(config.clone()).unwrap();
        let (new, _) = visit(&config, &old);
        manager.start(&new).unwrap().destroy().unwrap();
        assert_eq!(visit(&config, &old).1, 2);
    }
}
