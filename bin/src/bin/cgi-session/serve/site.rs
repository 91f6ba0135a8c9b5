//! [`Site`]: which page answers which path.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use cgi_session_tools::report;
use http::header::{ALLOW, CONTENT_LENGTH, COOKIE, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use percent_encoding::percent_decode_str;

use super::gateway::{Failure, Gateway};
use super::programs::{Program, Programs, Refusal};
use super::responders::Responders;
use super::storage::Storage;
use super::{inspect, pages, responders, variables};

/// An answer whose body may still be on its way.
pub(super) type Reply = Response<BoxBody<Bytes, io::Error>>;

const CGI_BIN: &str = "/cgi-bin/";

/// The two ends of a connection.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// Everything that the server serves.
pub(super) struct Site {
    storage: Storage,
    programs: Programs,
    gateway: Gateway,
    /// The examples as FastCGI responders, if that is asked for.
    responders: Option<Responders>,
}

impl Site {
    pub(super) fn new(
        storage: Storage,
        programs: Option<&Path>,
        fastcgi: bool,
    ) -> Result<Self, String> {
        Ok(Site {
            responders: fastcgi.then(Responders::new).transpose()?,
            storage,
            programs: Programs::new(programs)?,
            gateway: Gateway::new(),
        })
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, connection: Connection) -> Reply {
        let (parts, body) = request.into_parts();
        if !is_ours(&parts, connection.local.ip()) {
            let reason = "This server answers under its address alone, or as localhost.";
            return refuse(StatusCode::MISDIRECTED_REQUEST, reason);
        }
        let path = parts.uri.path();
        if let Some(path) = path.strip_prefix(CGI_BIN) {
            let (name, path_info) = path.split_at(path.find('/').unwrap_or(path.len()));
            return self.run(name, path_info, &parts, body, connection).await;
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let mut reply = refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "This page can only be read.",
            );
            reply
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return reply;
        }
        match path {
            "/inspect" | "/inspect/file" => {
                let file = self.storage.file_of(&cookies(&parts.headers));
                let limits = self.storage.limits();
                if path == "/inspect" {
                    inspect::page(file, limits).await
                } else {
                    inspect::part(file, limits).await
                }
            }
            _ => pages::find(path).unwrap_or_else(not_found),
        }
    }

    async fn run(
        &self,
        name: &str,
        path_info: &str,
        parts: &Parts,
        body: Incoming,
        connection: Connection,
    ) -> Reply {
        let Program {
            mut command,
            is_example,
        } = match self.programs.find(name) {
            Ok(program) => program,
            Err(Refusal::Unknown) => return not_found(),
            Err(Refusal::NotExecutable) => {
                let reason = format!("{name} is there, but it is not executable: chmod +x {name}");
                return refuse(StatusCode::FORBIDDEN, &reason);
            }
            Err(Refusal::NotBuilt) => {
                let reason = format!(
                    "{name} is a program of its own, beside this one. Build it: cargo build --example {name}"
                );
                return refuse(StatusCode::NOT_FOUND, &reason);
            }
        };
        if parts.headers.contains_key(TRANSFER_ENCODING)
            && !parts.headers.contains_key(CONTENT_LENGTH)
        {
            // RFC 3875 has no word for a body whose length nobody knows.
            let reason = "A CGI program must be told how long the body is.";
            return refuse(StatusCode::LENGTH_REQUIRED, reason);
        }
        let path_info: Cow<'_, [u8]> = percent_decode_str(path_info).into();
        if path_info.contains(&0) {
            return refuse(StatusCode::BAD_REQUEST, "A path cannot hold a NUL byte.");
        }
        let variables = variables::of(parts, connection, name, &path_info);
        command.envs(self.storage.variables());
        let answer = match &self.responders {
            Some(responders) if is_example => {
                let request = responders::Request {
                    name,
                    variables: &variables,
                    head_only: parts.method == Method::HEAD,
                };
                responders.ask(command, request, body).await
            }
            _ => {
                command.envs(variables);
                self.gateway.run(command, &parts.method, body).await
            }
        };
        match answer {
            Ok(reply) => reply,
            Err(Failure { status, reason }) => {
                report::error(&format!("/cgi-bin/{name}: {reason}"));
                refuse(
                    status,
                    &format!("The program {name} gave no answer: {reason}."),
                )
            }
        }
    }
}

/// Whether a request is meant for this server: under a name of their own, other sites could have a visitor's
/// browser read its pages and run its programs (DNS rebinding).
fn is_ours(parts: &Parts, local: IpAddr) -> bool {
    let fields = parts.headers.get_all(HOST).into_iter();
    let named = fields.map(|text| text.to_str().ok()?.parse::<Authority>().ok());
    let mut named = named
        .chain(parts.uri.authority().cloned().map(Some))
        .peekable();
    if named.peek().is_none() {
        // A browser always says whom it asks.
        return parts.version < Version::HTTP_11;
    }
    named.all(|authority| {
        authority.is_some_and(|authority| {
            let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
            let address = host.trim_start_matches('[').trim_end_matches(']').parse();
            let is_own = |ip: IpAddr| ip.to_canonical().is_loopback() || ip == local.to_canonical();
            host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(is_own)
        })
    })
}

/// A reply whose body is at hand.
pub(super) fn whole(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = status;
    reply
}

fn refuse(status: StatusCode, reason: &str) -> Reply {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = format!("<p>{}</p>", html_escape::encode_text(reason));
    pages::framed(status, title, &body)
}

fn not_found() -> Reply {
    refuse(
        StatusCode::NOT_FOUND,
        "There is no page here. The link at the top leads home.",
    )
}

/// All Cookie headers as one.
fn cookies(headers: &HeaderMap) -> Vec<u8> {
    let values: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    values.join(&b"; "[..])
}
