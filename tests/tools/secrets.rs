//! Passwords of databases: no tool ever says one, whatever goes well or wrong, and whoever asks.

use testkit::prelude::*;
use testkit::tools::{program, set_mode};

/// What no tool may say.
const RIGHT: &str = testkit::engines::PASSWORD;
const WRONG: &str = "peppered-and-wrong";
const DIGEST: &str = "9692e67b8378a6f6753f97782d458aa757e947eab2fbdf6b5c187b74561eb78f";

/// Every command about the store, with what it needs to get as far as that.
const COMMANDS: &str = "config,config --json,check,check --json,check --stress --seconds 1,\
    init,init --json,stats,stats --json,list,list --json,show DIGEST,destroy DIGEST,destroy --user ada,\
    get key,set key value,unset key,start,start true,uninstall --yes,\
    uninstall --yes --json";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o600);
        path
    }

    /// A configuration of a server, with these lines.
    fn configuration(&self, lines: &str) -> PathBuf {
        let text = format!("[session]\nlockTimeout = 1s\n{lines}\n");
        self.file("site.ini", &text)
    }
}

/// Runs every command, and returns how many went well; none says a password.
#[track_caller]
fn run_all(place: &Place, configuration: &PathBuf, variables: &[(&str, &str)]) -> usize {
    let mut went_well = 0;
    let prepared = |path: &str| {
        let mut command = program(path);
        command.env("CGI_SESSION_CONFIG", configuration);
        command.env("HTTP_COOKIE", "").env_remove("REQUEST_METHOD");
        command.envs(variables.iter().copied());
        command
    };
    let mut commands: Vec<Command> = Vec::new();
    for arguments in COMMANDS.split(',') {
        let mut command = prepared(env!("CARGO_BIN_EXE_cgi-session"));
        command.args(arguments.replace("DIGEST", DIGEST).split(' '));
        commands.push(command);
    }
    for argument in ["-v", "--dry-run", "--json"] {
        let mut command = prepared(env!("CARGO_BIN_EXE_cgi-session-cleanup"));
        command.arg(argument);
        commands.push(command);
    }
    let files = place.0.path().join("files");
    let text = format!("[session]\nstorageFileDir = {}\n", files.display());
    let other = place.file("files.ini", &text);
    fs::create_dir_all(&files).unwrap();
    set_mode(&files, 0o700);
    for (from, to) in [(configuration, &other), (&other, configuration)] {
        let mut command = prepared(env!("CARGO_BIN_EXE_cgi-session"));
        command.env_remove("CGI_SESSION_CONFIG");
        command.arg("copy").arg("--from").arg(from);
        command.arg("--to").arg(to);
        commands.push(command);
    }
    for mut command in commands {
        let shown = format!("{command:?}");
        let finished = Finished::of(&mut command);
        for said in [&finished.stdout, &finished.stderr] {
            for secret in [RIGHT, WRONG] {
                assert!(!said.contains(secret), "{shown}: {said}");
            }
        }
        went_well += usize::from(finished.status == Some(0));
    }
    went_well
}

/// A server that wants a password, and its address.
fn server() -> Option<(RedisServer, String)> {
    let port = free_port();
    let server = RedisServer::start(["--requirepass", RIGHT, "--port", &port.to_string()])?;
    Some((server, format!("127.0.0.1:{port}")))
}

#[test]
fn no_tool_says_the_password_of_a_store_that_it_uses() {
    let Some((_server, address)) = server() else {
        return;
    };
    let place = Place::new();
    // As an editor writes it that puts a byte order mark first.
    let file = place.file("password", &format!("\u{feff}{RIGHT}\n"));
    let url = format!("storageType = redis\ndatabase = redis://{address}/0");
    let with_url = format!("storageType = redis\ndatabase = redis://:{RIGHT}@{address}/0");
    let from_file = format!("{url}\ndatabasePasswordFile = {}", file.display());
    let beside = format!("{url}\ndatabasePassword = {RIGHT}");
    for (lines, variables) in [
        (with_url.as_str(), &[][..]),
        (&from_file, &[]),
        (&beside, &[]),
        (&url, &[("CGI_SESSION_DATABASE_PASSWORD", RIGHT)]),
    ] {
        let configuration = place.configuration(lines);
        let went_well = run_all(&place, &configuration, variables);
        assert!(went_well >= 12, "only {went_well} went well with {lines}");
    }
}

