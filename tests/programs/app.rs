//! All programs of the tests in one: the path after the program's name says which.
#![expect(
    clippy::duplicate_mod,
    reason = "every example has the frame of the site for itself"
)]

use std::env;
use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use cgi_session::{Request, Response};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};

#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/older/begin.rs"]
mod begin;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/older/cart.rs"]
mod cart;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/counter.rs"]
mod counter;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/events.rs"]
mod events;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/features.rs"]
mod features;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/older/follow.rs"]
mod follow;
mod ledger;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/older/login.rs"]
mod login;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/older/lookup.rs"]
mod lookup;
#[expect(dead_code, reason = "its main belongs to another program")]
mod misbehave;
mod race;
mod statuses;
mod upload;
#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "../../examples/older/visit.rs"]
mod visit;

fn main() -> ExitCode {
    cgi_session::run(app)
}

pub(crate) fn app(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let path = request.path_info().to_string_lossy().into_owned();
    // A path may go on: only its first part is the program.
    match path.split('/').nth(1).unwrap_or_default() {
        "begin" => Ok(begin::begin(request)?),
        "cart" => Ok(cart::cart(request)?),
        "counter" => Ok(counter::counter(request)?),
        "events" => Ok(events::events(request)?),
        "features" => Ok(features::features(request)?),
        "follow" => Ok(follow::follow(request)?),
        "ledger" => ledger::ledger(request),
        "login" => Ok(login::login(request)?),
        "lookup" => Ok(lookup::lookup(request)?),
        "misbehave" => misbehave::misbehave(request),
        "race" => race::race(request),
        "file" => Ok(Response::file(beside("")?, "app.data")),
        "statuses" => statuses::statuses(request),
        "stream" => stream(request),
        "upload" => upload::upload(request),
        "visit" => Ok(visit::visit(request)?),
        "proxy" => Ok(proxy(request)),
        _ => Ok(Response::text(format!("no program at {path}")).with_status(StatusCode::NOT_FOUND)),
    }
}

/// A response whose second part comes when the file is there that the query names, or never with `?fails`, whose
/// value is what it announces.
fn stream(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let mark = beside(&request.query("mark").unwrap_or_default())?;
    request.session()?.insert("streamed", true)?;
    let fails = request.query("fails");
    let announced = HeaderValue::try_from(fails.as_deref().unwrap_or_default())?;
    let response = Response::stream("text/plain", move |out| {
        out.write_all(b"first\n")?;
        if fails.is_some() {
            return Err(io::Error::other("as the query asks"));
        }
        while !mark.exists() {
            thread::sleep(Duration::from_millis(5));
        }
        out.write_all(b"second\n")
    });
    Ok(if announced.is_empty() {
        response
    } else {
        response.with_header(CONTENT_LENGTH, announced)
    })
}

/// A file in the directory of the program.
fn beside(name: &str) -> io::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name(".").join(name))
}

/// What the variable says that a client must not set by a header called Proxy, and how the client came.
fn proxy(request: &Request) -> Response {
    let proxy = request.param("HTTP_PROXY").unwrap_or_default();
    let (name, proxy) = (request.script_name().display(), proxy.display());
    let scheme = if request.is_https() { "https" } else { "http" };
    Response::text(format!("{name}: HTTP_PROXY is <{proxy}> by {scheme}\n"))
}
