//! What does not belong into a directory of sessions, under every name that a session or the clean-up
//! may open: nothing is followed, hangs, or is changed, and the others are served and cleaned up.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use super::clean_up;
use super::visitor::{End, Visitor, newcomer};
use testkit::disk::{Ext4, Room};
use testkit::prelude::*;

type Plant = fn(&Path, &Path);

/// By name, and how it is put at a path when there is a precious file at another.
const PLANTS: [(&str, Plant); 12] = [
    ("pipe", |path, _| node(path, FileType::Fifo, 0)),
    ("device", |path, _| {
        node(path, FileType::CharacterDevice, makedev(1, 3));
    }),
    ("disk", |path, _| {
        node(path, FileType::BlockDevice, makedev(7, 250));
    }),
    ("socket", |path, _| drop(UnixListener::bind(path).unwrap())),
    ("directory", |path, _| fs::create_dir(path).unwrap()),
    ("full directory", |path, _| {
        fs::create_dir_all(path.join("precious")).unwrap();
    }),
    ("link", |path, precious| symlink(precious, path).unwrap()),
    ("link to a directory", |path, precious| {
        symlink(precious.parent().unwrap(), path).unwrap();
    }),
    ("link to nothing", |path, _| {
        symlink("nothing", path).unwrap();
    }),
    ("link to itself", |path, _| symlink(path, path).unwrap()),
    ("hard link", |path, precious| {
        fs::hard_link(precious, path).unwrap();
    }),
    ("foreign file", |path, _| {
        fs::write(path, "somebody's").unwrap();
        chown(path, Some(1234), Some(1234)).unwrap();
    }),
];

fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).unwrap();
}

/// Older than any session, whatever it is.
fn age(path: &Path) {
    let past = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: past,
        last_modification: past,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn expired(site: &Site) -> std::path::PathBuf {
    assert_eq!(newcomer(site, ""), End::Served);
    let names = site.files().into_iter();
    let paths = names.map(|name| site.sessions().join(name));
    let newest = paths.max_by_key(|path| path.symlink_metadata().unwrap().modified().unwrap());
    let path = newest.unwrap();
    age(&path);
    path
}

#[test]
fn what_is_planted_under_any_name_harms_nobody_and_is_left_alone() {
    let Some(_room) = Room::open() else { return };
    for (what, plant) in PLANTS {
        let site = Site::with_settings("cleanUpDelay = 0\n");
        let mut visitor = Visitor::begin(&site);
        let precious = site.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        age(&precious);
        let names = [
            format!("{}.json", "b".repeat(64)),
            format!("{}.corrupt", "b".repeat(64)),
            format!("{}.user", "b".repeat(64)),
            ".tmp-1-0123456789abcdef".to_owned(),
            "ab".to_owned(),
        ];
        let outside = kept(&precious);
        let planted = names.each_ref().map(|name| site.sessions().join(name));
        for path in &planted {
            plant(path, &precious);
            age(path);
        }
        visitor.goes_on();
        assert_eq!(newcomer(&site, ""), End::Served);
        let due = expired(&site);
        let (status, stderr) = clean_up(&site.sessions(), &[]);
        assert!(!due.exists(), "{what} keeps the clean-up: {stderr}");
        // What has the name of a session or an index, and is none, is told.
        assert_eq!(status.code(), Some(1), "{what}: {stderr}");
        assert!(stderr.contains(&names[0]), "{what}: {stderr}");
        visitor.goes_on();
        for path in &planted {
            let is_there = path.symlink_metadata().is_ok();
            assert!(is_there, "{what} at {path:?} is gone");
        }
        assert_eq!(kept(&precious), outside, "{what}");
    }
}

fn kept(path: &Path) -> (Vec<u8>, SystemTime) {
    let modified = fs::metadata(path).unwrap().modified();
    (fs::read(path).unwrap(), modified.unwrap())
}

#[test]
fn names_that_are_no_text_are_left_alone() {
    let site = Site::with_settings("cleanUpDelay = 0\n");
    let mut visitor = Visitor::begin(&site);
    let digest = [b'b'; 64];
    let names: [&[u8]; 5] = [
        b"\xff\xfe",
        &[&digest[..], b"\xff.json"].concat(),
        &[&digest[..63], b"\xff.json"].concat(),
        b".tmp-1-0123456789abcde\xff",
        b"\xff\xff",
    ];
    for name in names {
        let path = site.sessions().join(OsStr::from_bytes(name));
        fs::write(&path, "somebody's").unwrap();
        age(&path);
    }
    visitor.goes_on();
    let (status, stderr) = clean_up(&site.sessions(), &[]);
    assert!(status.success() && stderr.is_empty(), "{stderr}");
    for name in names {
        let path = site.sessions().join(OsStr::from_bytes(name));
        assert_eq!(fs::read(&path).unwrap(), b"somebody's");
        fs::remove_file(path).unwrap();
    }
    visitor.goes_on();
}

#[test]
fn a_session_that_everybody_may_write_is_served_and_kept_in_a_directory_of_its_owner() {
    let site = Site::new();
    let mut visitor = Visitor::begin(&site);
    for mode in [0o666, 0o640, 0o400] {
        fs::set_permissions(site.only_file(), Permissions::from_mode(mode)).unwrap();
        visitor.goes_on();
    }
}

#[test]
fn files_that_may_not_be_changed_are_told_and_go_on_when_they_may() {
    let Some(room) = Room::open() else { return };
    let site = Site::with_settings("cleanUpDelay = 0\n");
    site.make_sessions(None);
    let disk = Ext4::format(&room.path().join("image"), &site.sessions(), &[]);
    disk.mount();
    fs::set_permissions(site.sessions(), Permissions::from_mode(0o700)).unwrap();
    fs::remove_dir(site.sessions().join("lost+found")).unwrap();
    let mut visitor = Visitor::begin(&site);
    let session = site.only_file();
    for attribute in ["i", "a"] {
        change(&session, &format!("+{attribute}"));
        assert_eq!(visitor.count(""), End::Refused(500));
        assert_eq!(visitor.rename(20_000, ""), End::Refused(500));
        assert_eq!(newcomer(&site, ""), End::Served);
        change(&session, &format!("-{attribute}"));
        visitor.goes_on();
    }
    // In a directory that may not be changed, what is there goes on.
    change(&site.sessions(), "+i");
    assert_eq!(visitor.count(""), End::Served);
    assert_eq!(visitor.rename(20_000, ""), End::Refused(500));
    assert_eq!(newcomer(&site, ""), End::Refused(500));
    change(&site.sessions(), "-i");
    visitor.goes_on();
    let (stubborn, due) = (expired(&site), expired(&site));
    change(&stubborn, "+i");
    let (status, stderr) = clean_up(&site.sessions(), &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stubborn.exists() && !due.exists(), "{stderr}");
    change(&stubborn, "-i");
    assert!(clean_up(&site.sessions(), &[]).0.success() && !stubborn.exists());
    disk.unmount();
}

fn change(path: &Path, attribute: &str) {
    let changed = Command::new("chattr").arg(attribute).arg(path).status();
    assert!(changed.unwrap().success());
}
