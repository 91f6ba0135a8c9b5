//! [`Site`]: peers behind nginx, all in one directory of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::measured::Outcome;
use crate::process::{self, Process};
use crate::server::{Deployment, Server};
use crate::visitor::{self, Page};
use crate::workshop::{Installed, source};

pub(crate) struct Site {
    pub(crate) servers: Vec<Server>,
    pub(crate) port: u16,
    _nginx: Process,
    // Fields are dropped in this order: nobody writes here any more.
    _place: TempDir,
}

impl Site {
    /// Starts every peer in every deployment.
    pub(crate) fn start(installed: &[&Installed], deployments: &[Deployment]) -> Outcome<Self> {
        let place = directory()?;
        let mut servers = Vec::new();
        for deployment in deployments {
            for peer in installed {
                servers.push(Server::start(peer, *deployment, place.path())?);
            }
        }
        let port = testkit::outside::free_port();
        let file = place.path().join("nginx.conf");
        fs::write(&file, configuration(&servers, port, place.path()))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file);
        let mut nginx = Process::start(&mut command, place.path(), "nginx")?;
        process::wait_for_port(port, &mut nginx)?;
        Ok(Site {
            servers,
            port,
            _nginx: nginx,
            _place: place,
        })
    }

    /// Makes a session, and returns its cookie.
    pub(crate) fn first_visit(&self, server: &Server) -> Outcome<String> {
        let page = visitor::visit(self.port, "GET", &path(server, false), None)?;
        match page {
            Page {
                cookie: Some(cookie),
                views: Some(1),
                ..
            } => Ok(cookie),
            page => Err(format!("{} answers a first visit with {page:?}", server.name).into()),
        }
    }
}

/// A new directory that programs of other users can reach.
pub(crate) fn directory() -> Outcome<TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(tempfile::Builder::new()
        .prefix("peers-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// Where a server's page is, with or without connections that nginx keeps.
pub(crate) fn path(server: &Server, kept: bool) -> String {
    format!("/{}{}", server.name, if kept { "-kept" } else { "" })
}

fn configuration(servers: &[Server], port: u16, place: &Path) -> String {
    let (mut upstreams, mut locations) = (String::new(), String::new());
    for server in servers {
        let upstream = format!(
            "upstream {} {{ server unix:{}; keepalive 16; }}\n",
            server.name,
            server.socket.display()
        );
        upstreams += &upstream;
        locations += &location(server, false);
        if server.peer.keeps_connections() {
            locations += &location(server, true);
        }
    }
    format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.log; user root;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000;\n\
         client_body_temp_path {0}/a; fastcgi_temp_path {0}/b; proxy_temp_path {0}/c;\n\
         uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;\n\
         {upstreams}server {{ listen 127.0.0.1:{port};\n{locations}}} }}\n",
        place.display()
    )
}

fn location(server: &Server, kept: bool) -> String {
    let (path, upstream) = (path(server, kept), &server.name);
    if server.peer.speaks_http() {
        let connection = if kept { "\"\"" } else { "close" };
        return format!(
            "location = {path} {{ proxy_pass http://{upstream}; proxy_http_version 1.1;\n\
             proxy_set_header Host $host; proxy_set_header Connection {connection}; }}\n"
        );
    }
    format!(
        "location = {path} {{ include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {};\n\
         fastcgi_param HTTP_PROXY \"\"; fastcgi_pass {upstream}; fastcgi_keep_conn {}; }}\n",
        source("counter.php").display(),
        if kept { "on" } else { "off" }
    )
}
