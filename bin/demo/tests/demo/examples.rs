//! Every example, walked as the systems that they come from describe it.

use std::fs;
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use ureq::http::StatusCode;

use crate::server::{Page, Server, Visitor, wait_for};

#[track_caller]
fn misses_the_first_name(page: &Page) {
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.text.contains("firstname"), "{}", page.text);
}

fn follow_to_the_end(server: &Server, visitor: &Visitor) {
    for _ in 0..2 {
        let followed = visitor.get("/cgi-bin/follow");
        followed.says("Your first name is Ada");
    }
    let closed = visitor.get("/cgi-bin/follow?close=1");
    closed.says("Your first name is Ada");
    assert!(closed.set_cookie[0].contains("Max-Age=0"), "{closed:?}");
    assert!(server.session_files().is_empty());
    misses_the_first_name(&visitor.get("/cgi-bin/follow"));
    assert!(server.session_files().is_empty());
}

#[test]
fn follow_knows_what_begin_was_told_by_post_until_the_session_is_closed() {
    // As programs, and as responders.
    for server in [Server::start(), Server::with_fastcgi()] {
        let visitor = server.visitor();
        let fields = [("myname", "Lovelace"), ("firstname", "Ada")];
        let begun = visitor.post("/cgi-bin/begin", &fields);
        begun.says("Your name is Lovelace");
        follow_to_the_end(&server, &visitor);
    }
}

#[test]
fn follow_knows_what_begin_was_told_by_get_until_the_session_is_closed() {
    let (server, visitor) = Server::visited();
    let begun = visitor.get("/cgi-bin/begin?myname=Lovelace&firstname=Ada");
    begun.says("Your name is Lovelace");
    follow_to_the_end(&server, &visitor);
}

#[test]
fn following_before_beginning_makes_no_session() {
    let server = Server::start();
    let page = server.visitor().get("/cgi-bin/follow");
    misses_the_first_name(&page);
    assert!(page.set_cookie.is_empty() && server.session_files().is_empty());
}

#[test]
fn the_counter_counts_and_sends_its_cookie_once() {
    let (server, visitor) = Server::visited();
    let pages = [(); 3].map(|()| visitor.get("/cgi-bin/counter"));
    assert_eq!(pages.each_ref().map(Page::views), [1, 2, 3]);
    let cookies = pages.each_ref().map(|page| page.set_cookie.len());
    assert_eq!(cookies, [1, 0, 0]);
    assert_eq!(server.visitor().get("/cgi-bin/counter").views(), 1);
    assert_eq!(visitor.get("/cgi-bin/counter").views(), 4);
}

#[test]
fn fifty_requests_at_once_are_all_counted() {
    count_fifty_at_once(&Server::start());
}

#[test]
fn fifty_requests_at_once_are_all_counted_by_a_responder() {
    let server = Server::with_fastcgi();
    count_fifty_at_once(&server);
    let children = server.children().len();
    assert_eq!(children, 2, "one for lookup and one for counter");
}

#[test]
fn a_responder_that_was_killed_is_started_again_and_has_lost_nothing() {
    let server = Server::with_fastcgi();
    let visitor = server.visitor();
    assert_eq!(visitor.get("/cgi-bin/counter").views(), 1);
    let before = server.children();
    let killed = Command::new("kill").arg("-KILL").arg(&before[0]).status();
    assert!(killed.unwrap().success());
    // The server takes notice of its end at the next request. It has ended when no thread but the
    // first is left of it, and that one waits to be taken notice of.
    let process = format!("/proc/{}", before[0]);
    let has_ended = || {
        let threads = fs::read_dir(format!("{process}/task")).unwrap().count();
        let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
        threads == 1 && stat.contains(") Z ")
    };
    wait_for("the responder's end", || has_ended().then_some(()));
    assert_eq!(visitor.get("/cgi-bin/counter").views(), 2);
    assert_ne!(server.children(), before);
}

#[test]
fn responders_end_with_a_server_that_was_killed() {
    let server = Server::with_fastcgi();
    assert_eq!(server.visitor().get("/cgi-bin/counter").views(), 1);
    let process = format!("/proc/{}", server.children()[0]);
    // A server that goes out of scope is killed.
    drop(server);
    wait_for("the responder's end", || {
        (!fs::exists(&process).unwrap()).then_some(())
    });
}

