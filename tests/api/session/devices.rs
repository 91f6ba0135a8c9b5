//! "Your devices": the sessions of a visitor's user, the browsers that use them, and the end of one.

use cgi_session::http::StatusCode;
use cgi_session::{Client, Device, RequestBuilder, Result, UserSession};

use testkit::prelude::*;
use testkit::sessions::{Site, count};

const PHONE: &str = "Phone/1.0 (small)";
const DESK: &str = "Desk/2.0";

fn site(settings: &[(&str, &str)]) -> Site {
    Site::with(&[&[("recordClient", "true")], settings].concat())
}

fn enter(request: &mut Request) -> Result<Response> {
    let name = request.query("name").unwrap_or_default();
    let session = request.session()?;
    session.set_user(Some(&name))?;
    session.regenerate_id();
    Ok(Response::text(""))
}

fn visit(request: &mut Request) -> Result<Response> {
    Ok(Response::text(count(request.session()?).to_string()))
}

/// A line for each session: whether it is this one, and the browsers.
fn list(request: &mut Request) -> Result<Response> {
    let shown = |device: Option<&Device>| {
        let agent = device.and_then(Device::agent).unwrap_or("-").to_owned();
        let address = device.and_then(Device::address).unwrap_or("-");
        format!("{agent} {address}")
    };
    let line = |session: &UserSession| {
        let is_current = session.is_current();
        let mark = if is_current { "this" } else { "other" };
        let (first, last) = (shown(session.first_device()), shown(session.last_device()));
        format!("{mark}: {first}; {last}\n")
    };
    let sessions = request.own_sessions()?;
    let lines: String = sessions.iter().map(line).collect();
    Ok(Response::text(lines))
}

fn digests(request: &mut Request) -> Result<Response> {
    let sessions = request.own_sessions()?;
    let lines = sessions.iter().filter(|it| !it.is_current());
    let lines: Vec<_> = lines.map(|it| it.digest().to_string()).collect();
    Ok(Response::text(lines.join(" ")))
}

/// Ends the session that the query names.
fn end(request: &mut Request) -> Result<Response> {
    let digest = request.query("digest").unwrap_or_default();
    let digest = SessionDigest::parse(digest.as_bytes()).unwrap();
    let is_ended = request.end_own_session(&digest)?;
    Ok(Response::text(is_ended.to_string()))
}

fn by(request: RequestBuilder, agent: &str, address: &str) -> RequestBuilder {
    request.header("user-agent", agent).remote_address(address)
}

/// A user's browser, logged in.
fn login(manager: &SessionManager, name: &str, agent: &str, address: &str) -> Client {
    let client = Client::new(manager.clone());
    let request = by(client.get(&format!("/?name={name}")), agent, address);
    assert_eq!(request.send(enter).status(), StatusCode::OK);
    client
}

/// What a page says to a browser.
#[track_caller]
fn says(request: RequestBuilder, handler: fn(&mut Request) -> Result<Response>) -> String {
    let response = request.send(handler);
    assert_eq!(response.status(), StatusCode::OK);
    response.body_text().into_owned()
}

#[test]
fn a_user_sees_its_sessions_with_the_browsers_that_made_and_last_used_them() {
    for kind in ["file", "ram"] {
        let site = site(&[("storageType", kind)]);
        let manager = site.manager();
        let phone = login(&manager, "ada", PHONE, "192.0.2.77");
        let desk = login(&manager, "ada", DESK, "2001:db8:5:6::7");
        login(&manager, "grace", DESK, "198.51.100.1");
        let list_by = |client: &Client| says(by(client.get("/"), PHONE, "203.0.113.9"), list);
        let mut lines: Vec<_> = list_by(&phone).lines().map(str::to_owned).collect();
        lines.sort();
        let of_phone = format!("{PHONE} 192.0.2.0/24");
        let of_desk = format!("{DESK} 2001:db8:5::/48");
        // To look is no use.
        let expected = [
            format!("other: {of_desk}; {of_desk}"),
            format!("this: {of_phone}; {of_phone}"),
        ];
        assert_eq!(lines, expected);
        let seen = says(by(phone.get("/"), PHONE, "198.51.100.200"), visit);
        assert_eq!(seen, "1");
        let listed = list_by(&desk);
        let moved = format!("other: {of_phone}; {PHONE} 198.51.100.0/24\n");
        assert!(listed.contains(&moved), "{listed}");
        assert!(listed.contains(&format!("this: {of_desk}; {of_desk}\n")));
        // Neither a guest nor a session without a user has any.
        let guest = Client::new(manager.clone());
        assert_eq!(list_by(&guest), "");
        assert_eq!(guest.cookie("sessionId"), None);
        says(guest.get("/"), visit);
        assert_eq!(list_by(&guest), "");
    }
}

