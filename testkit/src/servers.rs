//! Every server that is installed, at once, on one directory of sessions.

use std::fmt;

use crate::prelude::*;
use rustix::process::pidfd_send_signal;

use crate::apache::{self, web_user};
use crate::client::Client;
use crate::responder::{Responder, Socket, processes_of};
use crate::server::{Server, log};
use crate::{caddy, copy, lighttpd, nginx};

/// fcgiwrap runs one program for each of its processes.
const WRAPPERS: usize = 4;

/// A way from a client to the program.
#[derive(Clone, Copy)]
pub struct Way {
    name: &'static str,
    pub port: u16,
    prefix: &'static str,
}

/// Running servers; dropped, they are stopped.
pub struct Servers {
    pub nginx: Option<Server>,
    pub apache: Option<Server>,
    prefork: Option<Server>,
    pub lighttpd: Option<Server>,
    caddy: Option<Server>,
    wrappers: Vec<Responder>,
    /// The holder of the lock may put another process in the place of this one.
    pub app: std::sync::Mutex<Option<Responder>>,
    pub socket: Socket,
    pub site: Site,
}

/// Runs a test on each way through every server.
pub fn by_every_way(test: impl Fn(&Servers, Way)) {
    let servers = Servers::start("");
    for way in servers.ways() {
        eprintln!("{way:?}");
        test(&servers, way);
    }
}

impl Servers {
    /// Starts what is installed, with further settings for the sessions.
    pub fn start(settings: &str) -> Self {
        Servers::start_with(settings, "", "", "")
    }

    /// The same with settings of nginx's, Apache's and lighttpd's own.
    pub fn start_with(settings: &str, of_nginx: &str, of_apache: &str, of_lighttpd: &str) -> Self {
        let mut servers = Servers::start_two(settings, of_nginx, of_apache);
        let site = &servers.site;
        if servers.nginx.is_some() && is_installed("fcgiwrap") {
            let socket = Socket::bind(&site.path().join("run/fcgiwrap.sock"));
            let start = || socket.start(Path::new("/usr/sbin/fcgiwrap"));
            servers.wrappers = std::iter::repeat_with(start).take(WRAPPERS).collect();
        }
        servers.prefork = apache::start_prefork(site);
        servers.lighttpd = lighttpd::start(site, of_lighttpd);
        servers.caddy = caddy::start(site);
        servers
    }

    /// nginx and Apache alone.
    pub fn start_two(settings: &str, of_nginx: &str, of_apache: &str) -> Self {
        let site = Site::with_settings(settings);
        site.make_sessions(web_user());
        install(&site);
        let socket = Socket::bind(&site.path().join("run/app.sock"));
        let app = socket.start(&program(&site));
        Servers {
            nginx: nginx::start(&site, of_nginx),
            apache: apache::start(&site, of_apache),
            prefork: None,
            lighttpd: None,
            caddy: None,
            wrappers: Vec::new(),
            app: Some(app).into(),
            socket,
            site,
        }
    }

    /// All ways through the servers that run.
    pub fn ways(&self) -> Vec<Way> {
        let mut ways = Vec::new();
        let mut add = |server: &Option<Server>, port: usize, prefix, name| {
            let port = server.as_ref().map(|server| server.ports[port]);
            ways.extend(port.map(|port| Way { name, port, prefix }));
        };
        add(&self.nginx, 0, "/app", "nginx, new connections");
        add(&self.nginx, 0, "/kept", "nginx, kept connections");
        if !self.wrappers.is_empty() {
            add(&self.nginx, 1, "/cgi-bin/app", "nginx, fcgiwrap");
        }
        add(&self.apache, 0, "/app", "Apache, mod_proxy_fcgi");
        add(&self.apache, 0, "/fcgid/app", "Apache, mod_fcgid");
        add(&self.apache, 1, "/cgi-bin/app", "Apache, mod_cgid");
        add(&self.prefork, 0, "/cgi-bin/app", "Apache, mod_cgi");
        add(&self.lighttpd, 0, "/app", "lighttpd, mod_fastcgi");
        let started = "lighttpd, mod_fastcgi with bin-path";
        add(&self.lighttpd, 0, "/started", started);
        add(&self.lighttpd, 0, "/cgi-bin/app", "lighttpd, mod_cgi");
        add(&self.caddy, 0, "/app", "Caddy");
        ways
    }

