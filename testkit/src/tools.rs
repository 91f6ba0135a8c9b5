//! What the tests of the tools share: a real store in a directory of its own, and real programs.

use std::process::Output;

use crate::prelude::*;
use cgi_session::Snapshot;

use crate::sessions::{header_of, set};
pub use crate::skip::{is_installed, not_installed, skip};

/// A user that is not root, by number: it needs no entry in the system's list.
pub const SOMEBODY: u32 = 4711;
pub const SOMEBODY_ELSE: u32 = 4712;
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A configuration file beside the directory, which sets nothing.
const NOTHING_SET: &str = "nothing.ini";

/// A directory of sessions, alone in a temporary directory that everybody may pass through.
pub struct Site {
    place: TempDir,
    pub directory: PathBuf,
}

/// A session of a [`Site`].
pub struct Stored {
    pub path: PathBuf,
    cookie: String,
}

impl Stored {
    /// The Cookie header of the visitor whose session it is.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// What an administrator calls it.
    pub fn digest(&self) -> &str {
        self.path.file_stem().unwrap().to_str().unwrap()
    }
}

impl Site {
    pub fn new() -> Self {
        Site::in_place(&env::temp_dir())
    }

    /// A site of a test that acts as root; `None` where it cannot.
    pub fn as_root() -> Option<Self> {
        is_root().then(Site::new)
    }

    /// A site that does not lie in /tmp; `None` where nothing else can be written.
    pub fn outside_tmp() -> Option<Self> {
        let places = [
            crate::profile_directory(),
            PathBuf::from("/var/lib"),
            env::home_dir().unwrap_or_default(),
        ];
        let is_outside =
            |place: &&PathBuf| !place.starts_with("/tmp") && !place.starts_with("/var/tmp");
        let can_write = |place: &&PathBuf| tempfile::tempdir_in(place).is_ok();
        let place = places.iter().filter(is_outside).find(can_write);
        if place.is_none() {
            skip("no directory outside /tmp can be written");
        }
        place.map(|place| Site::in_place(place))
    }

    pub fn in_place(place: &Path) -> Self {
        let place = tempfile::tempdir_in(place).unwrap();
        let directory = place.path().join("sessions");
        fs::create_dir(&directory).unwrap();
        set_mode(place.path(), 0o711);
        set_mode(&directory, 0o700);
        fs::write(place.path().join(NOTHING_SET), "[session]\n").unwrap();
        Site { place, directory }
    }

    /// The directory that holds the directory.
    pub fn parent(&self) -> &Path {
        self.place.path()
    }

    pub fn manager(&self) -> SessionManager {
        self.manager_with(&[])
    }

    /// A program of the site with settings of its own.
    pub fn manager_with(&self, settings: &[(&str, &str)]) -> SessionManager {
        let config = Config::new().set("storageFileDir", &self.directory);
        SessionManager::new(set(config.unwrap(), settings)).unwrap()
    }

    /// Stores a session that is fresh.
    pub fn session(&self) -> Stored {
        self.session_by(&self.manager())
    }

    /// Stores a fresh session by a program with settings of its own.
    pub fn session_by(&self, manager: &SessionManager) -> Stored {
        let before = self.names();
        let mut session = manager.start("").unwrap();
        session.insert("pageViews", 7).unwrap();
        let cookie = header_of(session.commit().unwrap());
        let name = self.names().difference(&before).next().cloned();
        let path = self.directory.join(name.unwrap());
        Stored { path, cookie }
    }

    /// Stores a session that nobody has used for two hours.
    pub fn expired_session(&self) -> Stored {
        let stored = self.session();
        set_age(&stored.path, 2 * HOUR);
        stored
    }

    /// Stores many sessions at once, all expired, beside those that are there.
    pub fn expired_sessions(&self, number: usize) -> BTreeSet<String> {
        let (before, manager) = (self.names(), self.manager());
        for _ in 0..number {
            let mut session = manager.start("").unwrap();
            session.insert("pageViews", 7).unwrap();
            session.commit().unwrap();
        }
        let names: BTreeSet<_> = self.names().difference(&before).cloned().collect();
        for name in &names {
            set_age(&self.directory.join(name), 2 * HOUR);
        }
        names
    }

