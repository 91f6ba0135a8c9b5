//! A web server in the foreground, with the shipped settings on ports of its own.

use crate::prelude::*;

/// A running server; dropped, it is stopped.
pub struct Server {
    name: &'static str,
    process: Child,
    pub ports: Vec<u16>,
    directory: PathBuf,
}

impl Server {
    /// Starts a server with a directory of its own in the site. `command` writes the settings for
    /// these ports; they say that the process notes its id in `pid`, and its errors in `error.log`.
    pub fn start(
        name: &'static str,
        site: &Site,
        ports: usize,
        command: impl Fn(&[u16], &Path) -> Command,
    ) -> Self {
        let mut directory = site.path().join(name);
        if directory.exists() {
            directory.set_extension("2");
        }
        fs::create_dir(&directory).unwrap();
        // Between the choice of a port and its use another process may take it.
        for _ in 0..5 {
            let ports = (0..ports).map(|_| free_port()).collect::<Vec<_>>();
            let mut command = command(&ports, &directory);
            let process = command
                // Some signal their process group when they end; that must not be ours.
                .process_group(0)
                .env("LC_ALL", "C")
                .stdin(Stdio::null())
                .stdout(log(&directory.join("stdout.log")))
                .stderr(log(&directory.join("stderr.log")))
                .spawn()
                .unwrap();
            let mut server = Server {
                name,
                process,
                ports,
                directory: directory.clone(),
            };
            if server.is_ready() {
                return server;
            }
        }
        panic!("{name} does not start: {}", said(&directory));
    }

    /// Waits for the server; `false` when it ended instead.
    fn is_ready(&mut self) -> bool {
        let pid = self.process.id().to_string();
        let mut has_ended = false;
        wait_until("the server accepts connections", || {
            has_ended = self.process.try_wait().unwrap().is_some();
            let noted = fs::read_to_string(self.directory.join("pid")).unwrap_or_default();
            let accepts = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
            has_ended || noted.trim() == pid && self.ports.iter().all(accepts)
        });
        !has_ended
    }

    /// Sends a signal to the server, and only to its first process.
    pub fn signal(&self, signal: Signal) {
        send(signal, &self.process);
    }

    /// What the server and its programs had to say.
    pub fn said(&self) -> String {
        said(&self.directory)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let last: Vec<_> = said.lines().rev().take(20).collect();
            eprintln!("{} said, the last first:\n{}", self.name, last.join("\n"));
        }
        stop(&mut self.process);
    }
}

/// Asks a process to end, and if it does not, ends it and all that it started.
pub fn stop(process: &mut Child) {
    let pid = Pid::from_child(process);
    let _ = rustix::process::kill_process(pid, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(15) {
        if matches!(process.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // Its own group, made when it was started.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let _ = process.wait();
}

/// A file of `examples/deploy`, with each of these paths replaced by another one.
#[track_caller]
pub fn shipped(file: &str, replaced: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(repository("examples/deploy").join(file)).unwrap();
    for (documented, here) in replaced {
        assert!(text.contains(documented), "{file} names no {documented}");
        text = text.replace(documented, here);
    }
    text
}

/// Whether a file that a test needs is there; told as a program that is not installed.
#[track_caller]
pub fn has_file(path: &str) -> bool {
    Path::new(path).is_file() || is_installed(path.rsplit('/').next().unwrap())
}

pub fn log(path: &Path) -> File {
    let file = File::options().create(true).append(true).open(path);
    file.unwrap()
}

fn said(directory: &Path) -> String {
    let read = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
    ["error.log", "stderr.log", "stdout.log"].map(read).concat()
}
