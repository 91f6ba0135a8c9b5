//! A login with a password. `older/login.rs` has more: remembered browsers, a list of the user's devices.

use std::process::ExitCode;

use argon2::{Argon2, PasswordVerifier as _};
use cgi_session::http::{Method, StatusCode};
use cgi_session::{Error, Request, Response, Result};
use html_escape::encode_text;

/// The only user, and the hash of the password "lovelace". Your program has a table of them.
const USER: &str = "ada";
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$JUH8S/TEzey+UNvy2F3w2w$SUEaBLMydXOtrp5GxgiZHyQJJH4HqbA3v5gMXuFkrcY";

fn main() -> ExitCode {
    cgi_session::run(sign_in)
}

fn sign_in(request: &mut Request) -> Result<Response> {
    if request.method() != Method::POST {
        return page(request, "");
    }
    request.check_csrf_token()?;
    match request.form("do")?.as_deref() {
        Some("log out") => request.destroy_session()?,
        Some("log out everywhere") => request.destroy_all_sessions()?,
        _ => return log_in(request),
    }
    Ok(Response::redirect("?"))
}

fn log_in(request: &mut Request) -> Result<Response> {
    let name = request.form("name")?.unwrap_or_default();
    let password = request.form("password")?.unwrap_or_default();
    if !is_right(&name, &password) {
        let page = page(request, "The name or the password is wrong.")?;
        return Ok(page.with_status(StatusCode::FORBIDDEN));
    }
    if matches!(request.session(), Err(Error::Replaced)) {
        request.fresh_session()?; // after a double click on the button
    }
    let session = request.session()?;
    session.regenerate_id(); // an id that was planted in the browser leads to nothing now
    session.set_user(Some(&name))?;
    Ok(Response::redirect("?"))
}

/// The hash takes as long for a name that does not exist: the time does not tell which names do.
fn is_right(name: &str, password: &str) -> bool {
    let verified = Argon2::default().verify_password(password.as_bytes(), HASH);
    verified.is_ok() && name == USER
}

fn page(request: &mut Request, notice: &str) -> Result<Response> {
    let session = request.session()?;
    let token = session.csrf_field()?;
    let form = match session.user() {
        Some(user) => format!(
            r#"<p>{} is logged in.</p>
<button name="do" value="log out">Log out</button>
<button name="do" value="log out everywhere">Log out everywhere</button>"#,
            encode_text(user)
        ),
        None => r#"<label>Name <input name="name" autocomplete="username"></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<button>Log in</button>"#
            .to_owned(),
    };
    Ok(Response::html(format!(
        r#"<!doctype html><title>Login</title>
<p role="alert">{notice}</p>
<form method="post">{token}
{form}
</form>"#
    )))
}
