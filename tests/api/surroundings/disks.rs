//! Disks that are full, have no inodes left, or turn read-only while a request is under way.

use super::visitor::{End, Visitor, newcomer};
use testkit::disk::{self, Ext4, Room};
use testkit::prelude::*;

/// Fills a disk, but for so many bytes.
fn fill(place: &Path, but: u64) {
    let mut ballast = fs::File::create(place.join("ballast")).unwrap();
    // Writing ends where the disk does.
    while ballast.write_all(&[1; 4096]).is_ok() {}
    let length = ballast.metadata().unwrap().len();
    ballast.set_len(length.saturating_sub(but)).unwrap();
}

/// Makes empty files until there can be no more, but for so many.
fn use_up_inodes(place: &Path, but: usize) {
    let mut made = 0..;
    let full =
        made.find(|number: &usize| fs::File::create(place.join(format!("n{number}"))).is_err());
    for number in 0..but.min(full.unwrap()) {
        fs::remove_file(place.join(format!("n{number}"))).unwrap();
    }
}

fn make_room(place: &Path) {
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name == "ballast" || name.starts_with('n') {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn on_a_full_ext4_what_was_saved_stays_and_goes_on() {
    let Some(room) = Room::open() else { return };
    let site = Site::with_settings("cleanUpDelay = 0\ndurability = data\nminFreeSpace = 0\n");
    site.make_sessions(None);
    let disk = Ext4::format(&room.path().join("image"), &site.sessions(), &["-N", "32"]);
    disk.mount();
    fs::remove_dir(site.sessions().join("lost+found")).unwrap();
    set_owner_alone(&site.sessions());
    check_full(&site);
    check_inodes(&site);
    disk.unmount();
}

#[track_caller]
fn check_full(site: &Site) {
    let mut visitor = Visitor::begin(site);
    let mut grown = Vec::new();
    for pages in (0..36).step_by(3) {
        fill(&site.sessions(), pages * 4096);
        // Both slots of a record have their space.
        assert_eq!(visitor.count(""), End::Served, "{pages} pages are left");
        grown.push(visitor.rename(20_000, ""));
        let files = site.files();
        if newcomer(site, "") != End::Served {
            assert_eq!(site.files(), files, "{pages} pages are left");
        }
        make_room(&site.sessions());
        visitor.goes_on();
        assert_eq!(visitor.rename(10, ""), End::Served);
    }
    for end in [End::Served, End::Refused(500)] {
        assert!(grown.contains(&end), "{grown:?}");
    }
}

#[track_caller]
fn check_inodes(site: &Site) {
    let mut visitor = Visitor::begin(site);
    for left in 0..3 {
        use_up_inodes(&site.sessions(), left);
        assert_eq!(visitor.count(""), End::Served);
        let expected = if left == 0 {
            End::Refused(500)
        } else {
            End::Served
        };
        let seen = visitor.rename(20_000, "");
        assert_eq!(seen, expected, "{left} inodes are left");
        assert_eq!(newcomer(site, ""), expected, "{left} inodes are left");
        make_room(&site.sessions());
        visitor.goes_on();
        assert_eq!(visitor.rename(10, ""), End::Served);
    }
}

fn set_owner_alone(place: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(place, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_disk_that_turns_read_only_under_a_new_session_gives_an_error_page() {
    let Some(_room) = Room::open() else { return };
    let site = Site::with_settings("cleanUpDelay = 0\n");
    site.make_sessions(None);
    disk::mount_memory(&site.sessions(), "size=256k");
    let holding = Holding::start(&site, None, &[]);
    disk::remount(&site.sessions(), "ro");
    let answer = holding.end();
    let path = site.sessions();
    let path = path.to_str().unwrap();
    answer.expect_failure(500, ["Read-only file system", path, "remount,rw"]);
    disk::remount(&site.sessions(), "rw");
    assert_eq!(site.files(), [""; 0]);
    assert_eq!(newcomer(&site, ""), End::Served);
    disk::unmount(&site.sessions());
}

#[test]
fn a_disk_whose_errors_make_it_read_only_under_a_request_keeps_the_old_state() {
    let Some(room) = Room::open() else { return };
    let site = Site::with_settings("cleanUpDelay = 0\ndurability = data\n");
    site.make_sessions(None);
    let (image, options) = (room.path().join("image"), ["-e", "remount-ro"]);
    let disk = Ext4::format(&image, &site.sessions(), &options);
    disk.mount();
    set_owner_alone(&site.sessions());
    let mut visitor = Visitor::begin(&site);
    visitor.goes_on();
    let holding = Holding::start(&site, Some(visitor.id()), &[]);
    disk.fail();
    let answer = holding.end();
    let path = site.sessions();
    answer.expect_failure(500, [path.to_str().unwrap()]);
    disk.unmount();
    disk.mount();
    visitor.goes_on();
    disk.unmount();
}

/// Saves 20,000 bytes more by the store of this name, on a disk that has no room for them: whether it
/// said that it did, and what another process finds then.
fn save_on_full_disk(store: &str) -> (bool, String) {
    let place = tempfile::tempdir().unwrap();
    disk::mount_memory(place.path(), "size=64k");
    let directory = place.path().join("sessions");
    let operation = |name: &str, id: &str| {
        let mut command = Command::new(example("operation"));
        let output = command
            .arg(name)
            .arg(&directory)
            .args(["none", store, id])
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (_, said) = operation("begin", "");
    let id = said.trim().strip_prefix("done ").unwrap().to_owned();
    fill(place.path(), 4096);
    let (is_done, _) = operation("grow", &id);
    make_room(place.path());
    let found = operation("show", &id).1;
    disk::unmount(place.path());
    (is_done, found)
}

#[test]
fn a_store_that_does_not_look_at_errors_is_found_on_a_full_disk() {
    let Some(_room) = Room::open() else { return };
    assert_eq!(save_on_full_disk("file"), (false, "1 of 0\n".to_owned()));
    assert_eq!(save_on_full_disk("Nothing"), (false, "1 of 0\n".to_owned()));
    let (is_done, found) = save_on_full_disk("UncheckedWrite");
    assert!(is_done && !found.starts_with("2 of 20000"), "{found}");
    let (_, found) = save_on_full_disk("TruncateAndWrite");
    let is_it = !found.starts_with("1 of 0") && !found.starts_with("2 of 20000");
    assert!(is_it, "{found}");
}
