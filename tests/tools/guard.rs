//! `cgi-session guard`, asked as nginx asks (a Responder) and as Apache and lighttpd do (an Authorizer).

use testkit::fastcgi::client::{Address, Client, KEEP, Reply, STDIN, head, params, record};
use testkit::prelude::*;
use testkit::tools::Site;

/// A running guard, ended with the test.
struct Guard {
    child: Child,
    socket: PathBuf,
    site: Site,
}

impl Guard {
    fn start(more: &str) -> Self {
        Guard::start_with(more, "cookie")
    }

    fn start_with(more: &str, id_from: &str) -> Self {
        let site = Site::new();
        let socket = site.parent().join("guard.sock");
        let mut command = site.about("guard");
        let listen = format!("unix:{}", socket.display());
        command.args(["--listen", &listen]).args(more.words());
        command.env("CGI_SESSION_ID_FROM", id_from);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        wait_until("the guard listens", || UnixStream::connect(&socket).is_ok());
        Guard {
            child,
            socket,
            site,
        }
    }

    fn ask(&self, role: Role, cookie: &str) -> Reply {
        let mut client = Client::connect(&Address::Unix(self.socket.clone())).unwrap();
        client.ask(1, &request(role, cookie, 0))
    }

    /// What both roles are answered.
    #[track_caller]
    fn answer(&self, cookie: &str) -> Reply {
        let replies = [Role::Responder, Role::Authorizer].map(|role| self.ask(role, cookie));
        let [first, second] = replies;
        assert_eq!((&first.head, first.end), (&second.head, second.end));
        assert_eq!(first.end, Some(0));
        first
    }