#[test]
fn a_user_ends_one_of_its_sessions_and_no_other_users() {
    let site = site(&[]);
    let manager = site.manager();
    let phone = login(&manager, "ada", PHONE, "192.0.2.77");
    let desk = login(&manager, "ada", DESK, "192.0.2.77");
    let other = login(&manager, "grace", DESK, "192.0.2.77");
    let digest_of = |client: &Client| {
        let id = client.cookie("sessionId").unwrap();
        let id = SessionId::parse(id.as_bytes()).unwrap();
        id.digest().to_string()
    };
    assert_eq!(says(phone.get("/"), digests), digest_of(&desk));
    let end_by = |client: &Client, digest: &str| {
        let request = client.post(&format!("/?digest={digest}"));
        says(request, end)
    };
    assert_eq!(end_by(&phone, &digest_of(&other)), "false");
    assert_eq!(end_by(&other, &digest_of(&desk)), "false");
    let seen = end_by(&Client::new(manager.clone()), &digest_of(&desk));
    assert_eq!(seen, "false");
    assert_eq!(manager.user_sessions("ada").unwrap().len(), 2);
    assert_eq!(end_by(&phone, &digest_of(&desk)), "true");
    assert_eq!(end_by(&phone, &digest_of(&desk)), "false");
    assert_eq!(says(desk.get("/"), list), "");
    assert_eq!(manager.user_sessions("grace").unwrap().len(), 1);
    // Its own is a logout.
    assert_eq!(end_by(&phone, &digest_of(&phone)), "true");
    assert_eq!(phone.cookie("sessionId"), None);
    assert!(manager.user_sessions("ada").unwrap().is_empty());
}

#[test]
fn a_session_that_another_request_holds_is_waited_for_and_two_that_end_each_other_both_do() {
    let site = site(&[]);
    let manager = site.manager();
    let clients = [PHONE, DESK].map(|agent| login(&manager, "ada", agent, "192.0.2.77"));
    let targets = clients.each_ref();
    let targets = targets.map(|client| says(client.get("/"), digests));
    let change_and_end = |request: &mut Request| {
        count(request.session()?);
        end(request)
    };
    thread::scope(|scope| {
        for (client, target) in clients.iter().zip(&targets) {
            let request = client.post(&format!("/?digest={target}"));
            scope.spawn(move || {
                let status = request.send(change_and_end).status();
                assert!(!status.is_server_error(), "{status}");
            });
        }
    });
    assert!(manager.user_sessions("ada").unwrap().len() < 2);
}

#[test]
fn under_an_id_that_was_changed_nothing_is_ended() {
    let site = site(&[]);
    let manager = site.manager();
    let phone = login(&manager, "ada", PHONE, "192.0.2.77");
    let late = Client::new(manager.clone());
    late.set_cookie("sessionId", &phone.cookie("sessionId").unwrap());
    let desk = login(&manager, "ada", DESK, "192.0.2.77");
    let id = desk.cookie("sessionId").unwrap();
    let desk = SessionId::parse(id.as_bytes()).unwrap().digest();
    let change = |request: &mut Request| -> Result<Response> {
        request.session()?.regenerate_id();
        Ok(Response::text(""))
    };
    assert_eq!(phone.get("/").send(change).status(), StatusCode::OK);
    let refused = late.post(&format!("/?digest={desk}")).send(end);
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(says(late.get("/"), list), "");
    assert_eq!(manager.user_sessions("ada").unwrap().len(), 2);
}

#[test]
fn nothing_of_a_browser_is_kept_unless_it_is_asked_for_and_what_was_kept_goes() {
    let site = site(&[]);
    let off = site.manager_with(&[("recordClient", "false")]);
    let client = login(&off, "ada", PHONE, "192.0.2.77");
    let id = client.cookie("sessionId").unwrap();
    let file = site.path(&SessionId::parse(id.as_bytes()).unwrap());
    let holds_device = || std::fs::read_to_string(&file).unwrap().contains("192.0.2");
    assert!(!holds_device());
    let on = Client::new(site.manager());
    on.set_cookie("sessionId", &id);
    // That it was opened is enough.
    let open = |request: &mut Request| -> Result<Response> {
        let session = request.existing_session()?;
        session.ok_or(Error::Ended).map(|_| Response::text(""))
    };
    let opened = by(on.get("/"), PHONE, "192.0.2.77").send(open);
    assert_eq!(opened.status(), StatusCode::OK);
    assert!(holds_device());
    // Both records of the file are written again.
    for _ in 0..2 {
        says(by(client.get("/"), PHONE, "192.0.2.77"), visit);
    }
    assert!(!holds_device());
}

#[test]
fn a_session_that_has_another_id_since_it_was_listed_is_ended_as_the_one_that_it_is() {
    let site = site(&[]);
    let manager = site.manager();
    let change = |request: &mut Request| -> Result<Response> {
        let session = request.session()?;
        session.regenerate_id_with_grace(Duration::from_secs(60));
        Ok(Response::text(""))
    };
    let phone = login(&manager, "ada", PHONE, "192.0.2.1");
    let own = manager.user_sessions("ada").unwrap()[0]
        .digest()
        .to_string();
    let desk = login(&manager, "ada", DESK, "192.0.2.2");
    let other = says(phone.get("/"), digests);
    for client in [&phone, &desk, &desk] {
        assert_eq!(client.get("/").send(change).status(), StatusCode::OK);
    }
    let end_by_phone = |digest: &str| phone.post(&format!("/?digest={digest}")).send(end);
    assert_eq!(end_by_phone(&other).body_text(), "true");
    assert_eq!(end_by_phone(&other).body_text(), "false");
    assert_eq!(manager.user_sessions("ada").unwrap().len(), 1);
    let ended = end_by_phone(&own);
    assert_eq!(ended.body_text(), "true");
    holds(ended.headers()["set-cookie"].to_str().unwrap(), "Max-Age=0");
    assert!(manager.user_sessions("ada").unwrap().is_empty());
}
