//! Programs in other languages share the sessions: examples/languages, run as a server runs them.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use testkit::tools::{Finished, Site, Stored};

/// Clients at once for each language, and requests of each client.
const CLIENTS: usize = 4;
const REQUESTS: u64 = 50;

struct Language {
    interpreter: &'static str,
    example: &'static str,
    /// What makes the interpreter run a text.
    option: &'static str,
    /// A text that changes the values and then fails.
    failing: &'static str,
}

const LANGUAGES: [Language; 4] = [
    Language {
        interpreter: "sh",
        example: "counter.sh",
        option: "-c",
        failing: r#"echo '{"pageViews": 99}' > "$SESSION_VALUES"; exit 1"#,
    },
    Language {
        interpreter: "perl",
        example: "counter.pl",
        option: "-e",
        failing: r#"open F, ">", $ENV{SESSION_VALUES}; print F '{"pageViews": 99}'; close F; die "broken""#,
    },
    Language {
        interpreter: "python3",
        example: "counter.py",
        option: "-c",
        failing: "import os\nwith open(os.environ['SESSION_VALUES'], 'w') as f: f.write('{\"pageViews\": 99}')\n\
             raise ValueError('broken')",
    },
    Language {
        interpreter: "php",
        example: "counter.php",
        option: "-r",
        failing: r#"file_put_contents(getenv("SESSION_VALUES"), '{"pageViews": 99}'); throw new Exception("broken");"#,
    },
];

/// The languages whose interpreter is installed. In CI none may be missing.
fn installed() -> impl Iterator<Item = &'static Language> {
    let is_installed = |language: &&Language| testkit::is_installed(language.interpreter);
    LANGUAGES.iter().filter(is_installed)
}

/// A CGI program with a visitor, as a server starts it; `cgi-session` is found by its name.
fn request(site: &Site, program: &Path, cookie: &str) -> Command {
    let mut command = testkit::tools::program(program);
    command
        .env("CGI_SESSION_STORAGE_FILE_DIR", &site.directory)
        .env("CGI_SESSION_LOCK_TIMEOUT", "2m")
        .env("CGI_SESSION_CONFIG", site.nothing_set())
        .env("PATH", path_with_tools())
        .env("REQUEST_METHOD", "GET")
        .env("HTTP_COOKIE", cookie)
        .env_remove("SESSION_VALUES")
        .stdin(Stdio::null());
    command
}

/// The tools, then the system's own interpreters: a version manager's are started by a shell each.
fn path_with_tools() -> OsString {
    let tool = Path::new(env!("CARGO_BIN_EXE_cgi-session"));
    let path = env::var_os("PATH").unwrap_or_default();
    let places = [
        tool.parent().unwrap().to_owned(),
        "/usr/bin".into(),
        "/bin".into(),
    ];
    let places = places.into_iter().chain(env::split_paths(&path));
    env::join_paths(places).unwrap()
}

fn example(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/languages");
    examples.join(name)
}

/// The cookie in a response.
fn cookie(response: &Finished) -> Option<String> {
    let mut lines = response.stdout.lines();
    let cookie = lines.find_map(|line| line.strip_prefix("Set-Cookie: "))?;
    Some(cookie.split(';').next().unwrap().to_owned())
}

fn views(site: &Site, stored: &Stored) -> u64 {
    let values = site.read(stored).unwrap();
    values.require("pageViews").unwrap()
}

#[test]
fn no_language_loses_a_view_when_all_count_at_once() {
    let site = Site::new();
    let stored = site.session();
    let before = views(&site, &stored);
    let languages: Vec<_> = installed().collect();
    let clients = |language: &&Language| vec![example(language.example); CLIENTS];
    let commands: Vec<_> = languages.iter().flat_map(clients).collect();
    thread::scope(|scope| {
        for program in &commands {
            scope.spawn(|| {
                for _ in 0..REQUESTS {
                    let mut request = request(&site, program, stored.cookie());
                    let page = Finished::of(&mut request).exits_with(0);
                    page.says("you've been here");
                }
            });
        }
    });
    let expected = u64::try_from(commands.len()).unwrap() * REQUESTS;
    assert_eq!(views(&site, &stored) - before, expected);
}

#[test]
fn a_program_that_fails_saves_nothing_in_any_language() {
    let site = Site::new();
    let stored = site.session();
    for language in installed() {
        let wrapper = Path::new(env!("CARGO_BIN_EXE_cgi-session"));
        let mut failing = request(&site, wrapper, stored.cookie());
        let text = [language.option, language.failing];
        failing.args(["start", language.interpreter]).args(text);
        let page = Finished::of(&mut failing).exits_with(0);
        let page = page.says("Status: 500").says("</html>");
        let page = page.complains("nothing was saved");
        assert_eq!(cookie(&page), None);
        assert_eq!(views(&site, &stored), 7, "{}", language.interpreter);
    }
}
