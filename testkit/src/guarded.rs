//! Web servers with the shipped settings that ask `cgi-session guard`, and what stands behind them.

use crate::prelude::*;

use crate::apache::{self, web_user};
use crate::responder::as_web_user;
use crate::server::{Server, has_file, log, shipped, stop};
use crate::{lighttpd, nginx};

/// A running `cgi-session guard`; dropped, it is stopped.
pub struct Guard(Child);

impl Guard {
    /// Starts it with this socket as descriptor 0.
    fn start(site: &Site, socket: OwnedFd, name: &str, arguments: &[&str]) -> Self {
        let log = log(&site.path().join(name));
        let mut command = as_web_user(&site.path().join("cgi-session"));
        command.arg("guard").args(arguments).env_clear();
        command.env("CGI_SESSION_CONFIG", site.config());
        let command = command.stdin(socket).stdout(log.try_clone().unwrap());
        Guard(command.stderr(log).spawn().unwrap())
    }

    /// A guard on a Unix socket.
    pub fn on_unix_socket(site: &Site) -> Self {
        let path = site.path().join("guard.sock");
        let socket = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        give(&path, web_user());
        Guard::start(site, socket.into(), "guard.log", &[])
    }

    /// A guard on a port, and the port.
    pub fn on_port(site: &Site, arguments: &[&str]) -> (Self, u16) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let guard = Guard::start(site, socket.into(), "guard-tcp.log", arguments);
        (guard, port)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

/// Starts an application that knows nothing of sessions, and returns its port. It answers with the header fields
/// that could name a user, until the test program ends.
pub fn start_wiki() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = |stream: TcpStream| -> std::io::Result<()> {
        let mut users = String::new();
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            if line.to_ascii_lowercase().contains("remote") {
                users.push_str(&line);
                users.push('\n');
            }
        }
        let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n";
        let length = users.len();
        write!(&stream, "{head}Content-Length: {length}\r\n\r\n{users}")
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A server that has gone away needs no answer.
            let _ = answer(stream);
        }
    });
    port
}

/// Starts nginx in front of the pages and of the wiki, if it is installed.
pub fn start_nginx(site: &Site, wiki: u16) -> Option<Server> {
    if !is_installed("nginx") {
        return None;
    }
    let place = site.path().display().to_string();
    Some(Server::start("nginx", site, 1, |ports, directory| {
        let replaced = [
            ("listen 8082;", &*format!("listen 127.0.0.1:{};", ports[0])),
            ("/run/cgi-session-guard", &place),
            ("/var/www/cgi-session", &format!("{place}/pages")),
            ("127.0.0.1:3000", &format!("127.0.0.1:{wiki}")),
        ];
        let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
        write("guard.site", shipped("nginx-guard.conf", &replaced));
        write("nginx.conf", nginx::configuration(""));
        for file in ["fastcgi_params", "mime.types"] {
            crate::copy(&Path::new("/etc/nginx").join(file), directory);
        }
        let mut command = Command::new("nginx");
        command.arg("-p").arg(directory).args(["-c", "nginx.conf"]);
        command.args(["-e", "error.log"]);
        command
    }))
}

/// Starts Apache in front of the pages and of the wiki, if it is installed; its guard is at this port.
pub fn start_apache(site: &Site, wiki: u16, guard: u16) -> Option<Server> {
    let module = format!("{}/mod_authnz_fcgi.so", apache::MODULES);
    if !is_installed("apache2") || !has_file(&module) {
        return None;
    }
    Some(Server::start("apache", site, 1, |ports, directory| {
        let file = "apache-guard.conf";
        fs::write(directory.join(file), shipped(file, &[])).unwrap();
        let port = ports[0];
        let own = format!(
            "MergeSlashes Off\nListen 127.0.0.1:{port}\nDefine CGI_SESSION_GUARDED_PORT {port}\n\
             Define CGI_SESSION_GUARD 127.0.0.1:{guard}\nDefine CGI_SESSION_WIKI 127.0.0.1:{wiki}\nInclude {file}\n"
        );
        let modules = [
            "mpm_event",
            "authn_core",
            "authz_user",
            "auth_basic",
            "authnz_fcgi",
            "headers",
            "macro",
            "proxy",
            "proxy_fcgi",
            "proxy_http",
        ];
        apache::command(site, directory, &modules, &own)
    }))
}

/// Starts lighttpd in front of the pages, if it is installed.
pub fn start_lighttpd(site: &Site) -> Option<Server> {
    if !is_installed("lighttpd") {
        return None;
    }
    let place = site.path().display().to_string();
    Some(Server::start("lighttpd", site, 1, |ports, directory| {
        let replaced = [
            ("/run/cgi-session-guard", &*place),
            ("/var/www/cgi-session", &format!("{place}/pages")),
        ];
        let text = lighttpd::configuration(ports[0], site, "");
        let file = directory.join("lighttpd.conf");
        fs::write(&file, text + &shipped("lighttpd-guard.conf", &replaced)).unwrap();
        let mut command = Command::new("/usr/sbin/lighttpd");
        command.arg("-D").arg("-f").arg(file);
        command
    }))
}
