//! Apache, started with the shipped site on a port and in a directory of its own.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::site::Site;
use crate::{copy, example, is_installed, is_root, repository, wait_until};

const MODULES: &str = "/usr/lib/apache2/modules";
const EXAMPLES: [&str; 6] = ["begin", "counter", "follow", "lookup", "visit", "misbehave"];

/// The two ways in which Apache runs CGI programs.
#[derive(Clone, Copy, Debug)]
pub enum Mpm {
    /// Threads, and a daemon that forks for them.
    EventWithCgid,
    /// Processes that fork themselves.
    PreforkWithCgi,
}

/// A running server; dropped, it is stopped.
pub struct Apache {
    server: Child,
    port: u16,
    site: Site,
}

/// Runs a test against both kinds of server, if Apache is installed.
pub fn with_both(settings: &str, test: impl Fn(&Apache)) {
    for mpm in [Mpm::EventWithCgid, Mpm::PreforkWithCgi] {
        with(mpm, settings, &test);
    }
}

/// Runs a test against one kind of server, if Apache is installed.
pub fn with(mpm: Mpm, settings: &str, test: impl Fn(&Apache)) {
    if is_installed("apache2") {
        test(&Apache::start(mpm, settings));
    }
}

impl Apache {
    fn start(mpm: Mpm, settings: &str) -> Self {
        let site = Site::with_settings(settings);
        site.make_sessions(web_user());
        install(&site);
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..5 {
            let port = free_port();
            fs::write(
                site.path().join("httpd.conf"),
                configuration(mpm, port, &site),
            )
            .unwrap();
            let mut server = spawn(&site);
            if is_ready(&mut server, port, &site) {
                return Apache { server, port, site };
            }
        }
        panic!("Apache does not start: {}", error_log(&site));
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    pub fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// Where the programs lie; nobody else runs programs from there.
    pub fn programs(&self) -> PathBuf {
        self.site.path().join("cgi-bin")
    }

    /// A directory that the server's programs find commands in, for a test to make.
    pub fn tools(&self) -> PathBuf {
        tools(&self.site)
    }

    /// What the server and its programs had to say.
    pub fn error_log(&self) -> String {
        error_log(&self.site)
    }

    /// The lines of the log that the programs wrote.
    pub fn said_by_programs(&self) -> Vec<String> {
        let is_theirs = |line: &&str| {
            EXAMPLES
                .iter()
                .any(|name| line.contains(&format!("{name}: ")))
        };
        let log = self.error_log();
        log.lines().filter(is_theirs).map(str::to_owned).collect()
    }

    /// Fails if a program had anything to say.
    #[track_caller]
    pub fn expect_silent_programs(&self) {
        let said = self.said_by_programs();
        assert!(said.is_empty(), "{said:#?}");
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Apache's log:\n{}", self.error_log());
        }
        stop(&mut self.server);
    }
}

/// The user whom a server that root started becomes.
pub fn web_user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = users.lines().find(|line| line.starts_with("www-data:"))?;
    let mut ids = user.split(':').skip(2).map(|id| id.parse().unwrap());
    let ids = (ids.next()?, ids.next()?);
    is_root().then_some(ids)
}

/// What the commands at the head of the site file install.
fn install(site: &Site) {
    let programs = site.path().join("cgi-bin");
    fs::create_dir(&programs).unwrap();
    for name in EXAMPLES {
        copy(&example(name), &programs);
    }
    // Beside the programs, where they find it without an environment.
    copy(&site.config(), &programs);
    let pages = site.path().join("pages");
    if repository("www").is_dir() {
        copy(&repository("www"), &pages);
    } else {
        fs::create_dir(&pages).unwrap();
    }
    copy(
        &repository("examples/deploy/apache-cgi.conf"),
        &site.path().join("site.conf"),
    );
}

/// What Debian's own configuration would say, as far as the site needs it.
fn configuration(mpm: Mpm, port: u16, site: &Site) -> String {
    let directory = site.path().display();
    let (modules, workers) = match mpm {
        Mpm::EventWithCgid => (
            ["mpm_event", "cgid"],
            "ScriptSock cgisock\nThreadsPerChild 16\nMaxRequestWorkers 32\n",
        ),
        Mpm::PreforkWithCgi => (
            ["mpm_prefork", "cgi"],
            "StartServers 16\nMaxSpareServers 32\nMaxRequestWorkers 32\n",
        ),
    };
    let modules: String = ["authz_core", "alias", "dir", "mime"]
        .iter()
        .chain(&modules)
        .flat_map(|module| {
            [
                "LoadModule ",
                module,
                "_module ",
                MODULES,
                "/mod_",
                module,
                ".so\n",
            ]
        })
        .collect();
    let user = if is_root() {
        "User www-data\nGroup www-data\n"
    } else {
        ""
    };
    format!(
        "{modules}{user}{workers}\
         ServerName localhost\nListen 127.0.0.1:{port}\nDefaultRuntimeDir {directory}\n\
         PidFile httpd.pid\nErrorLog error.log\nTypesConfig /dev/null\n\
         Define CGI_SESSION_PORT {port}\n\
         Define CGI_SESSION_PAGES {directory}/pages\n\
         Define CGI_SESSION_PROGRAMS {directory}/cgi-bin\n\
         Include site.conf\n"
    )
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn tools(site: &Site) -> PathBuf {
    site.path().join("tools")
}

fn spawn(site: &Site) -> Child {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools(site)].into_iter().chain(env::split_paths(&path)));
    let program = Path::new("/usr/sbin/apache2");
    let program = if program.is_file() {
        program
    } else {
        Path::new("apache2")
    };
    Command::new(program)
        .arg("-d")
        .arg(site.path())
        .args(["-f", "httpd.conf", "-D", "FOREGROUND"])
        // Apache signals its process group when it ends; that must not be ours.
        .process_group(0)
        .env("LC_ALL", "C")
        .env("PATH", path.unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for the server; `false` when it ended instead, or another one answers on its port.
fn is_ready(server: &mut Child, port: u16, site: &Site) -> bool {
    let pid = server.id().to_string();
    let mut has_ended = false;
    wait_until("Apache runs programs", || {
        has_ended = server.try_wait().unwrap().is_some();
        let noted = fs::read_to_string(site.path().join("httpd.pid")).unwrap_or_default();
        has_ended || noted.trim() == pid && runs_programs(port)
    });
    !has_ended
}

/// Whether a program is run. Apache accepts connections before its CGI daemon's socket belongs to
/// the user whom the workers become, and answers 503 until then.
fn runs_programs(port: u16) -> bool {
    let request = b"GET /cgi-bin/lookup HTTP/1.1\r\n";
    let answer = Client::new(port).try_request(request, b"");
    answer.is_ok_and(|answer| answer.status != StatusCode::SERVICE_UNAVAILABLE)
}

/// Asks the server to end, and if it does not, ends it and all that it started.
fn stop(server: &mut Child) {
    let pid = Pid::from_child(server);
    let _ = rustix::process::kill_process(pid, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(10) {
        if matches!(server.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Its own group, made when it was started.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let _ = server.wait();
}

fn error_log(site: &Site) -> String {
    fs::read_to_string(site.path().join("error.log")).unwrap_or_default()
}
