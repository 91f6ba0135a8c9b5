//! `storageType = cookie`: the client keeps its session itself, sealed.
#![cfg(feature = "cookie-store")]

use cgi_session::{Client, CookieStore, Result};
use testkit::prelude::*;

/// A file of keys, and managers that use it.
struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Site {
            directory: tempfile::tempdir().unwrap(),
        };
        site.write_keys(&[1]);
        site
    }

    fn key_file(&self) -> PathBuf {
        self.directory.path().join("keys")
    }

    /// Writes keys that are told apart by a number, the first one to seal with.
    fn write_keys(&self, numbers: &[u8]) {
        let keys = numbers.iter().map(|n| format!("{n:02x}").repeat(64));
        let keys: Vec<_> = keys.collect();
        self.write(&format!("# keys\n\n{}\n", keys.join("\n")));
    }

    fn write(&self, text: &str) {
        fs::write(self.key_file(), text).unwrap();
        fs::set_permissions(self.key_file(), Permissions::from_mode(0o600)).unwrap();
    }

    fn config(&self, settings: &[(&str, &str)]) -> Config {
        let config = Config::new().set("storageType", "cookie").unwrap();
        let config = config.set("secretKeyFile", self.key_file()).unwrap();
        set(config, settings)
    }

    fn manager(&self) -> SessionManager {
        self.manager_with(&[])
    }

    fn manager_with(&self, settings: &[(&str, &str)]) -> SessionManager {
        SessionManager::new(self.config(settings)).unwrap()
    }
}

/// Counts a page view; the header that the client sends afterwards, and the count.
#[track_caller]
fn count(manager: &SessionManager, cookie: &str) -> (String, u64) {
    let counted = manager.update(cookie, |session| {
        let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
        session.insert("pageViews", views)?;
        Ok(views)
    });
    let (views, set_cookie) = counted.unwrap();
    (header_of(set_cookie), views)
}

#[test]
fn the_session_goes_to_the_client_and_comes_back() {
    let site = Site::new();
    let (mut cookie, _) = count(&site.manager(), "");
    let first_id = site.manager().session_id(&cookie);
    assert!(first_id.is_some());
    for expected in 2..10 {
        // A program of its own each time: nothing is on the server but the key.
        let (next, views) = count(&site.manager(), &format!("a=1; {cookie}; b=2"));
        assert_eq!(views, expected);
        assert_ne!(next, cookie);
        cookie = next;
    }
    assert_eq!(site.manager().session_id(&cookie), first_id);
    let snapshot = site.manager().read(&cookie).unwrap().unwrap();
    assert_eq!(snapshot.require::<u64>("pageViews").unwrap(), 9);
    assert_eq!(fs::read_dir(site.directory.path()).unwrap().count(), 1);
}

#[test]
fn the_client_cannot_read_what_it_keeps() {
    let site = Site::new();
    let mut session = site.manager().start("").unwrap();
    let text = "the fox is in the henhouse";
    session.insert("secret", text).unwrap();
    session.save().unwrap();
    let id = session.id().unwrap().secret().to_owned();
    let cookie = header_of(session.release());
    for plain in ["secret", "fox", &id] {
        assert!(!cookie.contains(plain));
    }
}

#[test]
fn a_cookie_that_was_cut_or_altered_is_no_session() {
    let site = Site::new();
    let (cookie, _) = count(&site.manager(), "");
    let start = "sessionId=".len();
    for end in start..cookie.len() {
        let found = site.manager().existing(&cookie[..end]).unwrap();
        assert!(found.is_none(), "cut at {end}");
    }
    for at in start..cookie.len() {
        let mut altered = cookie.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        // The last digit before the padding may hold bits that mean nothing.
        let is_same = site.manager().session_id(&altered) == site.manager().session_id(&cookie);
        assert!(!is_same || at + 4 > cookie.len(), "altered at {at}");
    }
    for rubbish in ["", "AAAA", "%00", "\"\""] {
        let (_, views) = count(&site.manager(), &format!("sessionId={rubbish}"));
        assert_eq!(views, 1);
    }
}

#[test]
fn a_cookie_of_another_name_or_another_key_is_no_session() {
    let site = Site::new();
    let (cookie, _) = count(&site.manager(), "");
    let other_name = site.manager_with(&[("cookieName", "other")]);
    let renamed = cookie.replace("sessionId=", "other=");
    assert!(other_name.existing(renamed).unwrap().is_none());
    site.write_keys(&[2]);
    assert!(site.manager().existing(&cookie).unwrap().is_none());
    assert!(site.manager().start(&cookie).unwrap().is_new());
}

#[test]
fn a_new_key_seals_while_the_old_one_still_opens() {
    let site = Site::new();
    let (old, _) = count(&site.manager(), "");
    site.write_keys(&[2, 1]);
    let (new, views) = count(&site.manager(), &old);
    assert_eq!(views, 2);
    site.write_keys(&[2]);
    assert!(site.manager().existing(&old).unwrap().is_none());
    let (_, views) = count(&site.manager(), &new);
    assert_eq!(views, 3);
}

