//! A program with error pages of its own and a logger of its own, which writes what a machine may look for.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use cgi_session::{ErrorPage, Program, Request, Response, SessionManager};
use log::kv::{self, Key, Value, VisitSource};

struct Logger;

/// Writes each key and value.
struct Pairs(String);

fn main() -> ExitCode {
    let set = log::set_logger(&Logger);
    set.expect("the first logger");
    log::set_max_level(log::LevelFilter::Info);
    Program::new().error_page(page).run(handler)
}

fn handler(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    request.session()?.insert("seen", true)?;
    match request.query("mode").as_deref() {
        Some("fail") => Err("on purpose".into()),
        Some("panic") => panic!("on purpose"),
        Some("read") => Ok(Response::text(io::read_to_string(request.body(u64::MAX))?)),
        Some("stream") => Ok(Response::stream("text/plain", |_| {
            Err(io::Error::other("on purpose"))
        })),
        Some("file") => Ok(Response::file("/on purpose", "file")),
        _ => Ok(Response::text("ok")),
    }
}

fn page(error: &ErrorPage<'_>) -> Response {
    if let Some(root) = error.param("PAGES") {
        return Response::file(root, "error.html");
    }
    if error
        .header("content-type")
        .is_some_and(|it| it == "text/stream")
    {
        return Response::stream("text/plain", |_| Ok(()));
    }
    let language = error.header("accept-language").unwrap_or_default();
    assert_ne!(language, "xx", "there is no page in this language");
    let text = match (language.to_str(), error.status().as_u16()) {
        (Some("de"), 503) => "Bitte gleich noch einmal.",
        (Some("de"), _) => "Das hat nicht geklappt.",
        (Some("the session"), _) if is_free(error) => "it is free",
        _ => error.text(),
    };
    let cookie = http::HeaderValue::from_static("sessionId=forged");
    Response::html(format!("<html>own page: {text}</html>"))
        .with_status(http::StatusCode::OK)
        .with_header(http::header::SET_COOKIE, cookie)
}

/// Whether another request could have the session now.
fn is_free(error: &ErrorPage<'_>) -> bool {
    let cookie = error.param("HTTP_COOKIE").unwrap_or_default();
    let manager = SessionManager::find().expect("the manager");
    manager.start(cookie.as_encoded_bytes()).is_ok()
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut pairs = Pairs(String::new());
        record.key_values().visit(&mut pairs).expect("pairs");
        let (target, pairs) = (record.target(), pairs.0);
        eprintln!("{target}:{pairs} text={}", record.args());
    }

    fn flush(&self) {}
}

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        write!(self.0, " {key}={value}").map_err(kv::Error::from)
    }
}
