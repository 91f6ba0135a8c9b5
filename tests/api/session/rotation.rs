//! `rotateAfter`: an id that is old is changed by itself, at a page that the visitor opens.

use cgi_session::http::StatusCode;
use cgi_session::http::header::SET_COOKIE;
use cgi_session::{Client, RequestBuilder, Result};

use testkit::prelude::*;
use testkit::sessions::{Site, count};

const HOUR: Duration = Duration::from_secs(3600);
const HTML: &str = "text/html,application/xhtml+xml";

/// A visitor who has an id for four hours: the session holds `pageViews` 1, and the token of a form.
fn visitor(manager: &SessionManager) -> Client {
    visitor_since(manager, SystemTime::now() - 4 * HOUR)
}

fn visitor_since(manager: &SessionManager, begun: SystemTime) -> Client {
    let id = SessionId::generate().unwrap();
    let now = SystemTime::now();
    let values =
        br#"{"":{"pageViews":1},"@":{"csrfToken":"0123456789012345678901234567890123456789"}}"#;
    let record = Record::new(begun).with_values(values.to_vec());
    let record = record.with_user(Some("ada"));
    drop(manager.store().create(&id.digest(), &record, now).unwrap());
    let client = Client::new(manager.clone());
    client.set_cookie("sessionId", id.secret());
    client
}

fn views(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    assert_eq!(session.user(), Some("ada"));
    let views = count(session);
    Ok(Response::text(views.to_string()))
}

/// Whether this response gives the visitor a new id.
#[track_caller]
fn rotates<E: std::error::Error + Send + Sync + 'static>(
    manager: &SessionManager,
    request: impl Fn(&Client) -> RequestBuilder,
    handler: impl Fn(&mut Request) -> Result<Response, E> + Sync,
) -> bool {
    let client = visitor(manager);
    let before = client.cookie("sessionId").unwrap();
    let response = request(&client).send(handler);
    let is_it = !response.status().is_server_error();
    assert!(is_it, "{}", response.status());
    let after = client.cookie("sessionId").unwrap();
    assert_eq!(response.headers().contains_key(SET_COOKIE), after != before);
    after != before
}

fn html(client: &Client) -> RequestBuilder {
    client.get("/").header("accept", HTML)
}

fn document(client: &Client) -> RequestBuilder {
    client.get("/").header("sec-fetch-dest", "document")
}

#[test]
fn an_id_that_is_old_is_changed_by_a_page_that_the_visitor_opens_and_by_nothing_else() {
    for kind in ["file", "ram"] {
        let site = Site::with(&[("rotateAfter", "3h"), ("storageType", kind)]);
        let manager = &site.manager();
        assert!(rotates(manager, html, views));
        assert!(rotates(manager, document, views));
        let requests: [fn(&Client) -> RequestBuilder; 8] = [
            |client| client.get("/"),
            |client| client.get("/").header("accept", "*/*"),
            |client| html(client).header("sec-fetch-dest", "empty"),
            |client| html(client).header("sec-fetch-dest", "iframe"),
            |client| document(client).header("sec-purpose", "prefetch"),
            |client| document(client).method("HEAD"),
            |client| document(client).method("POST"),
            |client| html(client).method("POST"),
        ];
        for request in requests {
            assert!(!rotates(manager, request, views));
        }
        let unchanged = |request: &mut Request| {
            Ok::<_, cgi_session::Error>(views(request)?.with_status(StatusCode::NOT_MODIFIED))
        };
        assert!(!rotates(manager, html, unchanged));
        let read = |request: &mut Request| {
            let views = request.read_session()?.unwrap().get::<u64>("pageViews")?;
            Ok::<_, cgi_session::Error>(Response::text(format!("{views:?}")))
        };
        assert!(!rotates(manager, html, read));
        // Also where the handler has closed the session before the page.
        let update = |request: &mut Request| {
            let views = request.update_session(|session| Ok(count(session)))?;
            Ok::<_, cgi_session::Error>(Response::text(views.to_string()))
        };
        assert!(rotates(manager, html, update));
        let never = site.manager_with(&[("rotateAfter", "0")]);
        assert!(!rotates(&never, html, views));
        let later = site.manager_with(&[("rotateAfter", "5h")]);
        assert!(!rotates(&later, html, views));
    }
}

#[test]
fn an_id_of_a_clock_that_was_ahead_is_old_when_it_was_far_ahead() {
    let site = Site::with(&[("rotateAfter", "3h")]);
    let manager = site.manager();
    for (ahead, rotates) in [(4 * HOUR, true), (2 * HOUR, false)] {
        let client = visitor_since(&manager, SystemTime::now() + ahead);
        let before = client.cookie("sessionId");
        assert_eq!(html(&client).send(views).body_text(), "2");
        assert_eq!(client.cookie("sessionId") != before, rotates);
    }
}

