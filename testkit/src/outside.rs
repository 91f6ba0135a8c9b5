//! What lies outside of a test: programs that may be missing, and others that take their time.

use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::AsFd;

use crate::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// After this time something has gone wrong, however slow the machine is.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A free port that no connection is given by the system, and that this process has not used before: it stays
/// free while its server is away.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let ports = std::iter::repeat_with(|| {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(20_000 + next % 12_000).unwrap()
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.take(12_000).find(is_free).expect("a free port")
}

/// A pipe that takes nothing more, and that nobody reads.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    // A pipe is ready as long as it takes a page in one piece.
    while is_ready(&writer, PollFlags::OUT) {
        writer.write_all(&[b'.'; 4096]).unwrap();
    }
    (reader, writer)
}

/// Everything that is in a pipe.
pub fn read_all(reader: &mut PipeReader) -> String {
    let mut text = Vec::new();
    while is_ready(&*reader, PollFlags::IN) {
        let mut page = [0; 4096];
        let length = reader.read(&mut page).unwrap();
        text.extend_from_slice(&page[..length]);
    }
    String::from_utf8(text).unwrap()
}

fn is_ready(pipe: impl AsFd, event: PollFlags) -> bool {
    let mut polled = [PollFd::new(&pipe, event)];
    poll(&mut polled, Some(&Timespec::default())) == Ok(1)
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a process waits in flock(2) for this file.
pub fn is_waited_for(path: &Path) -> bool {
    let inode = format!(":{} ", fs::metadata(path).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let is_wait = |line: &str| line.contains("->") && line.contains(&inode);
    locks.lines().any(is_wait)
}

pub fn send(signal: Signal, process: &Child) {
    send_to(Pid::from_child(process), signal);
}

/// Sends a signal. SIGSTOP is waited for: until all of its threads stand still, a process may go on to answer.
pub fn send_to(process: Pid, signal: Signal) {
    rustix::process::kill_process(process, signal).unwrap();
    if signal == Signal::STOP {
        let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
        wait_until("all threads of the process are stopped", || {
            fs::read_dir(&tasks).unwrap().flatten().all(|task| {
                let stat = fs::read_to_string(task.path().join("stat"));
                // It may have ended meanwhile.
                stat.is_ok_and(|stat| stat.contains(") T ") || stat.contains(") Z "))
            })
        });
    }
}

/// A process that does not outlive its test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and needs not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The user that root runs another program as, and its group: the first of these that the system knows. Who is
/// not root runs it itself.
pub fn user_of_root(names: &[&str]) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &&str| {
        let mut users = users.lines().map(|line| line.split(':'));
        let mut fields = users.find(|fields| fields.clone().next() == Some(name))?;
        let (uid, gid) = (fields.nth(2)?, fields.next()?);
        Some((uid.parse().ok()?, gid.parse().ok()?))
    };
    names.iter().find_map(of).filter(|_| is_root())
}

/// Gives a file or directory to such a user, if there is one.
#[track_caller]
pub fn give(path: &Path, user: Option<(u32, u32)>) {
    if let Some((uid, gid)) = user {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// A command as such a user, if there is one.
pub fn run_as(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Sets a flag when it goes out of scope, so that a test that fails ends its other threads, too.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A server that a shell watches: it ends when the shell's input ends, and so with the test.
pub struct Watched {
    watch: Child,
    pid: Pid,
}

impl Watched {
    /// Starts a shell that starts the server, says its number, and reads a line if the server's directory
    /// is to stay.
    pub fn start(shell: &mut Command) -> Self {
        let watch = shell.stdin(Stdio::piped());
        let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        let said = watch.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut pid).unwrap();
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).unwrap();
        Watched { watch, pid }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn signal(&self, signal: Signal) {
        send_to(self.pid, signal);
    }

    /// Waits until the server has done as it was told.
    pub fn has_ended(&self) {
        let process = format!("/proc/{}", self.pid.as_raw_nonzero());
        wait_until("the server has ended", || {
            // Its watch may not have taken note of it.
            let status = fs::read_to_string(format!("{process}/stat"));
            status.map_or(true, |status| status.contains(") Z "))
        });
    }
}

impl Drop for Watched {
    /// Ends the server, and leaves its directory.
    fn drop(&mut self) {
        let mut input = self.watch.stdin.take().unwrap();
        input.write_all(b"stays\n").unwrap();
        self.watch.wait().unwrap();
    }
}
