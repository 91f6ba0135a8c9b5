//! The programs of examples/languages behind a real Apache, as its site file runs them.

use testkit::copy;
use testkit::prelude::*;
use testkit::servers::Way;

/// What of these is installed runs beside the counter in Rust; sh always is.
const LANGUAGES: [(&str, &str); 4] = [
    ("sh", "counter.sh"),
    ("python3", "counter.py"),
    ("perl", "counter.pl"),
    ("php", "counter.php"),
];
const VIEWS: u64 = 20;

/// Puts the programs into cgi-bin, and `cgi-session` where they find it: a directory of the server's
/// PATH.
fn install(servers: &Servers) -> Vec<String> {
    let tools = servers.site.tools();
    fs::create_dir(&tools).unwrap();
    copy(&tool("cgi-session"), &tools);
    copy(&servers.site.config(), &tools);
    let mut paths = vec!["/cgi-bin/app/counter".to_owned()];
    for (interpreter, example) in LANGUAGES {
        if is_installed(interpreter) {
            let example_file = repository("examples/languages").join(example);
            copy(&example_file, servers.program().parent().unwrap());
            paths.push(format!("/cgi-bin/{example}"));
        }
    }
    paths
}

/// Runs a test on each way on which Apache runs CGI programs.
fn behind_apache(settings: &str, test: impl Fn(Way, &[String])) {
    let servers = Servers::start(settings);
    let paths = install(&servers);
    let ways = servers.ways().into_iter();
    for way in ways.filter(|way| way.prefix() == "/cgi-bin/app" && way.is_server("Apache")) {
        test(way, &paths);
    }
}

#[test]
fn programs_in_every_language_count_for_one_visitor_at_once() {
    behind_apache("lockTimeout = 2m\n", |way, paths| {
        let mut visitor = way.client();
        for (views, path) in (1..).zip(paths) {
            let page = visitor.get(path).expect(200, "you've been here");
            let page = page.expect_cookies(usize::from(views == 1));
            assert_eq!(page.count(), Some(views), "{path}");
        }
        thread::scope(|scope| {
            for path in paths {
                let mut client = visitor.clone();
                scope.spawn(move || {
                    for _ in 0..VIEWS {
                        client.get(path).expect(200, "you've been here");
                    }
                });
            }
        });
        let languages = u64::try_from(paths.len()).unwrap();
        let last = visitor.get(&way.path("/counter")).count();
        assert_eq!(last, Some(languages * (VIEWS + 1) + 1));
    });
}

#[test]
fn a_form_that_no_program_reads_does_not_cost_the_page() {
    behind_apache("", |way, paths| {
        let mut visitor = way.client();
        let form = "a=b&".repeat(50_000);
        // The one in sh is no whole request of ours: reading the body is its own affair.
        for path in paths.iter().filter(|path| !path.contains(".sh")) {
            visitor.post(path, &form).expect(200, "you've been here");
        }
    });
}
