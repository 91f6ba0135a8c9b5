//! [`Faults`]: what is broken while the traffic goes on, one thing after the other.

use super::troubles::Troubles;
use testkit::apache::web_user;
use testkit::disk::{remount, try_remount};
use testkit::prelude::*;
use testkit::responder::as_web_user;

const FLOOD: usize = 50;
const BREATH: Duration = Duration::from_secs(1);

/// The faults that are injected, and where.
pub(crate) struct Faults<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) troubles: &'a Troubles,
    /// The clean-up program.
    pub(crate) cleaner: PathBuf,
    /// The sessions have a file system of their own, which may be filled and made read-only.
    pub(crate) owns_file_system: bool,
}

impl Faults<'_> {
    /// Breaks one thing, drawn by chance, and mends it.
    pub(crate) fn make_one(&self) {
        match fastrand::u32(0..10) {
            0 => self.during("responder killed", || {
                self.servers.restart_app(Signal::KILL);
            }),
            1 => self.during("responder restarted", || {
                self.servers.restart_app(Signal::TERM);
            }),
            2 => self.during("responder stopped", || self.stop_for_a_moment()),
            3 => self.during("program killed", || self.servers.kill_one()),
            4 => self.during("clean-up killed", || self.clean_up(true)),
            5 => self.during("disk full", || self.fill()),
            6 => self.during("disk read-only", || self.make_read_only()),
            7 => self.during("server restarted", || self.restart_servers()),
            8 => self.during("flood", || self.flood()),
            _ => self.during("garbage planted", || self.plant()),
        }
    }

    fn during(&self, name: &'static str, fault: impl FnOnce()) {
        self.troubles.during(name, fault);
    }

    /// What cron does. Nothing may fail of it.
    pub(crate) fn clean_up(&self, is_killed: bool) {
        let mut cleaner = as_web_user(&self.cleaner)
            .env_clear()
            .env("CGI_SESSION_CONFIG", self.servers.site.config())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if is_killed {
            thread::sleep(Duration::from_micros(fastrand::u64(0..4000)));
            // It may have ended by itself.
            let _ = cleaner.kill();
        }
        let ended = cleaner.wait_with_output().unwrap();
        if !is_killed && !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            self.troubles
                .report(format!("the clean-up failed: {} {said}", ended.status));
        }
    }

    fn stop_for_a_moment(&self) {
        let app = self.servers.app.lock().unwrap();
        if let Some(app) = app.as_ref() {
            app.signal(Signal::STOP);
            thread::sleep(BREATH);
            app.signal(Signal::CONT);
        }
    }

    /// Takes all the space there is.
    fn fill(&self) {
        if !self.owns_file_system {
            return;
        }
        let ballast = self.servers.site.sessions().join("ballast");
        let mut file = File::create(&ballast).unwrap();
        while file.write_all(&[0; 1 << 12]).is_ok() {}
        thread::sleep(BREATH);
        fs::remove_file(ballast).unwrap();
    }

    fn make_read_only(&self) {
        if !self.owns_file_system {
            return;
        }
        // Refused while a session is open for writing: then another time.
        let sessions = self.servers.site.sessions();
        if try_remount(&sessions, "ro") {
            thread::sleep(BREATH);
            remount(&sessions, "rw");
        }
    }

    fn restart_servers(&self) {
        let restarts = [
            (&self.servers.nginx, Signal::HUP),
            (&self.servers.apache, Signal::USR1),
        ];
        let (server, signal) = restarts[fastrand::usize(0..restarts.len())];
        if let Some(server) = server {
            server.signal(signal);
        }
    }

    /// Connections that say nothing.
    fn flood(&self) {
        let ways = self.servers.ways();
        let way = ways[fastrand::usize(0..ways.len())];
        let connect = |_| TcpStream::connect(("127.0.0.1", way.port));
        let connections: Vec<_> = (0..FLOOD).map(connect).collect();
        thread::sleep(BREATH);
        drop(connections);
    }

    /// A file that bears a session's name and holds none.
    fn plant(&self) {
        let digits = (0..64).map(|_| char::from_digit(fastrand::u32(0..16), 16));
        let name: String = digits.flatten().collect();
        let garbage = vec![b'?'; fastrand::usize(0..2000)];
        let planted = self.servers.site.sessions().join(format!("{name}.json"));
        fs::write(&planted, garbage).unwrap();
        give(&planted, web_user());
    }
}
