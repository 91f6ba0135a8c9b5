//! What becomes of a request when `storageFileDir` is not what it should be: a complete page, one line
//! in the log that says what to do, and whatever was stored before is whole.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use testkit::program::{Cgi, Outcome};
use testkit::site::Site;
use testkit::{copy, example, is_root, may_act_as_root};

/// Counts and expects a 500 page and one line that names the directory and these words.
#[track_caller]
fn expect_refused(site: &Site, words: &[&str]) {
    let directory = site.sessions();
    let words = [&[directory.to_str().unwrap()], words].concat();
    Cgi::new("counter", site).run().expect_failure(500, &words);
}

#[test]
fn a_clean_up_inside_a_request_leaves_what_takes_longer_than_a_moment() {
    let site = Site::new();
    site.make_sessions(None);
    let long_ago = SystemTime::now() - Duration::from_secs(60 * 24 * 3600);
    for number in 0..20_000 {
        let name = site.sessions().join(format!("{number:064x}.corrupt"));
        let file = fs::File::create(name).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    Cgi::new("counter", &site).run().expect(200, "here 1 time");
    let left = site.files().len();
    assert!(1 < left && left <= 20_000, "{left} files are left");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_is_missing_is_made_for_its_owner_alone() {
    let site = Site::new();
    Cgi::new("counter", &site).run().expect(200, "here 1 time");
    let mode = site.sessions().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    let mode = site.only_file().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_directory_without_a_parent_is_not_made() {
    let site = Site::new();
    let directory = site.path().join("no/such/directory");
    let request = Cgi::new("counter", &site).variable("CGI_SESSION_STORAGE_FILE_DIR", &directory);
    let remedy = format!(
        "try: install -d -m 0700 -o {}",
        rustix::process::geteuid().as_raw()
    );
    let words = [
        "cannot create",
        directory.to_str().unwrap(),
        "No such file",
        &remedy,
    ];
    request.run().expect_failure(500, &words);
    assert!(!site.path().join("no").exists());
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let site = Site::new();
    fs::write(site.sessions(), "a file").unwrap();
    expect_refused(
        &site,
        &["is not a directory", "must be a directory of its own"],
    );
    assert_eq!(fs::read_to_string(site.sessions()).unwrap(), "a file");
}

#[test]
fn a_link_in_the_place_of_the_directory_is_not_followed() {
    let site = Site::new();
    let elsewhere = site.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    set_mode(&elsewhere, 0o700);
    symlink(&elsewhere, site.sessions()).unwrap();
    expect_refused(&site, &["is a symbolic link", "not a link"]);
    let with_slash = format!("{}/", site.sessions().display());
    let request = Cgi::new("counter", &site).variable("CGI_SESSION_STORAGE_FILE_DIR", with_slash);
    request.run().expect_failure(500, &["is a symbolic link"]);
    assert_eq!(elsewhere.read_dir().unwrap().count(), 0);
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    for mode in [0o770, 0o702, 0o1777] {
        let site = Site::new();
        site.make_sessions(None);
        set_mode(&site.sessions(), mode);
        let mode = format!("(mode {mode:04o})");
        expect_refused(
            &site,
            &["can be written by others", &mode, "try: chmod 0700"],
        );
        assert!(site.files().is_empty());
    }
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    if !may_act_as_root() {
        return;
    }
    let site = Site::new();
    site.make_sessions(Some((4711, 4711)));
    expect_refused(
        &site,
        &["belongs to uid 4711", "running as uid 0", "try: chown 0"],
    );
    assert!(site.files().is_empty());
}

#[test]
fn a_session_file_of_somebody_else_is_refused() {
    if !may_act_as_root() {
        return;
    }
    let site = Site::new();
    let id = Cgi::new("counter", &site)
        .run()
        .expect(200, "here 1 time")
        .id();
    let file = site.only_file();
    chown(&file, Some(4711), None).unwrap();
    let answer = Cgi::new("counter", &site).visitor(&id).run();
    answer.expect_failure(
        500,
        &[
            file.to_str().unwrap(),
            "belongs to uid 4711",
            "must run as one user",
        ],
    );
}

#[test]
fn a_directory_that_cannot_be_written_is_explained() {
    // Root may write anywhere.
    if is_root() {
        return on_a_read_only_disk_nobody_new_comes_in();
    }
    let site = Site::new();
    site.make_sessions(None);
    set_mode(&site.sessions(), 0o500);
    expect_refused(
        &site,
        &[
            "cannot create a session file in",
            "Permission denied",
            "try: ",
        ],
    );
    assert!(site.files().is_empty());
}

fn on_a_read_only_disk_nobody_new_comes_in() {
    // Clean-up would complain about the disk too.
    let site = Site::with_settings("cleanUpDelay = 0\n");
    site.make_sessions(None);
    let Some(disk) = Disk::mount(&site) else {
        return;
    };
    disk.remount("ro");
    expect_refused(
        &site,
        &[
            "cannot create a session file in",
            "Read-only file system",
            "try: ",
        ],
    );
    Cgi::new("lookup", &site).run().expect(200, "no session");
    assert!(site.files().is_empty());
}

#[test]
fn a_session_on_a_read_only_disk_is_whole_when_the_disk_is_writable_again() {
    if !may_act_as_root() {
        return;
    }
    let site = Site::new();
    site.make_sessions(None);
    let Some(disk) = Disk::mount(&site) else {
        return;
    };
    let id = Cgi::new("counter", &site)
        .run()
        .expect(200, "here 1 time")
        .id();
    disk.remount("ro");
    let answer = Cgi::new("counter", &site).visitor(&id).run();
    answer.expect_failure(
        500,
        &["Read-only file system", site.sessions().to_str().unwrap()],
    );
    disk.remount("rw");
    Cgi::new("counter", &site)
        .visitor(&id)
        .run()
        .expect(200, "here 2 time");
}

#[test]
fn on_a_full_disk_nobody_new_comes_in_and_old_sessions_go_on() {
    if !may_act_as_root() {
        return;
    }
    let site = Site::new();
    site.make_sessions(None);
    let Some(_disk) = Disk::mount(&site) else {
        return;
    };
    let begin = |name: &str| Cgi::new("begin", &site).form(&format!("myname=x&firstname={name}"));
    let id = begin("Jo").run().expect(200, "x").id();
    let files = site.files();
    // Writing ends where the disk does.
    let full = fs::write(site.sessions().join("ballast"), vec![0; 1 << 20]);
    assert!(full.is_err());

    let refused = begin("Ann").run();
    refused.expect_failure(503, &["% of the bytes are free, 1% must be"]);
    begin("Ann").visitor(&id).run().expect(200, "x");
    let growth = begin(&"J".repeat(50_000)).visitor(&id).run();
    growth.expect_failure(500, &["No space left on device"]);
    Cgi::new("follow", &site)
        .visitor(&id)
        .run()
        .expect(200, "Your first name is Ann");
    fs::remove_file(site.sessions().join("ballast")).unwrap();
    assert_eq!(site.files(), files);
}

#[test]
fn where_files_may_not_grow_the_old_session_stays_and_nothing_is_left_behind() {
    let site = Site::new();
    let begin = |name: &str| Cgi::new("begin", &site).form(&format!("myname=x&firstname={name}"));
    let id = begin("Jo").run().expect(200, "x").id();
    let files = site.files();
    let growth = limited(begin(&"J".repeat(50_000)).visitor(&id));
    growth.expect_failure(500, &["File too large", site.sessions().to_str().unwrap()]);
    Cgi::new("follow", &site)
        .visitor(&id)
        .run()
        .expect(200, "Your first name is Jo");
    limited(begin("Ann"))
        .expect_failure(500, &["File too large", site.sessions().to_str().unwrap()]);
    assert_eq!(site.files(), files);
}

/// Runs `begin` where no file may be longer than nothing, which is an error and no signal.
#[track_caller]
fn limited(request: Cgi) -> Outcome {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\""])
        .arg(example("begin"))
        .env_clear()
        .envs(
            request
                .command()
                .get_envs()
                .filter_map(|(k, v)| Some((k, v?))),
        );
    request.run_by(shell)
}

#[test]
fn a_directory_that_was_deleted_is_made_again_and_the_visitor_begins_again() {
    let site = Site::new();
    let id = Cgi::new("counter", &site)
        .run()
        .expect(200, "here 1 time")
        .id();
    fs::remove_dir_all(site.sessions()).unwrap();
    let answer = Cgi::new("counter", &site).visitor(&id).run();
    assert_ne!(answer.expect(200, "here 1 time").id(), id);
}

#[test]
fn a_damaged_session_begins_again_and_is_set_aside() {
    let site = Site::new();
    let id = Cgi::new("counter", &site)
        .run()
        .expect(200, "here 1 time")
        .id();
    let file = site.only_file();
    fs::write(&file, "[{\"v\":1").unwrap();
    let answer = Cgi::new("counter", &site).visitor(&id).run();
    assert_eq!(
        (answer.status, answer.stderr.lines().count()),
        (200, 1),
        "{answer:#?}"
    );
    assert!(answer.body.contains("here 1 time"), "{answer:#?}");
    assert_ne!(answer.id(), id);
    let aside = file.with_extension("corrupt");
    assert_eq!(fs::read_to_string(aside).unwrap(), "[{\"v\":1");
}

#[test]
fn a_session_file_under_another_name_is_not_that_session() {
    let site = Site::new();
    let begin = |name: &str| Cgi::new("begin", &site).form(&format!("myname=x&firstname={name}"));
    let one = begin("One").run().expect(200, "x").id();
    let first = site.only_file();
    let two = begin("Two").run().expect(200, "x").id();
    let names = site.files();
    let second = names
        .iter()
        .map(|name| site.sessions().join(name))
        .find(|path| *path != first);
    copy(&first, &second.unwrap());
    let answer = Cgi::new("follow", &site).visitor(&two).run();
    assert_eq!(
        (answer.status, answer.stderr.lines().count()),
        (404, 1),
        "{answer:#?}"
    );
    Cgi::new("follow", &site)
        .visitor(&one)
        .run()
        .expect(200, "Your first name is One");
}

#[test]
fn what_is_no_file_in_the_place_of_a_session_is_refused_and_left_alone() {
    for planted in ["mkdir", "mkfifo", "ln -s /etc/passwd"] {
        let site = Site::new();
        let id = Cgi::new("counter", &site)
            .run()
            .expect(200, "here 1 time")
            .id();
        let file = site.only_file();
        fs::remove_file(&file).unwrap();
        let mut words = planted.split(' ');
        let mut command = Command::new(words.next().unwrap());
        assert!(command.args(words).arg(&file).status().unwrap().success());
        let answer = Cgi::new("counter", &site).visitor(&id).run();
        answer.expect_failure(500, &[file.to_str().unwrap(), "remove it by hand"]);
        assert!(file.symlink_metadata().is_ok());
    }
}

/// A small disk of memory in the place of a site's sessions, taken away with the value.
struct Disk(PathBuf);

impl Disk {
    /// `None` where even root may not mount.
    fn mount(site: &Site) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"]);
        let is_mounted = mount.arg(site.sessions()).status().unwrap().success();
        if !is_mounted {
            testkit::skip("mounting is not permitted");
        }
        is_mounted.then(|| Disk(site.sessions()))
    }

    fn remount(&self, mode: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{mode}")]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // With nobody there to be told, the directory would stay.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
