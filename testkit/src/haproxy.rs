//! `HAProxy` before servers of a test's own, passing on what programs and servers say to each other.

use crate::prelude::*;

use crate::outside::Watched;

/// Ends the proxy when its own input ends, which it does with the test, however that ends.
const WATCH: &str =
    "haproxy \"$@\" </dev/null >/dev/null 2>&1 & echo $!; read -r end; kill -KILL $!; wait";

/// A proxy that does not outlive its test.
pub struct HaProxy {
    port: u16,
    directory: tempfile::TempDir,
    _running: Watched,
}

impl HaProxy {
    /// A proxy that ends connections which are silent for this time, and passes new ones on to the first server if that
    /// is up, or else to the next; `None` where there is none installed.
    #[track_caller]
    pub fn start(servers: &[u16], silence: &str) -> Option<Self> {
        if !is_installed("haproxy") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let (port, path) = (free_port(), directory.path().join("settings"));
        let socket = directory.path().join("socket");
        let lines = servers.iter().enumerate().map(|(number, port)| {
            let backup = if number == 0 { "" } else { " backup" };
            format!(" server s{number} 127.0.0.1:{port}{backup}\n")
        });
        let settings = format!(
            "global\n stats socket {} level admin\n\
             defaults\n mode tcp\n timeout connect 20s\n timeout check 20s\n \
             timeout client {silence}\n timeout server {silence}\n \
             default-server check inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions\n\
             listen all\n bind 127.0.0.1:{port}\n{}",
            socket.display(),
            lines.collect::<String>()
        );
        fs::write(&path, settings).unwrap();
        let mut command = Command::new("sh");
        command.env("PATH", path_with_sbin());
        command.args(["-c", WATCH, "haproxy", "-db", "-f"]);
        command.arg(path);
        let proxy = HaProxy {
            port,
            _running: Watched::start(&mut command),
            directory,
        };
        wait_until("HAProxy accepts connections", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(proxy)
    }

    /// Where the programs connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes new connections on to the others, and leaves those that there are.
    #[track_caller]
    pub fn retire(&self, server: usize) {
        let mut socket = UnixStream::connect(self.directory.path().join("socket")).unwrap();
        writeln!(socket, "set server all/s{server} state drain").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.trim(), "");
    }
}

/// Debian has it where only root looks.
fn path_with_sbin() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}