    pub fn read(&self, stored: &Stored) -> Option<Snapshot> {
        self.manager().read(&stored.cookie).unwrap()
    }

    /// A file under this name, which is not a session's content.
    pub fn file(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, "something").unwrap();
        path
    }

    pub fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Gives the directory and everything in it to another user.
    pub fn give_to(&self, uid: u32) {
        for name in self.names() {
            chown(self.directory.join(name), Some(uid), Some(uid)).unwrap();
        }
        chown(&self.directory, Some(uid), Some(uid)).unwrap();
    }

    /// Writes a configuration file with these lines in section `[session]`.
    pub fn configuration(&self, lines: &str) -> PathBuf {
        let path = self.place.path().join("site.ini");
        fs::write(&path, format!("[session]\n{lines}\n")).unwrap();
        path
    }

    /// A configuration file that sets nothing, whatever the machine has in /etc.
    pub fn nothing_set(&self) -> PathBuf {
        self.parent().join(NOTHING_SET)
    }

    /// The clean-up with a configuration that sets nothing, whatever the machine has in /etc.
    pub fn cleanup_program(&self) -> Command {
        let mut command = cleanup_program();
        command.env("CGI_SESSION_CONFIG", self.nothing_set());
        command
    }

    /// `cgi-session` with a subcommand, and a configuration that sets nothing.
    pub fn tool(&self, subcommand: &str) -> Command {
        let mut command = tool(subcommand);
        command.env("CGI_SESSION_CONFIG", self.nothing_set());
        command
    }

    /// `cgi-session` about this directory, for nobody's request.
    pub fn about(&self, subcommand: &str) -> Command {
        let mut command = self.tool(subcommand);
        command.env("CGI_SESSION_STORAGE_FILE_DIR", &self.directory);
        for name in ["HTTP_COOKIE", "SESSION_VALUES", "REQUEST_METHOD", "HTTPS"] {
            command.env_remove(name);
        }
        command
    }

    /// The same, run to its end.
    #[track_caller]
    pub fn run(&self, arguments: impl Words) -> Finished {
        self.run_with(&[], arguments)
    }

    /// The same, started by a CGI program that has a visitor with this Cookie header.
    #[track_caller]
    pub fn run_for(&self, cookie: &str, arguments: impl Words) -> Finished {
        self.run_with(&[("HTTP_COOKIE", cookie)], arguments)
    }

    /// The same with these variables.
    #[track_caller]
    pub fn run_with(&self, variables: &[(&str, &str)], arguments: impl Words) -> Finished {
        let arguments = arguments.words();
        let (subcommand, rest) = arguments.split_first().unwrap();
        let mut command = self.about(subcommand);
        Finished::of(command.envs(variables.iter().copied()).args(rest))
    }

    /// `cgi-session` with a configuration file of these lines.
    #[track_caller]
    pub fn run_under(&self, lines: &str, arguments: impl Words) -> Finished {
        let file = self.configuration(lines);
        let arguments = arguments.words();
        let (subcommand, rest) = arguments.split_first().unwrap();
        Finished::of(tool(subcommand).arg("--config").arg(file).args(rest))
    }

    /// Runs a command that prints exactly this.
    #[track_caller]
    pub fn prints(&self, arguments: impl Words, expected: &str) {
        self.run(arguments).exits_with(0).prints(expected);
    }

    /// The same for a visitor.
    #[track_caller]
    pub fn prints_for(&self, cookie: &str, arguments: impl Words, expected: &str) {
        let finished = self.run_for(cookie, arguments);
        finished.exits_with(0).prints(expected);
    }

    /// Runs a command that fails, and says why.
    #[track_caller]
    pub fn refuses(&self, arguments: impl Words, status: i32, complaint: &str) {
        let finished = self.run(arguments);
        finished.exits_with(status).complains(complaint);
    }

    /// Stores a session of a user, and returns its digest.
    pub fn session_of(&self, user: &str) -> String {
        let config = Config::new().set("storageFileDir", &self.directory);
        let store = FileStore::new(config.unwrap()).unwrap();
        let now = SystemTime::now();
        let digest = SessionId::generate().unwrap().digest();
        let record = Record::new(now).with_user(Some(user));
        store.create(&digest, &record, now).unwrap().unwrap();
        digest.to_string()
    }

    /// The clean-up of this directory.
    pub fn cleanup(&self, arguments: impl Words) -> Finished {
        let mut command = self.cleanup_program();
        let directory = command.arg("--storage-file-dir").arg(&self.directory);
        Finished::of(directory.args(arguments.words()))
    }

    /// `cgi-session check` of this directory.
    pub fn check(&self, arguments: impl Words) -> Finished {
        let mut command = self.tool("check");
        let command = command.env("CGI_SESSION_STORAGE_FILE_DIR", &self.directory);
        Finished::of(command.args(arguments.words()))
    }
}

