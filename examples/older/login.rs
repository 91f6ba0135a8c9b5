//! A login on the session's reserved names: lemon.session wished for such a module, called auth.
//!
//! `auth` is the module, `users` knows the passwords, `remember` the browsers. This file has the
//! pages, which know no more of it than whether there is a login.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use cgi_session::{Device, Error, Request, Response, Result, SessionDigest};
use html_escape::{encode_double_quoted_attribute, encode_text};
use http::{Method, StatusCode};

#[path = "login/auth.rs"]
mod auth;
#[path = "login/remember.rs"]
mod remember;
#[path = "../site/mod.rs"]
mod site;
#[path = "login/users.rs"]
mod users;

use auth::{Auth, Login};

/// How old a proof of identity may be that a change of password needs.
const RECENTLY: Duration = Duration::from_secs(10 * 60);

fn main() -> ExitCode {
    cgi_session::run(login)
}

pub(crate) fn login(request: &mut Request) -> Result<Response> {
    if request.method() == Method::POST {
        return act(request);
    }
    let auth = Auth::begin(request)?;
    let response = match auth.login() {
        Some(login) => inside(request, &auth, login)?,
        None => outside(request, "", "")?,
    };
    Ok(auth.finish(response))
}

fn act(request: &mut Request) -> Result<Response> {
    request.check_csrf_token()?;
    let wish = request.form("do")?;
    let name = request.form("name")?.unwrap_or_default();
    let user = if wish.is_none() {
        let password = request.form("password")?.unwrap_or_default();
        users::check(&name, &password)
    } else {
        None
    };
    if let Err(Error::Replaced) = request.session() {
        // A double click, or the answer to the first was lost: the session that the form is of has
        // another id by now.
        if user.is_none() {
            return Ok(Response::redirect("login"));
        }
        request.fresh_session()?;
    }
    let mut auth = Auth::begin(request)?;
    let response = serve(request, &mut auth, wish.as_deref(), &name, user)?;
    Ok(auth.finish(response))
}

fn serve(
    request: &mut Request,
    auth: &mut Auth,
    wish: Option<&str>,
    name: &str,
    user: Option<&'static str>,
) -> Result<Response> {
    let notice = match wish {
        Some("here") => {
            auth.log_out_here(request)?;
            "You are logged out here. What other pages know about you is still there.".to_owned()
        }
        Some("everywhere") => {
            auth.log_out_everywhere(request)?;
            return Ok(site::page("Logged out everywhere", EVERYWHERE));
        }
        Some("others") => match auth.end_others(request)? {
            0 => "You have no other session.".to_owned(),
            1 => "Your other session is ended.".to_owned(),
            ended => format!("Your {ended} other sessions are ended."),
        },
        Some("end") => {
            let digest = request.form("session")?.unwrap_or_default();
            let digest = SessionDigest::parse(digest.as_bytes());
            let ended = digest.map(|digest| request.end_own_session(&digest));
            match ended.transpose()? {
                Some(true) => "That session is ended. A browser that is remembered comes in again: end all your \
                    other sessions, and it is not.".to_owned(),
                _ => "That session had ended already.".to_owned(),
            }
        }
        Some("password") => {
            if !has_proved_identity(request, auth)? {
                return ask_again(request);
            }
            auth.end_others(request)?;
            "In earnest your password would be another now. Your other sessions are ended."
                .to_owned()
        }
        _ => {
            let is_to_remember = request.form("remember")?.is_some();
            let Some(user) = user else {
                let page = outside(request, "The name or the password is wrong.", name)?;
                return Ok(page.with_status(StatusCode::FORBIDDEN));
            };
            auth.log_in(request, user, is_to_remember)?;
            if request.form("keep")?.is_some() {
                request.session()?.set_cookie_life(Some(remember::LIFE));
            }
            "You are logged in, and your session has a new id.".to_owned()
        }
    };
    request.session()?.flash("login", notice)?;
    Ok(Response::redirect("login"))
}

/// Whether the user has given the password a short time ago, or gives it now: a browser that was left open, or
/// that is only remembered, is not enough.
fn has_proved_identity(request: &mut Request, auth: &Auth) -> Result<bool> {
    if request.session()?.is_confirmed_within(RECENTLY) {
        return Ok(true);
    }
    let password = request.form("password")?.unwrap_or_default();
    let user = auth.login().map_or("", |login| &login.user);
    let is_right = users::check(user, &password).is_some();
    if is_right {
        request.session()?.confirm_identity();
    }
    Ok(is_right)
}

fn ask_again(request: &mut Request) -> Result<Response> {
    let token = request.session()?.csrf_field()?;
    let body = format!(
        r#"<p>You gave your password more than ten minutes ago, or this browser was only remembered.</p>
<form method="post" action="login">{token}
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<p class="actions"><button name="do" value="password">Go on</button></p></form>"#
    );
    Ok(site::page("Is it you?", &body).with_status(StatusCode::FORBIDDEN))
}

const EVERYWHERE: &str = r#"<p class="answer">All your sessions are ended, and every browser has forgotten you.</p>
<p>This session is gone with them, and with it what other pages had put in.</p>
<p class="actions"><a class="button" href="login">Log in again</a></p>"#;

