//! A program of this project, started as a FastCGI responder, and stopped with the test.

use std::fmt::Display;
use std::net::Ipv4Addr;

use crate::prelude::*;
use rustix::fd::OwnedFd;

use crate::fastcgi::client::{AT_ONCE, Address, Client, PATIENCE, Reply, get};

/// Where the listening socket comes from.
#[derive(Clone, Copy, Debug)]
pub enum Socket {
    /// `--listen unix:/path`
    ListenUnix,
    /// `--listen 127.0.0.1:port`
    ListenTcp,
    /// Descriptor 0.
    StdinUnix,
    StdinTcp,
}

/// How to start a program.
pub struct Setup {
    program: &'static str,
    socket: Socket,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    descriptors: Option<u32>,
    address: Option<Address>,
    stderr: Option<Stdio>,
}

/// How to start `fastcgi_echo`.
pub fn echo(socket: Socket) -> Setup {
    Setup::new("fastcgi_echo", socket)
}

impl Setup {
    pub fn new(program: &'static str, socket: Socket) -> Self {
        Setup {
            program,
            socket,
            arguments: Vec::new(),
            variables: Vec::new(),
            descriptors: None,
            address: None,
            stderr: None,
        }
    }

    /// Arguments are read only with `--listen`.
    pub fn arguments(mut self, arguments: impl Words) -> Self {
        let words = arguments.words().into_iter();
        self.arguments = words.map(str::to_owned).collect();
        self
    }

    pub fn variable(mut self, name: &'static str, value: impl Display) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    /// A program that listens where this one does.
    pub fn in_the_place_of(program: &Server) -> Self {
        let mut setup = echo(Socket::ListenUnix);
        setup.address = Some(program.address.clone());
        setup
    }

    /// The most descriptors that the program may have open.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Where the program's errors go instead of a file.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    pub fn start(self) -> Server {
        let directory = TempDir::new().unwrap();
        let (address, stdin, listen) = match self.address {
            Some(address) => (address.clone(), Stdio::null(), listen(&address)),
            None => socket(self.socket, directory.path()),
        };
        let mut command = command(self.program, self.descriptors);
        command.args(listen).args(&self.arguments);
        command.env_clear();
        command.env(
            "CGI_SESSION_STORAGE_FILE_DIR",
            directory.path().join("sessions"),
        );
        command.env("ECHO_DIRECTORY", directory.path());
        // Else a program that does not do as it was told might do so by and by for being silent.
        for name in ["ECHO_IDLE", "ECHO_READ", "ECHO_WRITE"] {
            command.env(name, (10 * PATIENCE.as_millis()).to_string());
        }
        command.envs(self.variables);
        let log = directory.path().join("stderr");
        command.stdin(stdin).stdout(Stdio::null());
        let file = File::create(&log).unwrap();
        command.stderr(self.stderr.unwrap_or_else(|| file.into()));
        let server = Server {
            child: command.spawn().unwrap(),
            address,
            directory,
        };
        server.wait_until_it_answers();
        server
    }
}

/// A program that runs.
pub struct Server {
    child: Child,
    pub address: Address,
    directory: TempDir,
}

impl Server {
    pub fn new(program: &'static str, socket: Socket) -> Self {
        Setup::new(program, socket).start()
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.address).unwrap()
    }

    /// A client that has sent this on a connection of its own.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> Client {
        let mut client = self.connect();
        client.send(bytes).unwrap();
        client
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: &[u8]) -> Reply {
        self.connect().ask(1, request)
    }

    /// A good request is answered, and does not wait for anything that was sent before.
    #[track_caller]
    pub fn answers_at_once(&self, after: &str) {
        let started = Instant::now();
        let mut client = self.connect();
        client.wait_up_to(AT_ONCE);
        let reply = client.send(&get(1, 0, "")).and_then(|()| client.reply(1));
        let reply = reply
            .unwrap_or_else(|error| panic!("after {after}: no answer: {error}\n{}", self.log()));
        let took = started.elapsed();
        assert_eq!((reply.status(), reply.end), (200, Some(0)), "after {after}");
        assert!(took <= AT_ONCE, "after {after}: {took:?}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program holds in memory of its own, in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        number.unwrap().parse().unwrap()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The only session's file.
    pub fn session_file(&self) -> PathBuf {
        let files = self.session_files();
        files.into_iter().next().expect("a session file")
    }

    pub fn session_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory().join("sessions")).unwrap();
        let files = entries.map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect()
    }

    /// How many handlers wait for the file `go`.
    pub fn started(&self) -> usize {
        let names = fs::read_dir(self.directory()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("started-"))
            .count()
    }

    /// Lets all handlers that wait go on.
    pub fn go(&self) {
        fs::write(self.directory().join("go"), "").unwrap();
    }

    /// The names of the process's threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks
            .map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
            .collect()
    }

    pub fn signal(&self, signal: Signal) {
        send(signal, &self.child);
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What the program wrote to stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory().join("stderr")).unwrap()
    }

    fn wait_until_it_answers(&self) {
        until(&format!("the program answers\n{}", self.log()), || {
            let Ok(mut client) = Client::connect(&self.address) else {
                return false;
            };
            client.send(&get(1, 0, "")).is_ok() && client.reply(1).is_ok_and(|it| it.end == Some(0))
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the program's log:\n{}", self.log());
        }
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again whether something has become true.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not happen that {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The program itself, or a shell that becomes it under a limit.
fn command(name: &str, descriptors: Option<u32>) -> Command {
    let program = crate::example(name);
    let Some(most) = descriptors else {
        return Command::new(program);
    };
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c");
    shell.arg(format!("ulimit -n {most}; exec \"$0\" \"$@\""));
    shell.arg(program);
    shell
}

fn listen(address: &Address) -> Vec<String> {
    let text = match address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Tcp(address) => address.to_string(),
    };
    vec!["--listen".to_owned(), text]
}

fn socket(socket: Socket, directory: &Path) -> (Address, Stdio, Vec<String>) {
    let path = directory.join("socket");
    match socket {
        Socket::ListenUnix => {
            let address = Address::Unix(path);
            (address.clone(), Stdio::null(), listen(&address))
        }
        Socket::ListenTcp => {
            let address = Address::Tcp((Ipv4Addr::LOCALHOST, free_port()).into());
            (address.clone(), Stdio::null(), listen(&address))
        }
        Socket::StdinUnix => {
            let listener = UnixListener::bind(&path).unwrap();
            (Address::Unix(path), OwnedFd::from(listener).into(), vec![])
        }
        Socket::StdinTcp => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = Address::Tcp(listener.local_addr().unwrap());
            (address, OwnedFd::from(listener).into(), vec![])
        }
    }
}
