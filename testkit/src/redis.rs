//! A Redis server of a test's own: on a socket and a port in a directory that goes with it.

use crate::outside::Watched;
use crate::prelude::*;

/// Ends the server when its own input ends, which it does with the test, however that ends. The directory
/// goes too, unless a line says that it stays.
const WATCH: &str =
    "redis-server \"$@\" </dev/null >/dev/null & echo $!; read -r stays; kill -KILL $!; wait
    [ \"$stays\" ] || rm -rf -- \"$0\"";

/// The name and the password of the user whom [`RedisServer::let_in`] lets in, as a URL has them.
pub const USER: &str = "app:PASSWORD";

/// A server with the usual settings; `None` where there is none installed.
#[track_caller]
pub fn redis() -> Option<RedisServer> {
    RedisServer::start("")
}

/// A server that does not outlive its test.
pub struct RedisServer {
    running: Option<Watched>,
    directory: tempfile::TempDir,
    /// The file of settings that a sentinel keeps up to date.
    file: Option<PathBuf>,
    settings: Vec<String>,
}

impl RedisServer {
    /// A server that writes everything to disk at once; `None` where there is none installed.
    #[track_caller]
    pub fn start(settings: impl Words) -> Option<Self> {
        RedisServer::with_file(None, &settings.words())
    }

    /// A sentinel on this port, with these lines in its file.
    #[track_caller]
    pub fn sentinel(file: &str, port: u16, settings: &[&str]) -> Option<Self> {
        let port = port.to_string();
        let own = ["--sentinel", "--bind", "127.0.0.1", "--port", &port];
        RedisServer::with_file(Some(file), &[&own, settings].concat())
    }

    #[track_caller]
    fn with_file(file: Option<&str>, settings: &[&str]) -> Option<Self> {
        is_installed("redis-server").then(|| {
            let directory = tempfile::tempdir().unwrap();
            let file = file.map(|text| {
                let path = directory.path().join("settings");
                fs::write(&path, text).unwrap();
                path
            });
            let mut server = RedisServer {
                directory,
                file,
                settings: settings.iter().map(ToString::to_string).collect(),
                running: None,
            };
            server.run();
            server
        })
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the server answers to a command, if it does.
    pub fn ask(&self, words: impl Words) -> Option<String> {
        let mut command = Command::new("redis-cli");
        let mut settings = self.settings.iter();
        if settings.any(|name| name == "--requirepass") {
            command.env("REDISCLI_AUTH", settings.next().unwrap());
        }
        command.arg("-s").arg(self.socket()).arg("-e");
        command.args(words.words());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        let is_answered = output.status.success();
        is_answered.then(|| answer.trim_end().to_owned())
    }

    /// Lets in the user of [`USER`] with the rights that docs/engines.md tells, to the keys of this pattern.
    #[track_caller]
    pub fn let_in(&self, keys: &str) {
        let text = fs::read_to_string(repository("docs/engines.md")).unwrap();
        let line = text.lines().find(|line| line.starts_with("ACL SETUSER"));
        let line = line.unwrap().replace("~Session:*", keys);
        assert_eq!(self.tell(line.as_str()), "OK");
        // A server that does not know the command does not know the right.
        self.ask("ACL SETUSER app +waitaof");
    }

    /// As [`RedisServer::ask`], of a server that must answer.
    #[track_caller]
    pub fn tell(&self, words: impl Words) -> String {
        let words = words.words();
        let answer = self.ask(&words);
        answer.unwrap_or_else(|| panic!("no answer to {words:?}"))
    }

    fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }
}

impl DatabaseServer for RedisServer {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    #[track_caller]
    fn run(&mut self) {
        let socket = self.socket();
        let mut command = Command::new("sh");
        command.args(["-c", WATCH]).arg(self.directory.path());
        command.args(&self.file);
        command.args(["--save", ""]);
        command.args("--appendonly yes --appendfsync always".words());
        command.args(["--port", "0", "--unixsocket"]).arg(&socket);
        command.arg("--dir").arg(self.directory.path());
        command.args(&self.settings);
        self.running = Some(Watched::start(&mut command));
        wait_until("the Redis server answers", || {
            self.ask("PING").is_some_and(|answer| answer == "PONG")
        });
    }

    fn stop(&mut self) {
        // It answers nothing, and ends.
        let _ = self.ask("SHUTDOWN");
        self.kill();
    }

    fn kill(&mut self) {
        self.running = None;
        // Else a connection would wait for the next server that listens there.
        let _ = fs::remove_file(self.socket());
    }

    fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    fn resume(&self) {
        self.signal(Signal::CONT);
    }
}