    /// Begins a session and returns the Cookie header that opens it.
    fn session(&self, change: impl FnOnce(&mut Session)) -> String {
        let mut session = self.site.manager().start("").unwrap();
        session.insert("pageViews", 1).unwrap();
        change(&mut session);
        header_of(session.commit().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        testkit::server::stop(&mut self.child);
    }
}

#[derive(Clone, Copy)]
enum Role {
    Responder = 1,
    Authorizer = 2,
}

fn request(role: Role, cookie: &str, flags: u8) -> Vec<u8> {
    // More fields than a page of the library takes: the page asked about is another program's.
    let more = [("HTTP_COOKIE", cookie.as_bytes())];
    let params = params("GET", &"a=b&".repeat(1001), &more);
    let mut bytes = head(1, flags, &params);
    bytes[9] = role as u8;
    match role {
        Role::Responder => bytes.extend(record(STDIN, 1, b"")),
        // A server sends it nothing more.
        Role::Authorizer => {}
    }
    bytes
}

fn of_user(user: &'static str) -> impl FnOnce(&mut Session) {
    move |session| session.set_user(Some(user)).unwrap()
}

#[test]
fn a_session_with_a_user_is_200_and_names_the_user() {
    let guard = Guard::start("");
    let ada = guard.session(of_user("ada"));
    let reply = guard.answer(&ada);
    assert_eq!(reply.status(), 200);
    let named = |reply: &Reply, user: &str| {
        let line = format!("Variable-REMOTE_USER: {user}");
        reply.head.lines().any(|it| it == line)
    };
    assert!(named(&reply, "ada"), "{reply:?}");
    let other = guard.session(of_user("bücher"));
    assert!(named(&guard.answer(&other), "bücher"));
    // The one that leads to a session, of several.
    let stale = format!("sessionId={}", "1".repeat(40));
    assert!(named(&guard.answer(&format!("{stale}; {ada}")), "ada"));
    let head = reply.head.to_ascii_lowercase();
    assert!(!head.contains("set-cookie"), "{head}");
}

#[test]
fn what_opens_no_session_of_a_user_is_401() {
    let guard = Guard::start("");
    let anonymous = guard.session(|_| ());
    let private = guard.session(of_user("ada"));
    let mut session = guard.site.manager().start(&private).unwrap();
    session.set_private();
    assert!(session.commit().unwrap().is_none());
    let ended = guard.session(of_user("ada"));
    let session = guard.site.manager().start(&ended).unwrap();
    session.destroy().unwrap();
    // The ids that a change has left: a marker, and a copy that can still be read.
    let [marked, copied] = [None, Some(Duration::from_secs(3600))].map(|grace| {
        let before = guard.session(of_user("ada"));
        let mut session = guard.site.manager().start(&before).unwrap();
        match grace {
            Some(grace) => session.regenerate_id_with_grace(grace),
            None => session.regenerate_id(),
        }
        let after = header_of(session.commit().unwrap());
        assert_eq!(guard.answer(&after).status(), 200);
        before
    });
    let seen = guard.site.manager().read(&copied).unwrap().unwrap();
    assert_eq!(seen.user(), Some("ada"));
    let none = ["", "sessionId=short", "other=1"];
    let others = [&anonymous, &private, &ended, &marked, &copied].map(String::as_str);
    for cookie in none.into_iter().chain(others) {
        let reply = guard.answer(cookie);
        assert_eq!(reply.status(), 401, "{cookie}: {reply:?}");
        assert!(!reply.head.contains("ada"), "{reply:?}");
    }
}

#[test]
fn a_user_whose_name_would_be_another_one_in_a_header_is_403() {
    let guard = Guard::start("");
    let users = "ada\n|ada\r\nX: y|\u{1}|a\tb|ada\u{7f}|\u{85}ada| ada|ada ";
    for user in users.split('|') {
        // A program in another language may have stored what the library refuses.
        let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
        let named = Record::new(now).with_user(Some(user));
        let manager = guard.site.manager();
        let created = manager.store().create(&id.digest(), &named, now).unwrap();
        drop(created.unwrap());
        let reply = guard.answer(&format!("sessionId={}", id.secret()));
        assert_eq!(reply.status(), 403, "{user:?}: {reply:?}");
        assert!(!reply.head.contains("ada"), "{reply:?}");
    }
}

#[test]
fn an_id_in_a_header_field_counts_where_the_configuration_says_so() {
    let guard = Guard::start_with("", "header:X-Session-Id");
    let ada = guard.session(of_user("ada"));
    let id = ada.strip_prefix("sessionId=").unwrap();
    for (name, value, status) in [("HTTP_X_SESSION_ID", id, 200), ("HTTP_COOKIE", &*ada, 401)] {
        let params = params("GET", "", &[(name, value.as_bytes())]);
        let mut bytes = head(1, 0, &params);
        bytes[9] = Role::Authorizer as u8;
        let mut client = Client::connect(&Address::Unix(guard.socket.clone())).unwrap();
        assert_eq!(client.ask(1, &bytes).status(), status, "{name}");
    }
}

#[test]
fn a_connection_is_kept_between_requests_of_either_role() {
    use Role::{Authorizer, Responder};
    let guard = Guard::start("");
    let ada = guard.session(of_user("ada"));
    let mut client = Client::connect(&Address::Unix(guard.socket.clone())).unwrap();
    for role in [Authorizer, Responder, Authorizer, Authorizer] {
        assert_eq!(client.ask(1, &request(role, &ada, KEEP)).status(), 200);
    }
}

#[test]
fn being_asked_about_counts_as_use_and_waits_for_no_lock() {
    let guard = Guard::start("");
    let ada = guard.session(of_user("ada"));
    let names = guard.site.names();
    // Beside the user's index.
    let is_session = |name: &&String| Path::new(name).extension().is_some_and(|it| it == "json");
    let name = names.iter().find(is_session);
    let path = guard.site.directory.join(name.unwrap());
    testkit::tools::set_age(&path, testkit::tools::HOUR / 2);
    let patient = guard.site.manager_with(&[("lockTimeout", "60s")]);
    let _held = patient.start(&ada).unwrap();
    assert_eq!(guard.answer(&ada).status(), 200);
    let used = path.metadata().unwrap().modified().unwrap();
    assert!(used.elapsed().unwrap() < testkit::tools::HOUR / 4);
}

#[test]
fn with_login_it_redirects() {
    let guard = Guard::start("--login /login");
    let reply = guard.answer("");
    assert_eq!(reply.status(), 303);
    holds(reply.head.to_ascii_lowercase(), "location: /login");
}

#[test]
fn it_needs_a_socket_and_sessions_that_another_program_can_read() {
    let site = Site::new();
    let refused = Finished::of(site.about("guard").stdin(Stdio::null()));
    let refused = refused.exits_with(2).complains("--listen");
    refused.complains("install -d");
    let listen = format!("unix:{}/guard.sock", site.parent().display());
    let refused = site.run_under("storageType = ram", ["guard", "--listen", &listen]);
    refused.exits_with(78).complains("storageType = ram");
}
