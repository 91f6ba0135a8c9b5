//! Programs in other languages share the sessions: examples/languages, run as a server runs them.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use testkit::tools::{Finished, Site};

/// Clients at once for each language, and requests of each client.
const CLIENTS: u64 = 4;
const REQUESTS: u64 = 50;

struct Language {
    interpreter: &'static str,
    example: &'static str,
    /// What makes the interpreter run a text, and one that changes the values and then fails.
    failure: (&'static str, &'static str),
}

const LANGUAGES: [Language; 4] = [
    Language {
        interpreter: "sh",
        example: "counter.sh",
        failure: (
            "-c",
            r#"echo '{"pageViews": 99}' > "$SESSION_VALUES"; exit 1"#,
        ),
    },
    Language {
        interpreter: "perl",
        example: "counter.pl",
        failure: (
            "-e",
            r#"open F, ">", $ENV{SESSION_VALUES}; print F '{"pageViews": 99}'; close F; die "broken""#,
        ),
    },
    Language {
        interpreter: "python3",
        example: "counter.py",
        failure: (
            "-c",
            "import os\nwith open(os.environ['SESSION_VALUES'], 'w') as f: f.write('{\"pageViews\": 99}')\n\
             raise ValueError('broken')",
        ),
    },
    Language {
        interpreter: "php",
        example: "counter.php",
        failure: (
            "-r",
            r#"file_put_contents(getenv("SESSION_VALUES"), '{"pageViews": 99}'); throw new Exception("broken");"#,
        ),
    },
];

/// The languages whose interpreter is installed. In CI none may be missing.
fn installed() -> impl Iterator<Item = &'static Language> {
    LANGUAGES
        .iter()
        .filter(|language| testkit::tools::is_installed(language.interpreter))
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
    let tools = Path::new(env!("CARGO_BIN_EXE_cgi-session"))
        .parent()
        .unwrap();
    let path = env::var_os("PATH").unwrap_or_default();
    let places = [tools.to_owned(), "/usr/bin".into(), "/bin".into()];
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

#[test]
fn no_language_loses_a_view_when_all_count_at_once() {
    let site = Site::new();
    let stored = site.session();
    let before = site
        .read(&stored)
        .unwrap()
        .require::<u64>("pageViews")
        .unwrap();
    let languages: Vec<_> = installed().collect();
    let commands: Vec<_> = languages
        .iter()
        .flat_map(|language| (0..CLIENTS).map(|_| example(language.example)))
        .collect();
    thread::scope(|scope| {
        for program in &commands {
            scope.spawn(|| {
                for _ in 0..REQUESTS {
                    let mut request = request(&site, program, stored.cookie());
                    Finished::of(&mut request)
                        .exits_with(0)
                        .says("you've been here");
                }
            });
        }
    });
    let expected = u64::try_from(languages.len()).unwrap() * CLIENTS * REQUESTS;
    let views = site
        .read(&stored)
        .unwrap()
        .require::<u64>("pageViews")
        .unwrap();
    assert_eq!(views - before, expected);
}

#[test]
fn a_program_that_fails_saves_nothing_in_any_language() {
    let site = Site::new();
    let stored = site.session();
    for language in installed() {
        let wrapper = Path::new(env!("CARGO_BIN_EXE_cgi-session"));
        let mut failing = request(&site, wrapper, stored.cookie());
        let (option, text) = language.failure;
        failing.args(["start", language.interpreter, option, text]);
        let page = Finished::of(&mut failing).exits_with(0);
        let page = page
            .says("Status: 500")
            .says("</html>")
            .complains("nothing was saved");
        assert_eq!(cookie(&page), None);
        let views = site
            .read(&stored)
            .unwrap()
            .require::<u64>("pageViews")
            .unwrap();
        assert_eq!(views, 7, "{}", language.interpreter);
    }
}