#[test]
fn the_end_is_inside_the_seal_whatever_the_client_plays_back() {
    let site = Site::new();
    let (cookie, _) = count(&site.manager(), "");
    let store = CookieStore::new(site.config(&[])).unwrap();
    let value = cookie.strip_prefix("sessionId=").unwrap();
    let now = SystemTime::now();
    let after = |minutes: u64| now + Duration::from_secs(60 * minutes);
    assert!(store.recognize(value, after(59)).is_some());
    assert!(store.recognize(value, after(62)).is_none());
    // Nor does one with an end of its own outlive it.
    let mut session = site.manager().start(&cookie).unwrap();
    session.set_timeout(Some(Duration::from_secs(600)));
    let cookie = header_of(session.commit().unwrap());
    let value = cookie.strip_prefix("sessionId=").unwrap();
    assert!(store.recognize(value, after(9)).is_some());
    assert!(store.recognize(value, after(11)).is_none());
}

/// The value of a cookie with a session that began and was last used so many minutes ago.
fn sealed(site: &Site, created: u64, used: u64) -> String {
    let store = CookieStore::new(site.config(&[])).unwrap();
    let store = store.for_client().unwrap();
    let ago = |minutes| SystemTime::now() - Duration::from_secs(60 * minutes);
    let id = SessionId::generate().unwrap();
    let values = format!(r#"{{"":{{"used":{used}}}}}"#);
    let record = Record::new(ago(created)).with_values(values.into());
    let lease = store.create(&id.digest(), &record, ago(used));
    lease.unwrap().unwrap().cookie_value(&id).unwrap()
}

#[test]
fn of_several_cookies_the_one_that_was_used_last_counts() {
    let site = Site::new();
    let manager = site.manager_with(&[("lifetime", "50m")]);
    // The last one is too old.
    let cookies = [(40, 40), (20, 20), (30, 30), (55, 10)];
    let cookies =
        cookies.map(|(created, used)| format!("sessionId={}", sealed(&site, created, used)));
    for first in 0..4 {
        let mut cookies = cookies.clone();
        cookies.rotate_left(first);
        let found = manager.read(cookies.join("; ")).unwrap().unwrap();
        assert_eq!(found.get::<u64>("used").unwrap(), Some(20));
    }
}

#[test]
fn a_session_that_does_not_fit_into_a_cookie_is_refused_and_the_old_one_stays() {
    let site = Site::new();
    let (cookie, _) = count(&site.manager(), "");
    let mut session = site.manager().start(&cookie).unwrap();
    session.insert("large", "x".repeat(3000)).unwrap();
    let refused = session.commit().unwrap_err();
    let Error::CookieTooLarge { limit, size } = refused else {
        panic!("{refused}");
    };
    assert!(limit == 4096 && size > limit, "{limit} {size}");
    holds(refused.to_string(), "browsers keep 4096");
    let (_, views) = count(&site.manager(), &cookie);
    assert_eq!(views, 2);

    let manager = site.manager();
    let refused = manager.update("", |session| session.insert("large", "x".repeat(4000)));
    assert!(matches!(refused, Err(Error::CookieTooLarge { .. })));
}

#[test]
fn the_largest_cookie_that_is_accepted_has_4096_bytes() {
    let site = Site::new();
    let manager = site.manager();
    let largest = (2700..3000).rev().find_map(|length| {
        let made = manager.update("", |session| session.insert("x", "x".repeat(length)));
        made.ok().and_then(|((), cookie)| cookie)
    });
    let text = largest.expect("a cookie").over_https(true).to_string();
    assert!((4090..=4096).contains(&text.len()), "{}", text.len());
}

#[test]
fn destroy_takes_the_cookie_away() {
    let site = Site::new();
    let (cookie, _) = count(&site.manager(), "");
    let found = site.manager().existing(&cookie).unwrap();
    let session = found.expect("a session");
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
}

#[test]
fn an_unchanged_session_needs_no_new_cookie_until_a_sixtieth_of_its_timeout_has_passed() {
    let site = Site::new();
    let (cookie, _) = count(&site.manager(), "");
    let session = site.manager().start(&cookie).unwrap();
    assert!(session.commit().unwrap().is_none());
    let sliding = site.manager_with(&[("cookieMaxAge", "60")]);
    let session = sliding.start(&cookie).unwrap();
    let again = session.commit().unwrap();
    let text = again.as_ref().map(ToString::to_string);
    assert!(text.unwrap().contains("Max-Age=3600"));
    assert_eq!(count(&site.manager(), &header_of(again)).1, 2);
}

#[test]
fn a_new_id_keeps_the_values() {
    let site = Site::new();
    let (cookie, _) = count(&site.manager(), "");
    let renewed = header_of(change(
        &site.manager(),
        &cookie,
        cgi_session::Session::regenerate_id,
    ));
    let [new, old] = [&renewed, &cookie].map(|cookie| site.manager().session_id(cookie));
    assert_ne!(new, old);
    assert_eq!(count(&site.manager(), &renewed).1, 2);
}

/// Checks that no manager can be made, and that the reason names the file and these words.
#[track_caller]
fn refused(site: &Site, words: impl Words) {
    let Err(Error::Config(reason)) = SessionManager::new(site.config(&[])).map(drop) else {
        panic!("the keys were accepted");
    };
    let file = site.key_file();
    for word in words.parts().into_iter().chain(file.to_str()) {
        assert!(reason.contains(word), "{word} is not in {reason}");
    }
}

#[test]
fn a_file_of_keys_that_cannot_be_used_is_refused_with_what_to_do() {
    let site = Site::new();
    let short = "ab".repeat(63);
    let second = format!("{}\n{}", "ab".repeat(64), "xy".repeat(64));
    for (text, words) in [
        ("", "holds no key"),
        ("# only a comment\n", "holds no key"),
        (&short, "line 1 holds no key of 128 hexadecimal digits"),
        (&second, "line 2"),
    ] {
        site.write(text);
        refused(&site, [words, "cgi-session init"]);
    }
    site.write_keys(&[1]);
    fs::set_permissions(site.key_file(), Permissions::from_mode(0o640)).unwrap();
    refused(&site, "others can read it (mode 0640)*mode 0600");
    fs::remove_file(site.key_file()).unwrap();
    refused(&site, "no such file*cgi-session init");
    fs::create_dir(site.key_file()).unwrap();
    refused(&site, "no regular file");
    fs::remove_dir(site.key_file()).unwrap();
    symlink(Path::new("/dev/zero"), site.key_file()).unwrap();
    refused(&site, "no regular file");
}

#[test]
fn without_a_file_of_keys_or_with_ids_in_links_there_is_no_such_store() {
    let config = Config::new().set("storageType", "cookie").unwrap();
    let refused = SessionManager::new(config).map(drop);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("needs secretKeyFile"), "{error}");
    let site = Site::new();
    for (key, value, words) in [
        ("idFrom", "cookie, query", "only a cookie can hold"),
        ("maxSessions", "9", "only the clients know"),
    ] {
        let refused = SessionManager::new(site.config(&[(key, value)])).map(drop);
        holds(refused.unwrap_err().to_string(), words);
    }
}

