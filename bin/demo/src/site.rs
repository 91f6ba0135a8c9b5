//! [`DemoSite`]: which page answers which path.

use std::path::Path;

use cgi_session_tools::serve::{Connection, Failure, Gateway, Reply, Site, variables};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;

use crate::programs::{Program, Programs};
use crate::responders::{self, Responders};
use crate::storage::DemoStorage;
use crate::{inspect, pages};

const CGI_BIN: &str = "/cgi-bin/";

/// Everything that the server serves.
pub(crate) struct DemoSite {
    storage: DemoStorage,
    programs: Programs,
    gateway: Gateway,
    /// The examples as FastCGI responders, if that is asked for.
    responders: Option<Responders>,
}

impl DemoSite {
    pub(crate) fn new(
        storage: DemoStorage,
        programs: Option<&Path>,
        fastcgi: bool,
    ) -> Result<Self, String> {
        Ok(DemoSite {
            responders: fastcgi.then(Responders::new).transpose()?,
            storage,
            programs: Programs::new(programs)?,
            gateway: Gateway::default(),
        })
    }

    async fn run(
        &self,
        (name, path_info): (&str, &str),
        parts: &Parts,
        body: Incoming,
        connection: Connection,
    ) -> Result<Reply, Failure> {
        let Program {
            mut command,
            is_example,
        } = self.programs.find(name)?;
        let script = format!("{CGI_BIN}{name}");
        let variables = variables::of(parts, connection, &script, path_info)?;
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
        answer.map_err(|failure| failure.of_program(&script))
    }
}

impl Site for DemoSite {
    fn greeting(&self) -> String {
        format!(
            "The demo site of cgi-session, for trying out. In production, use Apache, nginx or lighttpd.\n\
             The sessions live in {}\n",
            self.storage.directory().display()
        )
    }

    async fn answer(
        &self,
        parts: Parts,
        body: Incoming,
        connection: Connection,
    ) -> Result<Reply, Failure> {
        let path = parts.uri.path();
        if let Some(path) = path.strip_prefix(CGI_BIN) {
            let program = path.split_at(path.find('/').unwrap_or(path.len()));
            return self.run(program, &parts, body, connection).await;
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let reason = "This page can only be read.";
            return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
        }
        if matches!(path, "/inspect" | "/inspect/file") {
            let file = self.storage.file_of(&variables::cookies(&parts.headers));
            let limits = self.storage.limits();
            return Ok(if path == "/inspect" {
                inspect::page(file, limits).await
            } else {
                inspect::part(file, limits).await
            });
        }
        pages::find(path).ok_or_else(pages::not_found)
    }

    fn page(&self, failure: &Failure) -> Reply {
        let (title, text) = failure.page();
        pages::framed(failure.status, title, &text)
    }
}
