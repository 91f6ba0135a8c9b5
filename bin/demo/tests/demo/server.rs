//! [`Server`]: a demo site of a test's own, and [`Visitor`], who keeps cookies.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

pub(crate) use testkit::skip::{not_installed, skip};

const DEADLINE: Duration = Duration::from_secs(120);

/// The binary under test, without any configuration of the machine that runs the test.
pub(crate) fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new(path.as_ref());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CGI_SESSION_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_cgi-session-demo")
}

/// A running server, ended with the test.
pub(crate) struct Server {
    child: Child,
    /// `127.0.0.1` and the port.
    pub(crate) address: String,
    /// What it said when it started.
    pub(crate) greeting: String,
    directory: TempDir,
}

impl Server {
    /// A server with an empty store of its own.
    pub(crate) fn start() -> Self {
        Server::with(&[])
    }

    /// The same, and a visitor of it.
    pub(crate) fn visited() -> (Self, Visitor) {
        let server = Server::start();
        let visitor = server.visitor();
        (server, visitor)
    }

    /// The same, with these further arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Server::launch(|command, directory| {
            let sessions = directory.join("sessions");
            command.arg("--storage-file-dir").arg(sessions);
            command.args(arguments);
        })
    }

    /// A server whose examples are FastCGI responders.
    pub(crate) fn with_fastcgi() -> Self {
        Server::with(&["--fastcgi"])
    }

    /// A server with a configuration file, in which these lines are, too.
    pub(crate) fn with_settings(lines: &str) -> Self {
        Server::launch(|command, directory| {
            let (file, sessions) = (directory.join("site.ini"), directory.join("sessions"));
            let directory = sessions.display();
            let text = format!("[session]\nstorageFileDir = {directory}\n{lines}\n");
            fs::write(&file, text).unwrap();
            command.arg("--config").arg(file);
        })
    }

    /// The processes that it has started and that run.
    pub(crate) fn children(&self) -> Vec<String> {
        let id = self.child.id();
        let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        list.split_whitespace().map(str::to_owned).collect()
    }

    /// The same, with programs of the visitor's own: name, mode and text of each.
    pub(crate) fn with_programs(programs: &[(&str, &str, &str)]) -> Self {
        Server::launch(|command, directory| {
            let own = directory.join("programs");
            fs::create_dir(&own).unwrap();
            for (name, mode, text) in programs {
                write_program(&own.join(name), mode, text);
            }
            let sessions = directory.join("sessions");
            command.arg("--storage-file-dir").arg(sessions);
            command.arg("--programs").arg(own);
            command.env("SECRET_OF_THE_SERVER", "1");
        })
    }

    pub(crate) fn launch(prepare: impl FnOnce(&mut Command, &Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = program(binary());
        command.args(["serve", "--port", "0"]);
        // Many who count at once wait for each other, on a slow machine for long.
        command.env("CGI_SESSION_LOCK_TIMEOUT", "90s");
        prepare(&mut command, directory.path());
        let log = File::create(directory.path().join("stderr")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut server = Server {
            child,
            address: String::new(),
            greeting: String::new(),
            directory,
        };
        for line in BufReader::new(stdout).lines() {
            let line = line.unwrap();
            server.greeting.push_str(&line);
            if let Some((_, rest)) = line.split_once("http://") {
                let (address, _) = rest.split_once('/').unwrap();
                server.address.push_str(address);
                return server;
            }
        }
        let (greeting, log) = (&server.greeting, server.log());
        panic!("the server did not start: {greeting}{log}");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn visitor(&self) -> Visitor {
        let agent = Agent::config_builder().http_status_as_error(false);
        let agent = agent.timeout_global(Some(DEADLINE)).build();
        Visitor {
            agent: agent.into(),
            base: self.url(""),
        }
    }

    /// Sends bytes as they stand, and reads until the server closes the connection.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Presses Ctrl-C and waits for the end.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        let kill = format!("kill -INT {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }

    /// What it has written to stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    pub(crate) fn session_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("sessions")) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a program through a process of its own: a file that this process has open for writing
/// could be inherited by what another test starts just now, and could not be executed then.
pub(crate) fn write_program(path: &Path, mode: &str, text: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod \"$2\" \"$1\"", "sh"])
        .arg(path)
        .arg(mode)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert!(shell.wait().unwrap().success());
}

/// A client that keeps its cookies.
#[derive(Clone)]
pub(crate) struct Visitor {
    agent: Agent,
    base: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) set_cookie: Vec<String>,
    pub(crate) text: String,
}

impl Visitor {
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Page {
        let request = self.agent.get(format!("{}{path}", self.base));
        Page::read(request.call().unwrap())
    }

    #[track_caller]
    pub(crate) fn head(&self, path: &str) -> Page {
        let request = self.agent.head(format!("{}{path}", self.base));
        Page::read(request.call().unwrap())
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.agent.post(format!("{}{path}", self.base));
        Page::read(request.send_form(fields.iter().copied()).unwrap())
    }

    /// Sends a form with the token that this page has, and follows to the page that it leads to.
    #[track_caller]
    pub(crate) fn submit(&self, page: &str, to: &str, fields: &[(&str, &str)]) -> Page {
        let page = self.get(page);
        let token = ("csrfToken", page.token());
        self.post(to, &[&[token], fields].concat())
    }

    #[track_caller]
    pub(crate) fn send(&self, path: &str, body: &[u8]) -> Page {
        let request = self.agent.post(format!("{}{path}", self.base));
        Page::read(request.send(body).unwrap())
    }
}

impl Page {
    fn read(mut response: Response<ureq::Body>) -> Self {
        let cookies = response.headers().get_all("set-cookie").iter();
        Page {
            status: response.status(),
            set_cookie: cookies
                .map(|value| value.to_str().unwrap().to_owned())
                .collect(),
            text: response.body_mut().read_to_string().unwrap(),
        }
    }

    /// Checks that a page is there and says this.
    #[track_caller]
    pub(crate) fn says(&self, expected: &str) -> &Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let text = &self.text;
        assert!(text.contains(expected), "{expected:?} is not in {text}");
        self
    }

    /// The token in the page's forms.
    #[track_caller]
    pub(crate) fn token(&self) -> &str {
        let field = self.text.split_once("name=\"csrfToken\" value=\"");
        let (_, rest) = field.unwrap_or_else(|| panic!("no token in {}", self.text));
        rest.split('"').next().unwrap_or_default()
    }

    /// The number that the counter answered.
    #[track_caller]
    pub(crate) fn views(&self) -> u64 {
        let rest = self.text.split_once("been here ").map(|(_, rest)| rest);
        let number = rest.and_then(|rest| rest.split_once(" time"));
        let (number, _) = number.unwrap_or_else(|| panic!("no number in {}", self.text));
        number.parse().unwrap()
    }
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
