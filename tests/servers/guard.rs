//! The shipped settings with which nginx, Apache and lighttpd ask `cgi-session guard`.

use testkit::apache::web_user;
use testkit::client::{Answer, Client};
use testkit::guarded::{self, Guard};
use testkit::prelude::*;
use testkit::server::Server;

/// A site whose pages below /members/ are for users, with the id of a session of ada's and that of one without a user.
fn site() -> (Site, [String; 2]) {
    let site = Site::new();
    site.make_sessions(None);
    let config = Config::new().set("storageFileDir", site.sessions());
    let manager = SessionManager::new(config.unwrap()).unwrap();
    let ids = [Some("ada"), None].map(|user| {
        let mut session = manager.start("").unwrap();
        session.insert("pageViews", 1).unwrap();
        session.set_user(user).unwrap();
        session.save().unwrap();
        session.id().unwrap().secret().to_owned()
    });
    let members = site.path().join("pages/members");
    fs::create_dir_all(&members).unwrap();
    fs::write(members.join("page.html"), "for members").unwrap();
    let script = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; env | grep -i remote.user=\n";
    fs::write(members.join("who.cgi"), script).unwrap();
    fs::set_permissions(members.join("who.cgi"), Permissions::from_mode(0o755)).unwrap();
    let tool = testkit::tool("cgi-session");
    testkit::copy(&tool, &site.path().join("cgi-session"));
    for name in site.files() {
        give(&site.sessions().join(name), web_user());
    }
    give(&site.sessions(), web_user());
    (site, ids)
}

/// What may be in the name of a header, and is one `_` in the name of a CGI variable.
const SEPARATORS: &str = "-_!#$%&'*+.^`|~";

/// Asks for a page, with header fields in which the client calls itself root, in every spelling.
#[track_caller]
fn ask(server: &Server, id: Option<&str>, path: &str) -> Answer {
    let mut fields = Vec::new();
    for one in SEPARATORS.chars() {
        fields.push(format!("Remote{one}User: root\r\n"));
        let spelled = |two| format!("x{one}REMOTE{two}user: root\r\n");
        fields.extend(SEPARATORS.chars().map(spelled));
    }
    let mut answers = fields.chunks(80).map(|fields| {
        let client = Client::new(server.ports[0]);
        let mut client = match id {
            Some(id) => client.with_id(id),
            None => client,
        };
        let others = fields.concat();
        let head = format!(
            "GET {path} HTTP/1.1\r\nConnection: x-remote-user, Keep-Alive, Remote-User\r\n{others}"
        );
        client.request(head, b"")
    });
    let first = answers.next().unwrap();
    for answer in answers {
        let seen = (answer.status, answer.body);
        assert_eq!(seen, (first.status, first.body.clone()), "{path}");
    }
    first
}

/// Expects that only the session of a user opens this page, and returns what it says.
#[track_caller]
fn only_for_users(server: &Server, ids: &[String; 2], path: &str, refused: u16) -> String {
    let unknown = "1".repeat(40);
    for id in [None, Some(&*unknown), Some(&*ids[1])] {
        let answer = ask(server, id, path);
        assert_eq!(answer.status.as_u16(), refused, "{answer:?}");
        assert!(!answer.body.contains("for members"), "{answer:?}");
        // Or a browser would ask for a password.
        assert_eq!(answer.header("www-authenticate"), None);
        if refused == 303 {
            let seen = answer.header("location");
            let seen = seen.map(|it| it.ends_with("/app/login"));
            assert_eq!(seen, Some(true));
            // Passed on to the program that logs in, which does not run here.
            let login = ask(server, None, "/app/login").status.as_u16();
            assert!(login == 502 || login == 503, "{login}");
        }
    }
    let answer = ask(server, Some(&ids[0]), path);
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    if path.contains("page.html") {
        // Apache keeps what the guard says itself.
        let cache = answer.header("cache-control").unwrap_or_default();
        let has_it = ["private, no-cache", "no-store"].contains(&&*cache);
        assert!(has_it, "{cache}");
    }
    answer.body
}

/// Expects that what stands behind was told that the user is ada, and nobody else.
#[track_caller]
fn names_ada(said: &str) {
    let is_user = |line: &&str| line.to_ascii_lowercase().contains("user");
    let named: Vec<_> = said.lines().filter(is_user).collect();
    assert!(named.len() == 1 && named[0].ends_with("ada"), "{said}");
}

#[test]
fn nginx_lets_users_in_and_tells_the_application_who_they_are() {
    let (site, ids) = site();
    let Some(server) = guarded::start_nginx(&site, guarded::start_wiki()) else {
        return;
    };
    let _guard = Guard::on_unix_socket(&site);
    let page = only_for_users(&server, &ids, "/members/page.html", 303);
    assert_eq!(page, "for members");
    names_ada(&only_for_users(&server, &ids, "/wiki/page?a=b", 303));
    ask(&server, None, "/guard").expect(404, "");
}

#[test]
fn apache_lets_users_in_and_tells_the_application_who_they_are() {
    let (site, ids) = site();
    for (arguments, refused) in [(&[][..], 401), (&["--login", "/app/login"], 303)] {
        let (_guard, port) = Guard::on_port(&site, arguments);
        let Some(server) = guarded::start_apache(&site, guarded::start_wiki(), port) else {
            return;
        };
        let page = only_for_users(&server, &ids, "/members/page.html", refused);
        assert_eq!(page, "for members");
        names_ada(&only_for_users(&server, &ids, "/wiki/page?a=b", refused));
        // Told to merge no slashes, Apache finds the same behind more of them.
        only_for_users(&server, &ids, "//members/page.html", refused);
        names_ada(&only_for_users(&server, &ids, "//wiki/page", refused));
    }
}

#[test]
fn lighttpd_lets_users_in_and_tells_the_programs_who_they_are() {
    let (site, ids) = site();
    let Some(server) = guarded::start_lighttpd(&site) else {
        return;
    };
    let _guard = Guard::on_unix_socket(&site);
    let page = only_for_users(&server, &ids, "/members/page.html", 401);
    assert_eq!(page, "for members");
    names_ada(&only_for_users(&server, &ids, "/members/who.cgi", 401));
}
