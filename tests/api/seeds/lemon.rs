//! `lemon.session`: rows L1 to L27.

use std::time::{Duration, SystemTime};

use cgi_session::{Config, Error, FileStore, SessionId, SessionManager, Store as _, Sweep};

use super::place::{Place, Visitor, ago, make_older};
use testkit::sessions::{Site, cookie, count, given_id};

#[test]
fn l01_start_begins_a_session_unless_there_is_one() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    assert!(session.is_new());
    count(&mut session);
    let id = given_id(session.commit().unwrap());
    let session = site.manager().start(cookie(&id)).unwrap();
    assert!(!session.is_new());
    assert_eq!(session.id(), Some(&id));
}

#[test]
fn l02_a_live_session_is_never_removed_before_its_time() {
    let site = Site::new();
    let id = site.visitor();
    site.set_modified(&id, ago(59 * 60));
    let report = site.manager().delete_expired(&Sweep::new()).unwrap();
    assert_eq!((report.deleted, report.live), (0, 1));
    assert_eq!(site.views(&id), Some(1));
}

#[test]
fn l03_the_cookie_ends_independently_of_the_session() {
    let site = Site::with(&[("timeout", "7d"), ("cookieMaxAge", "10s")]);
    let mut session = site.manager().start(b"").unwrap();
    count(&mut session);
    assert_eq!(session.timeout(), Duration::from_secs(7 * 24 * 3600));
    let text = session.commit().unwrap().expect("a cookie").to_string();
    assert!(text.contains("Max-Age=10"), "{text}");
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    count(&mut session);
    let text = session.commit().unwrap().expect("a cookie").to_string();
    assert!(
        !text.contains("Max-Age") && !text.contains("Expires"),
        "{text}"
    );
}

#[test]
fn l04_applications_share_a_session_without_overwriting_each_other() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    for app in ["shop", "forum"] {
        session
            .application(app)
            .unwrap()
            .insert("name", app)
            .unwrap();
    }
    let id = given_id(session.commit().unwrap());
    let mut session = site.manager().start(cookie(&id)).unwrap();
    for app in ["shop", "forum"] {
        let name: String = session.application(app).unwrap().require("name").unwrap();
        assert_eq!(name, app);
    }
}

#[test]
fn l05_values_are_got_set_and_deleted_by_key() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    session.insert("key", "value").unwrap();
    assert_eq!(
        session.get::<String>("key").unwrap().as_deref(),
        Some("value")
    );
    assert!(session.remove("key") && !session.remove("key"));
    assert_eq!(session.get::<String>("key").unwrap(), None);
}

#[test]
fn l06_a_key_is_neither_empty_nor_longer_than_128_bytes_or_lemons_32() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    for (length, is_good) in [(0, false), (1, true), (128, true), (129, false)] {
        assert_eq!(
            session.insert("k".repeat(length), 1).is_ok(),
            is_good,
            "{length}"
        );
    }
    let site = Site::with(&[("maxKeyLength", "32")]);
    let mut session = site.manager().start(b"").unwrap();
    for (length, is_good) in [(32, true), (33, false)] {
        assert_eq!(
            session.insert("k".repeat(length), 1).is_ok(),
            is_good,
            "{length}"
        );
    }
}

#[test]
fn l07_a_value_is_anything_that_json_can_hold() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    session
        .insert("all", ("text", 1, [true], None::<u8>))
        .unwrap();
    let id = given_id(session.commit().unwrap());
    let session = site.manager().start(cookie(&id)).unwrap();
    let all: (String, i8, Vec<bool>, Option<u8>) = session.require("all").unwrap();
    assert_eq!(all, ("text".to_owned(), 1, vec![true], None));
}

#[test]
fn l08_created_is_true_for_the_first_visit_alone() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "visit").expect(200, "first visit");
        visitor.get(&place, "visit").expect(200, "Welcome back");
        Visitor::new()
            .get(&place, "visit")
            .expect(200, "first visit");
    }
}

#[test]
fn l09_destroy_deletes_the_session_and_takes_the_cookie_away() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "visit");
        assert_eq!(place.sessions().len(), 1);
        let page = visitor.post(&place, "visit", "destroy=True");
        page.expect(200, "deleted").removes_the_cookie();
        assert!(place.sessions().is_empty());
    }
}

