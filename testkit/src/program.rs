//! A CGI program started as a server would, but without one.

use std::ffi::OsString;
use std::sync::mpsc::channel;

use crate::prelude::*;

/// A request to one program.
pub struct Cgi {
    program: PathBuf,
    variables: Vec<(OsString, OsString)>,
    body: Vec<u8>,
}

/// What came back: a complete CGI response, and what the program said to the error log.
#[derive(Debug)]
pub struct Outcome {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub stderr: String,
}

impl Cgi {
    /// GET to an example, with the site's configuration and no other variable of this process.
    pub fn new(name: &str, site: &Site) -> Self {
        Cgi::at(&example(name)).variable("CGI_SESSION_CONFIG", site.config())
    }

    /// GET to a program that finds its configuration itself.
    pub fn at(program: &Path) -> Self {
        let cgi = Cgi {
            program: program.to_owned(),
            variables: Vec::new(),
            body: Vec::new(),
        };
        cgi.variable("GATEWAY_INTERFACE", "CGI/1.1")
            .variable("SERVER_PROTOCOL", "HTTP/1.1")
            .variable("REQUEST_METHOD", "GET")
            .variable("SCRIPT_NAME", "/cgi-bin/program")
            .variable("REMOTE_ADDR", "127.0.0.1")
    }

    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref().to_owned();
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    pub fn method(self, method: &str) -> Self {
        self.variable("REQUEST_METHOD", method)
    }

    pub fn query(self, query: &str) -> Self {
        self.variable("QUERY_STRING", query)
    }

    pub fn cookie(self, header: impl AsRef<OsStr>) -> Self {
        self.variable("HTTP_COOKIE", header)
    }

    /// The request of a visitor who has this session.
    pub fn visitor(self, id: &str) -> Self {
        self.cookie(format!("sessionId={id}"))
    }

    /// What the server sends as the body, with its length and type.
    pub fn form(self, body: &str) -> Self {
        let length = body.len().to_string();
        self.method("POST")
            .variable("CONTENT_TYPE", "application/x-www-form-urlencoded")
            .variable("CONTENT_LENGTH", length)
            .body(body)
    }

    /// What the server sends as the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The command, for a test that runs it in a way of its own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.variables.iter().cloned());
        command
    }

    /// A shell command that becomes the program, which is its `$0`, under the same variables.
    pub fn by_shell(&self, script: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).arg(&self.program);
        shell.env_clear().envs(self.variables.iter().cloned());
        shell
    }

    /// Runs the program and expects a complete response.
    #[track_caller]
    pub fn run(self) -> Outcome {
        let command = self.command();
        self.run_by(command)
    }

    /// Runs the program by a command that starts it.
    #[track_caller]
    pub fn run_by(self, mut command: Command) -> Outcome {
        let mut child = piped(&mut command);
        self.write_body(&mut child);
        Outcome::of(child)
    }

    /// Sends the body to a program that was started for this request.
    pub fn write_body(&self, child: &mut Child) {
        let mut stdin = child.stdin.take().unwrap();
        // A program that ends without reading is one of the things under test.
        let _ = stdin.write_all(&self.body);
    }
}

impl Outcome {
    /// Waits for a program and reads its response.
    #[track_caller]
    pub fn of(child: Child) -> Self {
        let (status, stdout, stderr) = end_of(child);
        assert!(status.success(), "{status}: {stderr}");
        Outcome::parse(&stdout, stderr)
    }

    /// Reads what a program wrote.
    #[track_caller]
    pub fn parse(stdout: &str, stderr: String) -> Self {
        let (head, body) = stdout
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no header in {stdout:?}, stderr {stderr:?}"));
        let headers: Vec<_> = head
            .split("\r\n")
            .map(|line| line.split_once(": ").expect("a header field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let (name, status) = &headers[0];
        assert_eq!(name, "status", "{stdout:?}");
        Outcome {
            status: status[..3].parse().unwrap(),
            headers,
            body: body.to_owned(),
            stderr,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| value.as_str())
    }

    /// The id in the one Set-Cookie.
    #[track_caller]
    pub fn id(&self) -> String {
        let fields = self.headers.iter().filter(|(name, _)| name == "set-cookie");
        let cookies: Vec<_> = fields.map(|(_, value)| value).collect();
        assert_eq!(cookies.len(), 1, "{self:#?}");
        let value = cookies[0].strip_prefix("sessionId=").expect("our cookie");
        value[..40].to_owned()
    }

    /// Expects this status, this text in the page, and silence on stderr.
    #[track_caller]
    pub fn expect(self, status: u16, text: &str) -> Self {
        let seen = (self.status, self.stderr.as_str());
        assert_eq!(seen, (status, ""), "{self:#?}");
        self.expect_complete(text)
    }

    /// Expects this status and one line on stderr with each of these parts in it.
    #[track_caller]
    pub fn expect_failure(self, status: u16, parts: impl Words) -> Self {
        let seen = (self.status, self.stderr.lines().count());
        assert_eq!(seen, (status, 1), "{self:#?}");
        for part in parts.parts() {
            assert!(self.stderr.contains(part), "no {part:?} in {self:#?}");
        }
        assert_eq!(self.header("set-cookie"), None, "{self:#?}");
        self.expect_complete("</html>")
    }

    /// Expects a whole page with this text in it.
    #[track_caller]
    pub fn expect_complete(self, text: &str) -> Self {
        let seen = self.header("content-length");
        assert_eq!(seen, Some(self.body.len().to_string().as_str()));
        assert!(self.body.contains(text), "no {text:?} in {self:#?}");
        self
    }
}

/// Starts a program with a pipe at each of its standard streams.
pub fn piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a program; how it ended, and what it wrote to stdout and stderr.
#[track_caller]
pub fn end_of(child: Child) -> (ExitStatus, String, String) {
    let pid = Pid::from_child(&child);
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        panic!("the program does not end");
    };
    let output = output.unwrap();
    (
        output.status,
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}
