//! "Keep me signed in": the life of one session's cookie; and proofs of identity, which have an age.

use cgi_session::http::header::SET_COOKIE;
use cgi_session::{Client, Result};

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, count, given_id};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a visitor does at `/path`.
fn page(request: &mut Request) -> Result<Response> {
    let path = request.path_info().to_string_lossy().into_owned();
    if path == "/read" {
        let user = request.read_session()?.map(|it| it.user() == Some("ada"));
        return Ok(Response::text(format!("{user:?}")));
    }
    let session = request.session()?;
    count(session);
    match path.as_str() {
        "/login" => {
            session.set_user(Some("ada"))?;
            session.set_cookie_life(Some(30 * DAY));
            session.regenerate_id();
        }
        "/keep" => session.set_cookie_life(Some(30 * DAY)),
        "/shorter" => session.set_cookie_life(Some(2 * DAY)),
        "/away" => session.set_cookie_life(None),
        _ => {}
    }
    Ok(Response::text(format!("{:?}", session.cookie_life())))
}

fn client(manager: &SessionManager) -> Client {
    Client::new(manager.clone())
}

/// The Max-Age of the cookie that a response sets, in days.
#[track_caller]
fn max_age(response: &Response) -> Age {
    let Some(cookie) = response.headers().get(SET_COOKIE) else {
        return Age::NoCookie;
    };
    let mut attributes = cookie.to_str().unwrap().split("; ");
    let age = attributes.find_map(|it| it.strip_prefix("Max-Age="));
    age.map_or(Age::OfBrowser, |age| {
        Age::Days(age.parse::<u64>().unwrap() / DAY.as_secs())
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Age {
    NoCookie,
    /// None: the browser's own end.
    OfBrowser,
    Days(u64),
}

#[test]
fn a_session_that_is_kept_has_a_cookie_that_outlasts_the_browser_until_it_is_taken_back() {
    for settings in [
        &[][..],
        &[("cookieMaxAge", "10d")],
        &[("storageType", "ram")],
    ] {
        let site = Site::with(settings);
        let manager = site.manager();
        let has_age = settings.contains(&("cookieMaxAge", "10d"));
        let usual = if has_age {
            Age::Days(10)
        } else {
            Age::OfBrowser
        };
        let client = client(&manager);
        assert_eq!(max_age(&client.get("/").send(page)), usual);
        // Also where no cookie would be renewed: in the answer to a form that a script sends.
        let kept = client.post("/keep").header("sec-fetch-dest", "empty");
        assert_eq!(max_age(&kept.send(page)), Age::Days(30));
        let header = format!("sessionId={}", client.cookie("sessionId").unwrap());
        let session = manager.existing(&header).unwrap().unwrap();
        let seen = (session.timeout(), session.cookie_life());
        assert_eq!(seen, (30 * DAY, Some(30 * DAY)));
        drop(session);
        assert_eq!(max_age(&client.get("/").send(page)), Age::NoCookie);
        assert_eq!(max_age(&client.get("/read").send(page)), Age::NoCookie);
        let shorter = client.get("/shorter").send(page);
        assert_eq!(max_age(&shorter), Age::Days(2));
        assert_eq!(max_age(&client.get("/away").send(page)), usual);
        let session = manager.existing(&header).unwrap().unwrap();
        let minutes = session.timeout().as_secs() / 60;
        assert_eq!((minutes, session.cookie_life()), (60, None));
    }
}

#[test]
fn a_login_that_is_kept_gives_its_new_id_that_life() {
    let site = Site::new();
    let manager = site.manager();
    let client = client(&manager);
    assert_eq!(max_age(&client.get("/").send(page)), Age::OfBrowser);
    let before = client.cookie("sessionId");
    let login = client.get("/login").send(page);
    assert_eq!(max_age(&login), Age::Days(30));
    assert_ne!(client.cookie("sessionId"), before);
    assert_eq!(client.get("/read").send(page).body_text(), "Some(true)");
}

#[test]
fn a_life_of_its_own_is_renewed_once_in_a_tenth_of_it() {
    let (site, mut session) = Site::begun();
    session.set_cookie_life(Some(Duration::from_secs(20)));
    count(&mut session);
    let set_cookie = session.commit().unwrap().expect("a cookie");
    let has_it = set_cookie.to_string().contains("Max-Age=20");
    assert!(has_it, "{set_cookie}");
    let (id, sent) = (given_id(Some(set_cookie)), Instant::now());
    let renewed = || site.open(&id).commit().unwrap();
    let again = std::iter::repeat_with(|| (renewed(), sent.elapsed()));
    let (set_cookie, after) = again
        .inspect(|_| std::thread::sleep(Duration::from_millis(50)))
        .find_map(|(set_cookie, after)| Some((set_cookie?, after)))
        .unwrap();
    let is_so = set_cookie.to_string().contains("Max-Age=20");
    assert!(is_so, "{set_cookie}");
    assert_eq!(given_id(Some(set_cookie)), id);
    assert!(after >= Duration::from_secs(2), "{after:?}");
}

#[test]
fn where_cookies_end_with_the_browser_again_one_that_does_not_is_replaced_once() {
    let site = Site::new();
    for by in ["/", "/read"] {
        for (sent, expected) in [(3600, Age::OfBrowser), (60, Age::NoCookie)] {
            let id = SessionId::generate().unwrap();
            let now = SystemTime::now();
            let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
            let text = format!(
                r#"{{"v":1,"created":{seconds},"sent":{},"values":{{}}}}"#,
                seconds - sent
            );
            let record = Record::from_json(text.into_bytes()).unwrap();
            let manager = site.manager();
            drop(manager.store().create(&id.digest(), &record, now).unwrap());
            let client = client(&manager);
            client.set_cookie("sessionId", id.secret());
            let seen = [(); 2].map(|()| max_age(&client.get(by).send(page)));
            assert_eq!(seen, [expected, Age::NoCookie], "{by}");
        }
    }
}

#[test]
fn an_idle_time_that_was_chosen_stays_beside_the_life_of_the_cookie() {
    let (site, mut session) = Site::begun();
    session.set_timeout(Some(60 * DAY));
    session.set_cookie_life(Some(30 * DAY));
    assert_eq!(session.timeout(), 60 * DAY);
    session.set_cookie_life(None);
    assert_eq!(session.timeout(), 60 * DAY);
    session.set_cookie_life(Some(30 * DAY));
    session.set_timeout(Some(DAY));
    count(&mut session);
    let id = given_id(session.commit().unwrap());
    let session = site.open(&id);
    let seen = (session.timeout(), session.cookie_life());
    assert_eq!(seen, (DAY, Some(30 * DAY)));
}

#[test]
fn a_life_and_an_idle_time_that_a_session_has_already_are_not_written_again() {
    let site = Site::new();
    let manager = site.manager();
    let client = client(&manager);
    for (path, first, timeout) in [
        ("/keep", Age::Days(30), Some(30 * DAY)),
        ("/away", Age::OfBrowser, None),
    ] {
        let again = |request: &mut Request| -> Result<Response> {
            let session = request.session()?;
            match path {
                "/keep" => session.set_cookie_life(Some(30 * DAY)),
                _ => session.set_cookie_life(None),
            }
            session.set_timeout(timeout);
            Ok(Response::text(""))
        };
        assert_eq!(max_age(&client.get(path).send(page)), first);
        let id = client.cookie("sessionId").unwrap();
        let id = SessionId::parse(id.as_bytes()).unwrap();
        let stored = || std::fs::read(site.path(&id)).unwrap();
        let before = stored();
        assert_eq!(max_age(&client.get("/").send(again)), Age::NoCookie);
        assert_eq!(stored(), before, "{path}");
    }
}

#[test]
fn a_proof_of_identity_is_stored_with_its_time_and_counts_for_its_user_alone() {
    let site = Site::new();
    let within = |id, time| {
        let manager = site.manager();
        let read = manager.read(cookie(id)).unwrap().unwrap();
        let read = read.is_confirmed_within(time);
        let session = manager.start(cookie(id)).unwrap();
        assert_eq!(session.is_confirmed_within(time), read);
        read
    };
    let mut session = site.manager().start("").unwrap();
    session.set_user(Some("ada")).unwrap();
    assert!(!session.is_confirmed_within(DAY));
    session.confirm_identity();
    assert!(session.is_confirmed_within(DAY));
    let id = given_id(session.commit().unwrap());
    assert!(within(&id, DAY) && !within(&id, Duration::ZERO));
    // The same user under a new id is still known.
    let mut session = site.open(&id);
    session.set_user(Some("ada")).unwrap();
    session.regenerate_id();
    let id = given_id(session.commit().unwrap());
    assert!(within(&id, DAY));
    for other in [Some("grace"), None] {
        let mut session = site.open(&id);
        session.confirm_identity();
        session.set_user(other).unwrap();
        assert!(!session.is_confirmed_within(DAY));
        // Nor for who comes back.
        session.set_user(Some("ada")).unwrap();
        session.commit().unwrap();
        assert!(!within(&id, DAY));
        site.change(&id, cgi_session::Session::confirm_identity);
        assert!(within(&id, DAY));
    }
    let mut session = site.open(&id);
    session.set_user(Some("grace")).unwrap();
    session.regenerate_id();
    let id = given_id(session.commit().unwrap());
    assert!(!within(&id, DAY));
}