#[test]
fn l10_what_a_store_needs_is_made_and_removed_and_every_problem_is_told() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("sessions");
    let config = Config::new().set("storageFileDir", &directory).unwrap();
    let store = FileStore::new(&config).unwrap();
    for _ in 0..2 {
        assert!(store.install().is_empty());
    }
    assert!(directory.is_dir());
    std::fs::write(directory.join("notes.txt"), "mine").unwrap();
    let removed = store.uninstall();
    assert_eq!(
        (removed.foreign, removed.errors.len()),
        (vec!["notes.txt".to_owned()], 0)
    );
    assert!(directory.join("notes.txt").exists());
}

#[test]
fn l12_nobody_else_can_read_the_files_or_make_a_cookie_of_their_names() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let id = site.visitor();
    let path = site.path(&id);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(!stored.contains(id.secret()));
    assert!(!path.to_str().unwrap().contains(id.secret()));
}

#[test]
fn l12_a_link_in_the_place_of_a_file_or_of_the_directory_is_not_followed() {
    use std::os::unix::fs::symlink;
    let (site, elsewhere) = (Site::new(), tempfile::tempdir().unwrap());
    let id = site.visitor();
    let (file, directory) = (site.path(&id), site.path(&id).parent().unwrap().to_owned());
    let open = || site.manager().start(cookie(&id));

    // Whatever it leads to, even the very session.
    let moved = elsewhere.path().join("session.json");
    std::fs::copy(&file, &moved).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&moved, &file).unwrap();
    assert!(open().map_or(true, |session| session.is_new()));

    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&moved, &file).unwrap();
    assert!(!open().unwrap().is_new(), "it is whole without the link");
    let moved = elsewhere.path().join("sessions");
    std::fs::rename(&directory, &moved).unwrap();
    symlink(&moved, &directory).unwrap();
    let refused = open().expect_err("no session").to_string();
    assert!(refused.contains("symbolic link"), "{refused}");
}

#[test]
fn l13_a_reserved_name_is_out_of_the_applications_reach() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    let auth = session.reserve("auth").unwrap();
    session.reserved(&auth).insert("start", 1).unwrap();
    assert!(matches!(
        session.application("auth"),
        Err(Error::Reserved(_))
    ));
    let id = given_id(session.commit().unwrap());

    // In a later request too, where the module has not reserved anything yet.
    let mut session = site.manager().start(cookie(&id)).unwrap();
    assert!(matches!(
        session.application("auth"),
        Err(Error::Reserved(_))
    ));
    let auth = session.reserve("auth").unwrap();
    assert!(session.reserved(&auth).contains("start"));
    session.unreserve(auth);
    assert!(session.application("auth").unwrap().is_empty());
}

/// How many of so many visits cleaned up, with this chance.
fn cleaned(probability: &str, visits: usize) -> usize {
    let settings = format!("\ncleanUpDelay = 0\ncleanUpProbability = {probability}\n");
    let place = Place::cgi(&settings);
    let mut visitor = Visitor::new();
    visitor.get(&place, "counter");
    let mut cleaned = 0;
    for _ in 0..visits {
        Visitor::new().get(&place, "visit");
        let old = place.sessions();
        let before = old.len();
        let own = old.iter().filter(|path| path.metadata().unwrap().len() > 0);
        for path in own {
            make_older(path, 7200);
        }
        visitor = Visitor::new();
        visitor.get(&place, "counter");
        cleaned += usize::from(place.sessions().len() <= before);
    }
    cleaned
}

#[test]
fn l14_a_visit_cleans_up_with_the_configured_probability() {
    assert_eq!(cleaned("1", 5), 5);
    assert_eq!(cleaned("0", 5), 0);
    let some = cleaned("0.5", 40);
    assert!((1..40).contains(&some), "{some} of 40");
}

#[test]
fn l15_an_expired_session_cannot_be_reached_and_trying_ends_it() {
    let site = Site::new();
    let id = site.visitor();
    site.set_modified(&id, ago(2 * 3600));
    assert!(site.manager().read(cookie(&id)).unwrap().is_none());
    assert!(site.manager().start(cookie(&id)).unwrap().is_new());
    assert!(!site.path(&id).exists());
}

#[test]
fn l16_an_expired_session_stays_on_the_disk_until_somebody_comes() {
    let site = Site::new();
    let id = site.visitor();
    site.set_modified(&id, ago(2 * 3600));
    assert!(site.path(&id).exists());
    site.manager().delete_expired(&Sweep::new()).unwrap();
    assert!(!site.path(&id).exists());
}