/// A command that inherits no setting of ours.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    for (name, _) in env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CGI_SESSION_") {
            command.env_remove(name);
        }
    }
    command
}

pub fn cleanup_program() -> Command {
    program(crate::tool("cgi-session-cleanup"))
}

/// `cgi-session` with a subcommand.
pub fn tool(subcommand: &str) -> Command {
    let mut command = program(crate::tool("cgi-session"));
    command.arg(subcommand);
    command
}

/// What a program did that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        Finished::from(command.output().unwrap())
    }

    #[track_caller]
    pub fn exits_with(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn says_nothing(self) -> Self {
        assert_eq!((self.stdout.as_str(), self.stderr.as_str()), ("", ""));
        self
    }

    #[track_caller]
    pub fn complains(self, expected: &str) -> Self {
        assert!(self.stderr.contains(expected), "{expected}: {self:#?}");
        self
    }

    #[track_caller]
    pub fn says(self, expected: &str) -> Self {
        assert!(self.stdout.contains(expected), "{expected}: {self:#?}");
        self
    }

    /// Expects exactly this on stdout, and silence on stderr.
    #[track_caller]
    pub fn prints(self, expected: &str) -> Self {
        assert_eq!((self.stdout.as_str(), self.stderr.as_str()), (expected, ""));
        self
    }

    /// Expects a text nowhere.
    #[track_caller]
    pub fn lacks(self, text: &str) -> Self {
        let said = [&self.stdout, &self.stderr];
        assert!(
            !said.iter().any(|it| it.contains(text)),
            "{text}: {self:#?}"
        );
        self
    }

    /// Expects so many lines on stdout and on stderr.
    #[track_caller]
    pub fn has_lines(self, out: usize, err: usize) -> Self {
        let seen = (self.stdout.lines().count(), self.stderr.lines().count());
        assert_eq!(seen, (out, err), "{self:#?}");
        self
    }

    /// Expects these members in the JSON on stdout, such as `{"live": 1}`.
    #[track_caller]
    pub fn reports(self, members: &Value) -> Self {
        let report = self.json();
        for (name, expected) in members.as_object().unwrap() {
            assert_eq!(&report[name], expected, "{name}: {report:#}");
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Finished {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub fn set_age(path: &Path, age: Duration) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

/// A name that a session file could have.
pub fn session_name() -> String {
    format!("{}.json", "a1".repeat(32))
}

/// What a file of that name holds when a later release has written it.
pub fn session_of_a_later_version() -> String {
    let (head, data) = (
        r#"[{"g":                   1,"h":"7fd2e00599f13fd6","s":"0123456789abcdef","n":        27,"d":"#,
        r#"{"v":2,"anything":["else"]}"#,
    );
    format!("{:<511}\n{:<511}]", format!("{head}{data}}}"), ",null")
}

/// Only root can act as another user; without it the test has nothing to try.
pub fn is_root() -> bool {
    let place = tempfile::tempdir().unwrap();
    let is_root = owner(place.path()) == 0;
    if !is_root {
        skip("not running as root");
    }
    is_root
}
