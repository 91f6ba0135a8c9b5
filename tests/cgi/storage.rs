//! What becomes of a request when `storageFileDir` is not what it should be: a complete page, one line
//! in the log that says what to do, and whatever was stored before is whole.

use testkit::prelude::*;
use testkit::tools::set_mode;

#[test]
fn a_directory_that_cannot_be_used_is_a_whole_page_and_one_line_that_says_what_to_do() {
    let refused = |site: &Site, directory: &str, words: &str| {
        let request = Cgi::new("counter", site);
        let request = request.variable("CGI_SESSION_STORAGE_FILE_DIR", directory);
        let parts = format!("{}*{words}", directory.trim_end_matches('/'));
        request.run().expect_failure(500, &*parts);
    };
    let site = Site::new();
    let uid = rustix::process::geteuid().as_raw();
    let remedy = format!("try: install -d -m 0700 -o {uid}");
    let words = format!("cannot create*No such file*{remedy}");
    let missing = site.path().join("no/such/directory");
    refused(&site, missing.to_str().unwrap(), &words);
    assert!(!site.path().join("no").exists());

    let elsewhere = site.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    set_mode(&elsewhere, 0o700);
    symlink(&elsewhere, site.sessions()).unwrap();
    let link = site.sessions().into_os_string().into_string().unwrap();
    for directory in [&link, &format!("{link}/")] {
        refused(&site, directory, "is a symbolic link");
    }
    set_mode(&elsewhere, 0o702);
    let elsewhere = elsewhere.to_str().unwrap();
    let words = "written by others*(mode 0702)*try: chmod 0700";
    refused(&site, elsewhere, words);
    // Root may write anywhere.
    if !is_root() {
        set_mode(elsewhere.as_ref(), 0o500);
        let words = "cannot create a session file in*Permission denied*try: ";
        refused(&site, elsewhere, words);
    }
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_clean_up_inside_a_request_leaves_what_takes_longer_than_a_moment() {
    let site = Site::new();
    site.make_sessions(None);
    let long_ago = SystemTime::now() - Duration::from_secs(60 * 24 * 3600);
    for number in 0..20_000 {
        // As digests are: some with each two digits.
        let name = format!("{:02x}{number:062x}.corrupt", number % 256);
        let file = fs::File::create(site.sessions().join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    Cgi::new("counter", &site).run().expect(200, "here 1 time");
    let left = site.files().len();
    assert!(1 < left && left <= 20_000, "{left} files are left");
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
    let seen = (answer.status, answer.stderr.lines().count());
    assert_eq!(seen, (200, 1), "{answer:#?}");
    assert!(answer.body.contains("here 1 time"), "{answer:#?}");
    assert_ne!(answer.id(), id);
    let aside = file.with_extension("corrupt");
    assert_eq!(fs::read_to_string(aside).unwrap(), "[{\"v\":1");
}