#[test]
fn no_tool_says_the_password_of_tables() {
    for kind in testkit::engines::installed().filter(|kind| *kind != "redis") {
        let place = Place::new();
        let url = testkit::engines::url(kind).unwrap();
        let without = url.replacen(&format!(":{RIGHT}@"), "@", 1);
        let wrong = url.replacen(RIGHT, WRONG, 1);
        assert!(without != url && wrong != url);
        let lines = |url: &str| format!("storageType = {kind}\ndatabase = {url}\ntable = Secrets");
        let file = place.file("password", &format!("{RIGHT}\n"));
        let from_file = format!("databasePasswordFile = {}", file.display());
        for (lines, variables) in [
            (lines(&url), &[][..]),
            (format!("{}\n{from_file}", lines(&without)), &[]),
            (lines(&without), &[("CGI_SESSION_DATABASE_PASSWORD", RIGHT)]),
        ] {
            let went_well = run_all(&place, &place.configuration(&lines), variables);
            assert!(went_well >= 12, "only {went_well} went well with {lines}");
        }
        let wrong_file = place.file("wrong", &format!("{WRONG}\n"));
        let from_file = format!("databasePasswordFile = {}", wrong_file.display());
        for lines in [
            lines(&wrong),
            lines(&url.replacen("127.0.0.1:", "127.0.0.1:x", 1)),
            lines(&url.replacen("://", ":/", 1)),
            lines(&format!("{url}?sslmode=verify-full&ssl=perhaps")),
            format!("{}\n{from_file}", lines(&without)),
        ] {
            run_all(&place, &place.configuration(&lines), &[]);
        }
    }
}

#[test]
fn no_tool_says_a_password_that_is_wrong_or_of_no_use() {
    let Some((_server, address)) = server() else {
        return;
    };
    let place = Place::new();
    let readable = place.file("password", &format!("{RIGHT}\n"));
    set_mode(&readable, 0o644);
    for lines in [
        format!("storageType = redis\ndatabase = redis://:{WRONG}@{address}/0"),
        format!("storageType = redis\ndatabase = redis://ada:{WRONG}@{address}/0"),
        format!(
            "storageType = redis\ndatabase = redis://:{WRONG}@{address}/0\ndatabasePassword = {RIGHT}"
        ),
        // Nobody is there; no TLS; no such scheme; no such port.
        format!("storageType = redis\ndatabase = redis://:{RIGHT}@127.0.0.1:1/0"),
        format!("storageType = redis\ndatabase = rediss://:{RIGHT}@{address}/0"),
        format!("storageType = redis\ndatabase = rdis://:{RIGHT}@{address}/0"),
        format!("storageType = redis\ndatabase = redis://:{RIGHT}@{address}:x/0"),
        format!(
            "storageType = redis\ndatabase = redis://{address}/0\ndatabasePasswordFile = {}",
            readable.display()
        ),
    ] {
        let configuration = place.configuration(&lines);
        run_all(&place, &configuration, &[]);
    }
}

#[test]
fn a_file_that_everybody_can_read_is_no_place_for_a_password() {
    let place = Place::new();
    let configuration = place.configuration(&format!(
        "storageType = redis\ndatabase = redis://:{RIGHT}@127.0.0.1:1"
    ));
    let check = || {
        let mut command = program(env!("CARGO_BIN_EXE_cgi-session"));
        command.env("CGI_SESSION_CONFIG", &configuration);
        Finished::of(command.args(["check"]))
    };
    assert!(!check().stdout.contains("password:"));
    set_mode(&configuration, 0o644);
    let told = check().says("warning  password: everybody on this machine can read");
    let remedy = format!("&& chmod 0640 {}", configuration.display());
    told.says(&remedy).says("line 4");
    set_mode(&configuration, 0o640);
    assert!(!check().stdout.contains("password:"));
}
