//! A login while other requests of the same browser are in flight: whatever they are and whenever they are
//! answered, the browser ends logged in.
//!
//! `LOGIN_RACES` says how often, by every way; without it a few run by two ways.

use super::browser::ADA;
use testkit::client::{Answer, Client};
use testkit::prelude::*;
use testkit::servers::Way;

const RACES: &str = "LOGIN_RACES";
/// The shortest login, in milliseconds: no answer before it is still on its way after it.
const SHORTEST: u64 = 200;
/// The id of nobody.
const UNKNOWN: &str = "0123456789abcdef0123456789abcdef01234567";

/// A browser with several connections: each request shows the cookie of the moment it is sent, and each
/// answer counts in the order of arrival.
struct Browser {
    client: Mutex<Client>,
    login: String,
}

impl Browser {
    fn now(&self) -> Client {
        self.client.lock().unwrap().clone()
    }

    fn arrives(&self, answer: &Answer) {
        self.client.lock().unwrap().keep_cookies(answer);
    }

    fn ask(&self, head: &str, body: &str) -> Answer {
        let answer = self.now().request(head, body.as_bytes());
        self.arrives(&answer);
        answer
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\n"), "")
    }
}

fn rounds() -> Option<u64> {
    let text = env::var(RACES).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{RACES}={text}")))
}

fn by_some_ways(settings: &str, test: impl Fn(Way, u64)) {
    let servers = Servers::start(settings);
    let few = ["nginx, new connections", "Apache, mod_cgid"];
    for way in servers.ways() {
        let rounds = match rounds() {
            Some(rounds) => rounds,
            None if few.contains(&&*format!("{way:?}")) => 2,
            None => continue,
        };
        for round in 0..rounds {
            test(way, round);
        }
        eprintln!("{way:?}: {rounds} rounds of {rounds} ended logged in");
    }
}

/// What one round has seen.
#[derive(Default)]
struct Seen {
    /// Set-Cookie fields of requests other than the login.
    cookies: Vec<String>,
    turned_away: usize,
}

/// One request logs in, and these others are sent with the old cookie: the first answers when the login has
/// answered, four more are on their way while it is done, and what is `late` arrives when it has been answered.
fn race(browser: &Browser, login: impl FnOnce() -> Answer, way: Way, takes: u64) -> Seen {
    let seen = Mutex::new(Seen::default());
    let page = |wish: &str| way.path(&format!("/race?do={wish}"));
    let see = |answer: Answer| {
        browser.arrives(&answer);
        let mut seen = seen.lock().unwrap();
        seen.cookies.extend(answer.set_cookies());
        match answer.status.as_u16() {
            200 => {}
            503 => seen.turned_away += 1,
            status => panic!("{way:?}: {status}: {answer:#?}"),
        }
    };
    let late = ["open", "read", "destroy", "early", "existing"];
    let late = late.map(|wish| browser.now().hold(&page(wish)));
    let has_begun = Barrier::new(6);
    thread::scope(|scope| {
        let early = page(&format!("early&ms={}", takes + SHORTEST));
        let others = [page("open"), page("read"), page("existing"), page("early")];
        let others = [early].into_iter().chain(others);
        let (has_begun, see) = (&has_begun, &see);
        for path in others {
            let client = browser.now();
            scope.spawn(move || {
                has_begun.wait();
                see(client.clone().get(&path));
            });
        }
        has_begun.wait();
        browser.arrives(&login());
        for held in late {
            see(held.let_go().expect("an answer"));
        }
    });
    seen.into_inner().unwrap()
}

#[track_caller]
fn is_inside(browser: &Browser, way: Way, before: &str) {
    let id = browser.now().id().unwrap().to_owned();
    assert_ne!(id, before, "{way:?}");
    for wish in ["read", "existing", "open"] {
        let answer = browser.get(&way.path(&format!("/race?do={wish}")));
        let cookies = answer.expect(200, "ada is here").set_cookies();
        assert!(cookies.iter().all(|it| it.contains(&id)), "{cookies:?}");
    }
}

/// A browser whose session is a guest's.
fn guest(way: Way) -> (Browser, String) {
    let browser = Browser {
        client: Mutex::new(way.client()),
        login: way.path("/login"),
    };
    let answer = browser.get(&way.path("/race?do=open"));
    answer.expect(200, "nobody is here").expect_cookies(1);
    let id = browser.now().id().unwrap().to_owned();
    (browser, id)
}

