//! Caddy, with the shipped site.

use crate::prelude::*;

use crate::server::{Server, shipped};

/// Starts Caddy, if it is installed.
pub fn start(site: &Site) -> Option<Server> {
    if !is_installed("caddy") {
        return None;
    }
    Some(Server::start("caddy", site, 1, |ports, directory| {
        let place = site.path().to_str().unwrap();
        let replaced = [
            (":8081 {", &*format!(":{} {{\n\tbind 127.0.0.1", ports[0])),
            (
                "/run/cgi-session/app.sock",
                &format!("{place}/run/app.sock"),
            ),
            ("/var/www/cgi-session", &format!("{place}/pages")),
        ];
        // Its port for the administrator is a fixed one.
        let text = "{\n\tadmin off\n}\n".to_owned() + &shipped("Caddyfile", &replaced);
        fs::write(directory.join("Caddyfile"), text).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
        command.args(["--pidfile", "pid"]).current_dir(directory);
        for home in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env(home, directory);
        }
        command
    }))
}