#[test]
fn l17_lemons_1440_is_written_with_its_unit() {
    let timeout = |text| {
        Config::new()
            .set("timeout", text)
            .unwrap()
            .timeout()
            .as_secs()
    };
    assert_eq!(
        (timeout("1440s"), timeout("24"), timeout("1440")),
        (1440, 1440, 86_400)
    );
}

#[test]
fn l18_an_id_given_in_code_means_that_cookies_are_not_used() {
    let site = Site::new();
    let (visitor, given) = (site.visitor(), SessionId::generate().unwrap());
    let mut session = site.manager().start_with_id(&given).unwrap();
    assert_eq!(count(&mut session), 1);
    assert!(session.commit().unwrap().is_none());
    assert_eq!(
        (site.views(&given), site.views(&visitor)),
        (Some(1), Some(1))
    );
}

/// Checks that a setting is refused with an explanation that holds these words.
#[track_caller]
fn refused(key: &str, words: &str) {
    let error = Config::new().set(key, "x").unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn l19_a_seed_is_refused_because_ids_come_from_the_system_alone() {
    refused("seed", "random generator");
}

#[test]
fn l20_the_table_of_a_database_has_lemons_default_name() {
    assert_eq!(Config::new().get("table").as_deref(), Some("Session"));
}

#[test]
fn l21_the_namespace_and_the_cookies_name_are_two_settings() {
    let site = Site::with(&[("app", "shop"), ("cookieName", "basket")]);
    let mut session = site.manager().start(b"").unwrap();
    session.insert("disc", 1).unwrap();
    let cookie = session.commit().unwrap().expect("a cookie").to_string();
    assert!(cookie.starts_with("basket="), "{cookie}");
    let plain = site.manager_with(&[("app", "")]);
    let mut snapshot = plain
        .read(cookie.split(';').next().unwrap())
        .unwrap()
        .unwrap();
    assert!(snapshot.is_empty() && snapshot.application("shop").unwrap().contains("disc"));
    assert!(Config::new().set("app", "x".repeat(256)).is_err());
    assert!(Config::new().set("cookieName", "a b").is_err());
}

#[test]
fn l22_path_and_domain_of_the_cookie_are_kept_and_comment_and_version_refused() {
    let site = Site::with(&[("cookiePath", "/shop"), ("cookieDomain", "example.org")]);
    let mut session = site.manager().start(b"").unwrap();
    count(&mut session);
    let cookie = session.commit().unwrap().expect("a cookie");
    let cookie = cookie.over_https(true).to_string();
    for part in [
        "Path=/shop",
        "Domain=example.org",
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
    ] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    refused("comment", "RFC 2109");
    refused("version", "RFC 2109");
}

#[test]
fn l23_settings_that_the_program_does_not_give_come_from_the_file() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("site.ini");
    let directory = place.path().join("sessions");
    let text = format!(
        "[session]\nstorageFileDir = {}\ntimeout = 7\n",
        directory.display()
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::find_with(Some(&file), &[("cookieName", "id".as_ref())]).unwrap();
    assert_eq!(config.timeout(), Duration::from_secs(420));
    assert_eq!(config.cookie_name(), "id");
    assert!(SessionManager::new(config).is_ok());
}

#[test]
fn l24_expiry_is_reliable_whatever_the_cookie_says() {
    let site = Site::with(&[("cookieMaxAge", "365d")]);
    let id = site.visitor();
    site.set_modified(&id, ago(3601));
    assert_eq!(site.views(&id), None);
}

#[test]
fn l25_use_moves_the_idle_end_and_never_the_absolute_one() {
    let site = Site::with(&[("lifetime", "1h"), ("timeout", "30")]);
    let id = site.visitor();
    let store = FileStore::new(
        &Config::new()
            .set("storageFileDir", site.path(&id).parent().unwrap())
            .unwrap(),
    );
    let now = SystemTime::now();
    let store = store.unwrap();
    let (stored, mut lease) = store
        .lock(&id.digest(), Duration::from_secs(9), now)
        .unwrap()
        .unwrap();
    // The same session as if it had been made two hours ago, and used a moment ago.
    let text = String::from_utf8(stored.record.to_json()).unwrap();
    let created = stored.record.created();
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let old = text.replace(
        &seconds(created).to_string(),
        &seconds(ago(7200)).to_string(),
    );
    lease
        .commit(
            &cgi_session::Record::from_json(old.into_bytes()).unwrap(),
            now,
        )
        .unwrap();
    drop(lease);
    assert_eq!(site.views(&id), None);
}