#[test]
fn the_session_its_forms_and_requests_under_way_go_on_under_the_new_id() {
    let site = Site::with(&[("rotateAfter", "3h")]);
    let manager = site.manager();
    let client = visitor(&manager);
    let late = Client::new(manager.clone());
    late.set_cookie("sessionId", &client.cookie("sessionId").unwrap());
    let page = |request: &mut Request| {
        count(request.session()?);
        let token = request.session()?.csrf_token()?.to_owned();
        Ok::<_, cgi_session::Error>(Response::text(token))
    };
    let first = html(&client).send(page);
    let new = client.cookie("sessionId").unwrap();
    // It has its id for no time.
    assert_eq!(html(&client).send(views).body_text(), "3");
    assert_eq!(client.cookie("sessionId").unwrap(), new);
    // The form that was sent before, and the page that has just been sent.
    let order = |request: &mut Request| {
        request.check_csrf_token()?;
        views(request)
    };
    let token = first.body_text().into_owned();
    let sent = client.post("/").form([("csrfToken", token.as_str())]);
    assert_eq!(sent.send(order).body_text(), "4");
    // Who still shows the old id reads, changes nothing, and learns nothing.
    let read = |request: &mut Request| {
        let views = request.existing_session()?;
        let views = views.unwrap().get::<u64>("pageViews")?;
        Ok::<_, cgi_session::Error>(Response::text(views.unwrap().to_string()))
    };
    assert_eq!(html(&late).send(read).body_text(), "2");
    let refused = html(&late).send(views);
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.headers().contains_key(SET_COOKIE));
}

#[test]
fn an_id_that_is_changed_in_the_request_of_a_login_shows_nobody_the_login() {
    type Page<'a> = dyn Fn(&mut Request) -> Result<Response> + Sync + 'a;
    let site = Site::with(&[("rotateAfter", "3h")]);
    let manager = site.manager();
    let log_in = |session: &mut Session| {
        session.set_user(Some("eve"))?;
        session.confirm_identity();
        Ok(())
    };
    let is_closed = |request: &mut Request| {
        request.update_session(log_in)?;
        request.update_session(|session| session.insert("seen", true))?;
        Ok::<_, cgi_session::Error>(Response::text(""))
    };
    let is_open = |request: &mut Request| {
        log_in(request.session()?)?;
        Ok::<_, cgi_session::Error>(Response::text(""))
    };
    let handlers: [&Page<'_>; 2] = [&is_closed, &is_open];
    for handler in handlers {
        let client = visitor(&manager);
        let old = client.cookie("sessionId").unwrap();
        drop(html(&client).send(handler));
        assert_ne!(client.cookie("sessionId").unwrap(), old);
        let late = manager.read(format!("sessionId={old}")).unwrap();
        let late = late.map(|it| it.user().map(str::to_owned));
        assert_eq!(late, None);
    }
}

#[test]
fn of_ten_requests_at_the_rotation_none_is_logged_out_and_one_changes_the_id() {
    let site = Site::with(&[("rotateAfter", "3h")]);
    let manager = site.manager();
    for round in 1..=5 {
        let client = visitor(&manager);
        let barrier = Barrier::new(10);
        let responses: Vec<_> = thread::scope(|scope| {
            let send = || {
                let request = html(&client);
                barrier.wait();
                request.send(views)
            };
            let threads: Vec<_> = (0..10).map(|_| scope.spawn(send)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let served = responses.iter().filter(|it| it.status() == StatusCode::OK);
        let served = served.count();
        assert!(served > 0);
        let replaced = |it: &&Response| it.status() == StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(served + responses.iter().filter(replaced).count(), 10);
        let changed = |it: &&Response| it.headers().contains_key(SET_COOKIE);
        assert_eq!(responses.iter().filter(changed).count(), 1);
        let after = html(&client).send(views);
        assert_eq!(after.body_text(), (served + 2).to_string());
        let mut sessions = 0;
        let visit = |_: &_, _| {
            sessions += 1;
            ControlFlow::Continue(())
        };
        manager.for_each(visit).unwrap();
        assert_eq!(sessions, round);
    }
}

#[test]
fn an_id_from_a_link_or_from_the_program_is_never_changed_by_itself() {
    let site = Site::with(&[("rotateAfter", "3h"), ("idFrom", "cookie, query")]);
    let manager = site.manager();
    let old = visitor(&manager).cookie("sessionId").unwrap();
    let stranger = Client::new(manager.clone());
    let page = stranger.get(&format!("/?sessionId={old}"));
    let page = page.header("accept", HTML).send(views);
    assert_eq!(page.body_text(), "2");
    let given = |request: &mut Request| {
        request.use_session_id(SessionId::parse(old.as_bytes()).unwrap())?;
        views(request)
    };
    assert_eq!(html(&stranger).send(given).body_text(), "3");
    assert_eq!(stranger.cookie("sessionId"), None);
    let page = stranger.get(&format!("/?sessionId={old}"));
    assert_eq!(page.send(views).body_text(), "4");
}