#[test]
fn a_login_among_requests_in_flight_ends_logged_in_with_the_default_settings() {
    by_some_ways("", |way, round| {
        let (browser, before) = guest(way);
        let takes = [1000, SHORTEST, 600][usize::try_from(round % 3).unwrap()];
        let login = || {
            browser
                .now()
                .get(&way.path(&format!("/race?do=login&ms={takes}")))
        };
        let seen = race(&browser, login, way, takes);
        assert_eq!(seen.cookies, [""; 0], "{way:?}, round {round}");
        // Those that want a session to change: of the late ones all of these.
        assert!(seen.turned_away >= 3, "{way:?}: {}", seen.turned_away);
        is_inside(&browser, way, &before);
        // Nor does the old cookie alone lead anywhere, or to a new session.
        let mut old = way.client().with_id(&before);
        for (wish, status) in [("open", 503), ("destroy", 503), ("read", 200)] {
            let answer = old.get(&way.path(&format!("/race?do={wish}")));
            answer.expect(status, "").expect_cookies(0);
        }
    });
}

#[test]
fn a_login_by_the_example_among_requests_in_flight_ends_logged_in() {
    by_some_ways("", |way, _| {
        let (browser, before) = guest(way);
        let page = browser.get(&browser.login).expect(200, "csrfToken").body;
        let (_, rest) = page.split_once("name=\"csrfToken\" value=\"").unwrap();
        let form = format!("csrfToken={}&{ADA}", &rest[..40]);
        let login = || browser.now().post(&browser.login, &form).expect(303, "");
        race(&browser, login, way, 2 * SHORTEST);
        assert_ne!(browser.now().id(), Some(&*before), "{way:?}");
        let page = browser.get(&browser.login);
        page.expect(200, "ada is logged in.").expect_cookies(0);
    });
}

/// So often a cookie of ten seconds may have been sent again since then, on a busy machine.
fn most_since(begun: Instant) -> usize {
    1 + usize::try_from(begun.elapsed().as_secs()).unwrap()
}

/// Once in a tenth of its Max-Age a page sends the cookie again.
#[test]
fn cookies_that_are_sent_again_and_again_do_not_undo_a_login() {
    by_some_ways("cookieMaxAge = 10s\n", |way, round| {
        let (browser, before) = guest(way);
        // A tenth, and when it was sent is noted in whole seconds.
        thread::sleep(Duration::from_millis(2200));
        let takes = [600, SHORTEST][usize::try_from(round % 2).unwrap()];
        let login = || {
            browser
                .now()
                .get(&way.path(&format!("/race?do=login&ms={takes}")))
        };
        let begun = Instant::now();
        let seen = race(&browser, login, way, takes);
        // One of those that came before the login may have sent the old one again.
        let most = most_since(begun);
        assert!(seen.cookies.len() <= most, "{way:?}: {:?}", seen.cookies);
        let has_it = seen.cookies.iter().all(|it| it.contains(&before));
        assert!(has_it, "{way:?}");
        is_inside(&browser, way, &before);
    });
}

#[test]
fn a_page_that_only_reads_sends_the_cookie_again_once_in_a_tenth_of_its_max_age() {
    by_some_ways("cookieMaxAge = 10s\n", |way, _| {
        let (browser, id) = guest(way);
        let read = way.path("/race?do=read");
        thread::sleep(Duration::from_millis(2200));
        let ask = |head: &str| browser.ask(head, "");
        // An image, a script's request, a look at the head, and a form are no pages.
        for destination in ["image", "empty", "script"] {
            let head = format!("GET {read} HTTP/1.1\r\nSec-Fetch-Dest: {destination}\r\n");
            ask(&head).expect(200, "").expect_cookies(0);
        }
        ask(&format!("POST {read} HTTP/1.1\r\nContent-Length: 0\r\n")).expect_cookies(0);
        // Of those that read at once, one does it.
        let begun = Instant::now();
        let document = format!("GET {read} HTTP/1.1\r\nSec-Fetch-Dest: document\r\n");
        let answers = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| answers.lock().unwrap().push(browser.get(&read)));
                scope.spawn(|| answers.lock().unwrap().push(ask(&document)));
            }
        });
        let mut answers = answers.into_inner().unwrap();
        answers.push(ask(&document));
        let cookies: Vec<_> = answers.iter().flat_map(Answer::set_cookies).collect();
        let number = 1..=most_since(begun);
        assert!(number.contains(&cookies.len()), "{way:?}: {cookies:?}");
        let is_own = |it: &String| it.contains(&id) && it.contains("Max-Age=10");
        assert!(cookies.iter().all(is_own), "{cookies:?}");
        // The id of nobody is never sent, however old it is.
        let mut unknown = way.client().with_id(UNKNOWN);
        unknown.get(&read).expect(200, "nobody").expect_cookies(0);
    });
}