#[test]
fn what_only_clients_have_cannot_be_listed_or_ended_from_the_server() {
    let site = Site::new();
    let refused = site.manager().destroy_sessions_of("ada", None);
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
}

/// A page that ends with a session opened again, which it only reads.
fn saves_and_reads(request: &mut Request) -> Result<Response> {
    request.update_session(|session| {
        let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
        session.insert("pageViews", views)
    })?;
    if request.query("grace").is_some() {
        let session = request.session()?;
        session.insert("grace", true)?;
        session.regenerate_id_with_grace(Duration::from_secs(60));
        request.commit_session()?;
    }
    let views = request.session()?.require::<u64>("pageViews")?;
    Ok(Response::text(views.to_string()))
}

#[test]
fn a_session_that_was_saved_and_then_only_read_is_what_the_client_gets() {
    let client = Client::new(Site::new().manager());
    for expected in ["1", "2", "3"] {
        let page = client.get("/").send(saves_and_reads);
        assert_eq!(page.body_text(), expected);
    }
}

#[test]
fn a_new_id_with_a_grace_leaves_no_copy_in_the_place_of_the_session() {
    let site = Site::new();
    let client = Client::new(site.manager());
    let mut ids = Vec::new();
    for expected in ["1", "2", "3"] {
        let page = client.get("/?grace").send(saves_and_reads);
        assert_eq!(page.body_text(), expected);
        let cookie = format!("sessionId={}", client.cookie("sessionId").unwrap());
        let session = site.manager().read(&cookie).unwrap().expect("a session");
        assert!(!session.is_replaced() && session.require::<bool>("grace").unwrap());
        ids.push(site.manager().session_id(&cookie).unwrap());
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
}

#[test]
fn a_session_that_is_only_read_is_in_use() {
    let site = Site::new();
    let client = Client::new(site.manager());
    client.set_cookie("sessionId", &sealed(&site, 40, 40));
    let reads = |request: &mut Request| {
        let snapshot = request.read_session()?.expect("a session");
        let age = snapshot.last_access().elapsed().unwrap_or_default();
        Ok::<_, Error>(Response::text(
            (age > Duration::from_secs(20 * 60)).to_string(),
        ))
    };
    let first = client.get("/").send(reads);
    assert_eq!(first.body_text(), "true");
    assert!(first.headers().contains_key("set-cookie"));
    let second = client.get("/").send(reads);
    assert_eq!(second.body_text(), "false");
    assert!(!second.headers().contains_key("set-cookie"));
}

#[test]
fn a_program_that_gives_an_id_is_told_that_only_clients_have_sessions() {
    let (manager, id) = (Site::new().manager(), SessionId::generate().unwrap());
    let refused = manager.start_with_id(&id).map(drop);
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    let gives = |request: &mut Request| {
        let refused = request.use_session_id(id.clone());
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
        Ok::<_, Error>(Response::text(""))
    };
    assert_eq!(Client::new(manager).get("/").send(gives).status(), 200);
}
