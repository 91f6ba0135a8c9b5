//! The programs of examples/languages behind a real Apache, as its site file runs them.

use std::fs;
use std::thread;

use testkit::apache::{Apache, with_both};
use testkit::{copy, is_installed, repository, tool};

/// What of these is installed runs beside the counter in Rust; sh always is.
const LANGUAGES: [(&str, &str); 4] = [
    ("sh", "counter.sh"),
    ("python3", "counter.py"),
    ("perl", "counter.pl"),
    ("php", "counter.php"),
];
const VIEWS: u64 = 10;

/// Puts the programs into cgi-bin, and `cgi-session` where they find it: a directory of the server's
/// PATH.
fn install(apache: &Apache) -> Vec<String> {
    let tools = apache.tools();
    fs::create_dir(&tools).unwrap();
    copy(&tool("cgi-session"), &tools);
    copy(&apache.site().config(), &tools);
    let mut paths = vec!["/cgi-bin/counter".to_owned()];
    for (interpreter, example) in LANGUAGES {
        if is_installed(interpreter) {
            let example_file = repository("examples/languages").join(example);
            copy(&example_file, &apache.programs());
            paths.push(format!("/cgi-bin/{example}"));
        }
    }
    paths
}

#[test]
fn programs_in_every_language_count_for_one_visitor_at_once() {
    with_both("lockTimeout = 2m\n", |apache| {
        let paths = install(apache);
        let mut visitor = apache.client();
        for (views, path) in (1..).zip(&paths) {
            let page = visitor.get(path).expect(200, "you've been here");
            let page = page.expect_cookies(usize::from(views == 1));
            assert_eq!(page.count(), Some(views), "{path}");
        }
        thread::scope(|scope| {
            for path in &paths {
                let mut client = visitor.clone();
                scope.spawn(move || {
                    for _ in 0..VIEWS {
                        client.get(path).expect(200, "you've been here");
                    }
                });
            }
        });
        let languages = u64::try_from(paths.len()).unwrap();
        let last = visitor.get("/cgi-bin/counter").count();
        assert_eq!(last, Some(languages * (VIEWS + 1) + 1));
        assert_eq!(apache.site().files().len(), 1);
    });
}

#[test]
fn a_form_that_no_program_reads_does_not_cost_the_page() {
    with_both("", |apache| {
        let paths = install(apache);
        let mut visitor = apache.client();
        let form = "a=b&".repeat(50_000);
        // The one in sh is no whole request of ours: reading the body is its own affair.
        for path in paths.iter().filter(|path| !path.contains(".sh")) {
            visitor.post(path, &form).expect(200, "you've been here");
        }
    });
}