    /// The way of this name, if its server is installed.
    pub fn way(&self, name: &str) -> Option<Way> {
        self.ways().into_iter().find(|way| way.name == name)
    }

    fn all(&self) -> impl Iterator<Item = &Server> {
        let Servers {
            nginx,
            apache,
            prefork,
            lighttpd,
            caddy,
            ..
        } = self;
        [nginx, apache, prefork, lighttpd, caddy]
            .into_iter()
            .flatten()
    }

    /// The program that every server runs.
    pub fn program(&self) -> PathBuf {
        program(&self.site)
    }

    /// Ends the program that runs by itself, and starts it on the same socket, where requests wait meanwhile.
    pub fn restart_app(&self, signal: Signal) {
        let mut app = self.app.lock().unwrap();
        let old = app.take().unwrap();
        old.signal(signal);
        let status = old.end();
        assert_eq!(status.success(), signal != Signal::KILL, "{status}");
        *app = Some(self.socket.start(&self.program()));
    }

    /// Kills one of the processes of the program that servers have started, and will start again.
    pub fn kill_one(&self) {
        let except = self.app.lock().unwrap().as_ref().map(Responder::pid);
        // They live for a millisecond each: some tries find none.
        let mut tries = (0..50).map(|_| processes_of(&self.program(), except));
        if let Some(victim) = tries.find_map(|running| running.into_iter().next()) {
            // It may have ended by itself.
            let _ = pidfd_send_signal(victim, Signal::KILL);
        }
    }

    /// What the servers and their programs had to say.
    pub fn said(&self) -> String {
        let said = self.all().map(Server::said);
        said.chain([self.socket.said()]).collect()
    }
}

impl Way {
    /// A visitor who comes this way.
    pub fn client(self) -> Client {
        Client::new(self.port)
    }

    /// One who has a session, in which nothing was counted yet.
    #[track_caller]
    pub fn visitor(self) -> Client {
        let mut visitor = self.client();
        let created = visitor.get(&self.path("/lookup?create=1"));
        created.expect(200, "my_data");
        visitor
    }

    /// The path of a program's page.
    pub fn path(self, page: &str) -> String {
        format!("{}{page}", self.prefix)
    }

    /// The program's name as the server should tell it.
    pub fn prefix(self) -> &'static str {
        self.prefix
    }

    /// The server that it leads through.
    pub fn server(self, servers: &Servers) -> &Server {
        let found = servers.all().find(|it| it.ports.contains(&self.port));
        found.expect("a way through a server that runs")
    }

    /// Whether the server makes one value of two Cookie headers: a comma may stand in any, so that the
    /// second is a part of the first. No browser sends two, and of HTTP/2 all join the parts with a semicolon.
    pub fn joins_cookies_by_a_comma(self) -> bool {
        self.is_server("Apache") || self.is_server("Caddy")
    }

    pub fn is_server(self, name: &str) -> bool {
        self.name.starts_with(name)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

fn program(site: &Site) -> PathBuf {
    site.path().join("cgi-bin/app")
}

fn install(site: &Site) {
    let make = |name| {
        let directory = site.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let (programs, run) = (make("cgi-bin"), make("run"));
    copy(&example("app"), &programs);
    // Beside the programs, where they find it without an environment.
    copy(&site.config(), &programs);
    give(&run, web_user());
    // A log that every program may write to, whoever made it.
    drop(log(&run.join("app.log")));
    let pages = site.path().join("pages");
    if repository("www").is_dir() {
        copy(&repository("www"), &pages);
    } else {
        fs::create_dir(&pages).unwrap();
    }
}