fn outside(request: &mut Request, complaint: &str, name: &str) -> Result<Response> {
    let session = request.session()?;
    let notice = session.flashed::<String>("login")?;
    let notice = notice.unwrap_or_else(|| complaint.to_owned());
    let (notice, token) = (says(&notice), session.csrf_field()?);
    let body = format!(
        r#"{notice}<p>Two people have an account here: <strong>ada</strong>, whose password is
<strong>lovelace</strong>, and <strong>charles</strong>, with <strong>babbage</strong>.</p>
<form method="post" action="login">{token}
<label>Name <input name="name" value="{name}" autocomplete="username" autocapitalize="none" required></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<label class="choice"><input name="remember" type="checkbox"> Remember me on this browser</label>
<label class="choice"><input name="keep" type="checkbox"> Keep me signed in</label>
<p class="actions"><button>Log in</button></p></form>
<p class="note">Kept, the session itself lasts for 30 days without a visit, with all that is in it. Remembered, it may
end: a token, new at each use, begins the next one. Take that where sessions are short, and where a copy of the cookie must
be noticed.</p>
<p class="note">The session gets a new id when you log in, and the old one leads to nothing: if
it was planted in your browser, it is of no use. What other pages put into your session stays.</p>"#,
        name = encode_double_quoted_attribute(name),
    );
    Ok(site::page("Log in", &body))
}

fn inside(request: &mut Request, auth: &Auth, login: &Login) -> Result<Response> {
    let devices = devices(request)?;
    let session = request.session()?;
    let notice = session.flashed::<String>("login")?.unwrap_or_default();
    let others: Vec<_> = session.keys().map(str::to_owned).collect();
    let others = if others.is_empty() {
        "nothing so far".to_owned()
    } else {
        others.join(", ")
    };
    // Only the module reaches its name. The page shows what other modules are told.
    let refusal = match session.application(auth::NAME) {
        Ok(_) => String::new(),
        Err(refusal) => refusal.to_string(),
    };
    let remembered = if auth.is_remembered() {
        "yes, for 30 days without a visit"
    } else {
        "no, only as long as the session"
    };
    let token = session.csrf_field()?;
    let body = format!(
        r#"{notice}<p class="answer">{user} is logged in.</p>
<dl><dt>Since</dt><dd>{start}</dd>
<dt>Last request</dt><dd>{last}</dd>
<dt>Remembered</dt><dd>{remembered}</dd>
<dt>Put in by other pages</dt><dd>{others}</dd></dl>
{devices}<form class="actions" method="post" action="login">{token}
<button name="do" value="here">Log out here</button>
<button class="second" name="do" value="password">Change my password</button>
<button class="second" name="do" value="others">End my other sessions</button>
<button class="second" name="do" value="everywhere">Log out everywhere</button></form>
<p class="note">User and times lie under the reserved name <code>auth</code>. A page that asks for it by
<code>session.application("auth")</code>, as this one just did, is told: {refusal}. Log in with a second
browser to see the other two buttons work.</p>"#,
        notice = says(&notice),
        user = encode_text(&login.user),
        start = ago(login.start),
        last = ago(login.last_access),
        others = encode_text(&others),
        refusal = encode_text(&refusal),
    );
    Ok(site::page("Logged in", &body))
}

/// The user's sessions, each but this one with a button that ends it. What they say of the browsers is recorded
/// only with `recordClient = true`.
fn devices(request: &mut Request) -> Result<String> {
    let sessions = request.own_sessions()?;
    let token = request.session()?.csrf_field()?;
    let mut rows = Vec::new();
    for session in sessions {
        let device = session.last_device();
        let agent = device.and_then(Device::agent).unwrap_or("a browser");
        let address = device.and_then(Device::address).unwrap_or("somewhere");
        let used = session.last_access().duration_since(SystemTime::UNIX_EPOCH);
        let used = ago(used.map_or(0, |used| used.as_secs()));
        let (agent, address) = (encode_text(agent), encode_text(address));
        let end = if session.is_current() {
            "this one".to_owned()
        } else {
            format!(
                r#"<form method="post" action="login">{token}
<input type="hidden" name="session" value="{}">
<button class="second" name="do" value="end">End it</button></form>"#,
                session.digest()
            )
        };
        rows.push(format!(
            "<tr><td>{agent}</td><td>{address}</td><td>{used}</td><td>{end}</td></tr>\n"
        ));
    }
    let rows = rows.concat();
    Ok(format!(
        "<h2>Your devices</h2>\n<table><tr><th>Browser</th><th>From</th><th>Last used</th><th></th></tr>\n{rows}</table>\n"
    ))
}

fn says(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!(r#"<p class="says" role="status">{}</p>"#, encode_text(text))
}

fn ago(moment: u64) -> String {
    match auth::now().saturating_sub(moment) {
        0 => "just now".to_owned(),
        1 => "a second ago".to_owned(),
        seconds @ 2..120 => format!("{seconds} seconds ago"),
        seconds => format!("{} minutes ago", seconds / 60),
    }
}
