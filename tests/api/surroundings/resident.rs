//! The same program as a FastCGI responder, which lives through the trouble.

use std::fs;
use std::process::{Child, Command, Stdio};

use testkit::disk::{self, Room};
use testkit::fastcgi::client::{Address, Client, Reply, visit};
use testkit::site::Site;
use testkit::{example, wait_until};

/// A running responder, which does not outlive its test.
struct Resident {
    process: Child,
    address: Address,
}

impl Resident {
    fn start(site: &Site) -> Self {
        let socket = site.path().join("socket");
        let mut command = Command::new(example("counter"));
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        let log = fs::File::create(site.path().join("log")).unwrap();
        command
            .env("CGI_SESSION_CONFIG", site.config())
            .stdin(Stdio::null())
            .stderr(log);
        let process = command.spawn().unwrap();
        let address = Address::Unix(socket);
        wait_until("the program listens", || Client::connect(&address).is_ok());
        Resident { process, address }
    }

    fn ask(&self, cookie: &str) -> Reply {
        let mut client = Client::connect(&self.address).unwrap();
        client.ask(1, &visit(1, 0, "", cookie))
    }

    #[track_caller]
    fn counts(&self, cookie: &str, views: u64) -> Reply {
        let reply = self.ask(cookie);
        assert_eq!(reply.status(), 200, "{}", reply.text());
        let expected = format!("here {views} time");
        assert!(reply.text().contains(&expected), "{}", reply.text());
        reply
    }

    #[track_caller]
    fn refuses(&self, cookie: &str, status: u16) -> Reply {
        let reply = self.ask(cookie);
        assert_eq!((reply.status(), reply.cookie()), (status, None));
        assert!(reply.text().contains("</html>"));
        reply
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_responder_goes_on_from_what_was_saved_when_its_disk_is_writable_again() {
    let Some(_room) = Room::open() else { return };
    let site = Site::with_settings("cleanUpDelay = 0\nminFreeSpace = 0\n");
    site.make_sessions(None);
    disk::mount_memory(&site.sessions(), "size=64k,nr_inodes=10");
    let resident = Resident::start(&site);
    let cookie = resident.counts("", 1).cookie().unwrap().to_owned();
    for views in 2..12 {
        disk::remount(&site.sessions(), "ro");
        resident.refuses(&cookie, 500);
        resident.refuses("", 500);
        disk::remount(&site.sessions(), "rw");
        resident.counts(&cookie, views);
    }
    // As many inodes as there are: nobody new comes in, and who is there goes on.
    let mut newcomers = 0;
    while resident.ask("").status() == 200 {
        newcomers += 1;
    }
    assert!((1..10).contains(&newcomers), "{newcomers}");
    resident.refuses("", 500);
    resident.counts(&cookie, 12);
    let log = fs::read_to_string(site.path().join("log")).unwrap();
    let id = cookie.split_once('=').unwrap().1;
    assert!(!log.contains(id), "{log}");
    for text in [
        "Read-only file system",
        "remount,rw",
        "No space left on device",
        "df -i",
    ] {
        assert!(log.contains(text), "no {text:?} in {log}");
    }
    drop(resident);
    disk::unmount(&site.sessions());
}