fn count_fifty_at_once(server: &Server) {
    const REQUESTS: u64 = 50;
    let visitor = server.visitor();
    let begun = visitor.get("/cgi-bin/lookup?create=1");
    begun.says("There is a session");
    let together = Barrier::new(50);
    let count = || {
        together.wait();
        loop {
            let page = visitor.get("/cgi-bin/counter");
            // A responder lets at most 16 requests wait for one session, and asks the others to try again.
            if page.status != StatusCode::SERVICE_UNAVAILABLE {
                return page.views();
            }
        }
    };
    let mut views: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..REQUESTS).map(|_| scope.spawn(count)).collect();
        let views = threads.into_iter().map(|thread| thread.join().unwrap());
        views.collect()
    });
    views.sort_unstable();
    assert_eq!(views, (1..=REQUESTS).collect::<Vec<_>>());
}

#[test]
fn looking_makes_nothing_until_it_is_asked_to() {
    let (server, visitor) = Server::visited();
    for _ in 0..2 {
        let page = visitor.get("/cgi-bin/lookup");
        page.says("no session");
        assert!(page.set_cookie.is_empty() && server.session_files().is_empty());
    }
    visitor.get("/cgi-bin/lookup?create=1").says("my_data");
    visitor.get("/cgi-bin/lookup").says("some data");
    visitor.get("/cgi-bin/lookup?expire=1").says("no session");
    assert!(server.session_files().is_empty());
}

#[test]
fn an_expired_session_can_be_replaced_in_the_same_request() {
    let (server, visitor) = Server::visited();
    let old = visitor.get("/cgi-bin/lookup?create=1").set_cookie;
    let page = visitor.get("/cgi-bin/lookup?expire=1&create=1");
    page.says("There is a session");
    assert_eq!(page.set_cookie.len(), 1);
    assert_ne!(page.set_cookie, old);
    assert_eq!(server.session_files().len(), 1);
}

#[test]
fn a_visit_is_forgotten_by_the_button_and_by_lemons_link() {
    let (server, visitor) = Server::visited();
    let button = || visitor.post("/cgi-bin/visit", &[("destroy", "True")]);
    let link = || visitor.get("/cgi-bin/visit?destroy=True");
    for destroy in [&button as &dyn Fn() -> Page, &link] {
        let first = visitor.get("/cgi-bin/visit");
        first.says("your first visit");
        let back = visitor.get("/cgi-bin/visit");
        back.says("Welcome back").says("variable1");
        destroy().says("The session is deleted");
        assert!(server.session_files().is_empty());
        let again = visitor.get("/cgi-bin/visit");
        again.says("your first visit");
        assert_ne!(again.set_cookie, first.set_cookie);
        destroy();
    }
}

#[test]
fn who_was_only_at_the_counter_is_new_to_visit() {
    let (_server, visitor) = Server::visited();
    visitor.get("/cgi-bin/counter");
    visitor.get("/cgi-bin/visit").says("your first visit");
    visitor.get("/cgi-bin/visit").says("Welcome back");
}

#[test]
fn what_a_visitor_says_is_escaped() {
    let (_server, visitor) = Server::visited();
    let fields = [("myname", "<script>"), ("firstname", "<i>&")];
    let begun = visitor.post("/cgi-bin/begin", &fields);
    begun.says("Your name is &lt;script&gt;");
    let followed = visitor.get("/cgi-bin/follow");
    followed.says("Your first name is &lt;i&gt;&amp;");
    visitor.get("/cgi-bin/lookup").says("&lt;i&gt;&amp;");
}

#[test]
fn every_link_of_the_first_page_leads_somewhere() {
    let (_server, visitor) = Server::visited();
    let home = visitor.get("/").text;
    let links = home.split("href=\"").skip(1);
    let links: Vec<&str> = links.filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() > 6, "{links:?}");
    for link in links {
        assert_eq!(visitor.get(link).status, StatusCode::OK, "{link}");
    }
}
