//! The same program as a FastCGI responder, which lives through the trouble.

use testkit::disk::{self, Room};
use testkit::fastcgi::client::{Reply, get, visit};
use testkit::fastcgi::server::{Server, Setup, Socket};
use testkit::prelude::*;

#[track_caller]
fn counts(responder: &Server, cookie: &str, views: u64) -> Reply {
    let reply = responder.ask(&visit(1, 0, "", cookie));
    assert_eq!(reply.status(), 200, "{}", reply.text());
    let expected = format!("here {views} time");
    assert!(reply.text().contains(&expected), "{}", reply.text());
    reply
}

#[track_caller]
fn refuses(responder: &Server, cookie: &str) {
    let reply = responder.ask(&visit(1, 0, "", cookie));
    assert_eq!((reply.status(), reply.cookie()), (500, None));
    assert!(reply.text().contains("</html>"));
}

#[test]
fn a_responder_goes_on_from_what_was_saved_when_its_disk_is_writable_again() {
    let Some(_room) = Room::open() else { return };
    let site = Site::with_settings("cleanUpDelay = 0\nminFreeSpace = 0\n");
    site.make_sessions(None);
    disk::mount_memory(&site.sessions(), "size=64k,nr_inodes=10");
    let responder = Setup::new("counter", Socket::ListenUnix)
        .variable("CGI_SESSION_CONFIG", site.config().display())
        .variable("CGI_SESSION_STORAGE_FILE_DIR", site.sessions().display())
        .start();
    let cookie = counts(&responder, "", 1).cookie().unwrap().to_owned();
    for views in 2..12 {
        disk::remount(&site.sessions(), "ro");
        refuses(&responder, &cookie);
        refuses(&responder, "");
        disk::remount(&site.sessions(), "rw");
        counts(&responder, &cookie, views);
    }
    // As many inodes as there are: nobody new comes in, and who is there goes on.
    let mut newcomers = 0;
    while responder.ask(&get(1, 0, "")).status() == 200 {
        newcomers += 1;
    }
    assert!((1..10).contains(&newcomers), "{newcomers}");
    refuses(&responder, "");
    counts(&responder, &cookie, 12);
    let log = responder.log();
    let id = cookie.split_once('=').unwrap().1;
    assert!(!log.contains(id), "{log}");
    holds(
        &log,
        "Read-only file system*remount,rw*No space left on device*df -i",
    );
    drop(responder);
    disk::unmount(&site.sessions());
}
