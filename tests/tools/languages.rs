//! Programs in other languages that fail; those of examples/languages count behind a server in tests/servers.

use testkit::prelude::*;
use testkit::tools::Site;

struct Language {
    interpreter: &'static str,
    /// What makes the interpreter run a text.
    option: &'static str,
    /// A text that changes the values and then fails.
    failing: &'static str,
}

const LANGUAGES: [Language; 4] = [
    Language {
        interpreter: "sh",
        option: "-c",
        failing: r#"echo '{"pageViews": 99}' > "$SESSION_VALUES"; exit 1"#,
    },
    Language {
        interpreter: "perl",
        option: "-e",
        failing: r#"open F, ">", $ENV{SESSION_VALUES}; print F '{"pageViews": 99}'; close F; die "broken""#,
    },
    Language {
        interpreter: "python3",
        option: "-c",
        failing: "import os\nwith open(os.environ['SESSION_VALUES'], 'w') as f: f.write('{\"pageViews\": 99}')\n\
             raise ValueError('broken')",
    },
    Language {
        interpreter: "php",
        option: "-r",
        failing: r#"file_put_contents(getenv("SESSION_VALUES"), '{"pageViews": 99}'); throw new Exception("broken");"#,
    },
];

#[test]
fn a_program_that_fails_saves_nothing_in_any_language() {
    let site = Site::new();
    let stored = site.session();
    // In CI none may be missing.
    let is_installed = |language: &&Language| testkit::is_installed(language.interpreter);
    for language in LANGUAGES.iter().filter(is_installed) {
        let mut failing = site.about("start");
        failing.env("REQUEST_METHOD", "GET");
        failing.env("HTTP_COOKIE", stored.cookie());
        let text = [language.option, language.failing];
        failing.arg(language.interpreter).args(text);
        let page = Finished::of(failing.stdin(Stdio::null())).exits_with(0);
        let page = page.says("Status: 500").says("</html>");
        let page = page.complains("nothing was saved");
        assert!(!page.stdout.contains("Set-Cookie"), "{page:?}");
        let views = site.read(&stored).unwrap().require::<u64>("pageViews");
        assert_eq!(views.unwrap(), 7, "{}", language.interpreter);
    }
}
