//! A `MariaDB` server of a test's own: on a port and a socket in a directory that goes with it.

use std::sync::PoisonError;

use crate::prelude::*;
use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};

use crate::outside::{Watched, run_as};

/// Ends the server when its own input ends, which it does with the test, however that ends. The directory
/// goes too, unless a line says that it stays.
const WATCH: &str =
    "\"$@\" </dev/null >>\"$0/log\" 2>&1 & echo $!; read -r stays; kill -KILL $! 2>/dev/null; wait
    [ \"$stays\" ] || rm -rf -- \"$0\"";
/// What the programs are called that use the server, and their password.
pub const USER: &str = "shop";
pub const PASSWORD: &str = "four-words-of-salt";
/// The system's tables are made by one server at a time: several at once ask for more asynchronous
/// I/O than a machine may grant.
static INSTALLING: Mutex<()> = Mutex::new(());
/// So that no server asks for any.
const WITHOUT_AIO: &str = "--innodb-use-native-aio=0";

/// A server that does not outlive its test.
pub struct MysqlServer {
    running: Option<Watched>,
    directory: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    /// Whom root runs it as, if not as itself.
    user: Option<(u32, u32)>,
}

impl MysqlServer {
    /// A server with an empty database; `None` where there is none installed.
    #[track_caller]
    pub fn start(settings: &[&str]) -> Option<Self> {
        let mut server = MysqlServer::install(settings, None)?;
        server.run();
        server.create_database();
        Some(server)
    }

    /// A server that does not run yet; root runs it as this user, or as itself.
    #[track_caller]
    pub fn install(settings: &[&str], user: Option<(u32, u32)>) -> Option<Self> {
        if !is_installed("mariadbd") {
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("my")
            .tempdir_in("/tmp")
            .unwrap();
        give(directory.path(), user);
        let server = MysqlServer {
            directory,
            port: free_port(),
            settings: settings.iter().map(ToString::to_string).collect(),
            running: None,
            user,
        };
        let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", WITHOUT_AIO, "--skip-test-db"]);
        install.arg("--auth-root-authentication-method=normal");
        install.arg(format!("--datadir={}", server.data().display()));
        install.env("TMPDIR", server.directory.path());
        let made = server.as_its_user(&mut install).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Some(server)
    }

    /// An empty database, and the user whose it is.
    #[track_caller]
    pub fn create_database(&self) {
        self.tell(&format!("CREATE DATABASE {USER}"));
        self.tell(&format!(
            "CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'"
        ));
        self.tell(&format!("GRANT ALL ON {USER}.* TO '{USER}'@'%'"));
    }

    /// The same with more settings.
    #[track_caller]
    pub fn run_with(&mut self, more: &[String]) {
        let place = self.directory.path();
        let mut command = Command::new("sh");
        command.args(["-c", WATCH]);
        command.arg(place).arg(program("mariadbd"));
        command.args(["--no-defaults", WITHOUT_AIO]);
        command.arg(format!("--datadir={}", self.data().display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", place.join("pid").display()));
        command.arg(format!("--port={}", self.port));
        // A server removes what others of its kind have in a place for temporary files.
        command.arg(format!("--tmpdir={}", place.display()));
        command.args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
        ]);
        command.args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M"]);
        // What the machine has been given outlives the server, synced or not.
        command.args([
            "--max-connections=300",
            "--innodb-flush-log-at-trx-commit=2",
        ]);
        command.args(&self.settings).args(more);
        self.running = Some(Watched::start(self.as_its_user(&mut command)));
        wait_until("MariaDB answers", || {
            self.connect("root", "", "mysql").is_ok()
        });
    }

    /// Root must say that it means itself.
    fn as_its_user<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        if is_root() && self.user.is_none() {
            command.arg("--user=root");
        }
        run_as(command, self.user)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The database, through the socket.
    pub fn socket_url(&self) -> String {
        let socket = self.socket();
        format!(
            "mysql://{USER}:{PASSWORD}@localhost/{USER}?socket={}",
            socket.display()
        )
    }

    fn connect(&self, user: &str, password: &str, database: &str) -> mysql::Result<Conn> {
        let socket = self.socket();
        let options = OptsBuilder::new().socket(socket.to_str()).user(Some(user));
        let options = options.pass(Some(password)).db_name(Some(database));
        Conn::new(options)
    }

    /// Another program with the same database open.
    #[track_caller]
    pub fn client(&self) -> Conn {
        self.connect(USER, PASSWORD, USER).unwrap()
    }

    /// Carries out a statement of the server's owner.
    #[track_caller]
    pub fn tell(&self, statement: &str) {
        let mut owner = self.connect("root", "", "mysql").unwrap();
        owner.query_drop(statement).unwrap();
    }

    /// The last column of the first row, as text, for the server's owner.
    #[track_caller]
    pub fn ask(&self, question: &str) -> Option<String> {
        let mut owner = self.connect("root", "", "mysql").unwrap();
        let row: mysql::Row = owner.query_first(question).unwrap()?;
        row.get(row.len() - 1)
    }

    fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }
}

impl DatabaseServer for MysqlServer {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn url(&self) -> String {
        format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{}/{USER}", self.port)
    }

    #[track_caller]
    fn run(&mut self) {
        self.run_with(&[]);
    }

    fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.running.iter().for_each(Watched::has_ended);
        self.kill();
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    fn resume(&self) {
        self.signal(Signal::CONT);
    }
}

fn program(name: &str) -> PathBuf {
    let usual = Path::new("/usr/sbin").join(name);
    if usual.is_file() { usual } else { name.into() }
}
