//! A `MariaDB` server of the test's own, on a free port and in a directory of its own.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use mysql::prelude::Queryable as _;
use mysql::{Conn, Opts};
use rustix::process::{Pid, Signal};

use crate::support::{is_installed, is_root, wait_until};

/// What `MariaDB` calls the user of the examples, and the password.
const USER: &str = "shop";
const PASSWORD: &str = "four-words-of-salt";

/// The system's tables are made by one server at a time: several at once ask for more asynchronous
/// I/O than a machine may grant.
static INSTALLING: Mutex<()> = Mutex::new(());
/// So that no server asks for any.
const WITHOUT_AIO: &str = "--innodb-use-native-aio=0";

/// A server with an empty database; dropped, it is stopped.
pub(crate) struct MariaDb {
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl MariaDb {
    /// `None` where there is no `MariaDB` and nobody insists on one.
    pub(crate) fn start() -> Option<Self> {
        if !is_installed("mariadbd") {
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("db")
            .tempdir_in("/tmp")
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = MariaDb {
            directory,
            port,
            process: None,
        };
        server.install();
        drop(listener);
        server.go_on();
        Some(server)
    }

    /// Makes the system's tables, a database and a user.
    fn install(&self) {
        let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", WITHOUT_AIO]);
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", self.data().display()));
        let made = as_this_user(&mut install).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let accounts = self.directory.path().join("accounts.sql");
        let sql = format!(
            "create database shop;\ncreate user '{USER}'@'127.0.0.1' identified by '{PASSWORD}';\n\
             grant all on shop.* to '{USER}'@'127.0.0.1';\n"
        );
        fs::write(accounts, sql).unwrap();
    }

    /// Starts the server, or starts it again after [`MariaDb::stop`].
    pub(crate) fn go_on(&mut self) {
        let place = self.directory.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(place.join("log"))
            .unwrap();
        let mut server = Command::new(program("mariadbd"));
        server.args(["--no-defaults", WITHOUT_AIO]);
        server.arg(format!("--datadir={}", self.data().display()));
        server.arg(format!("--socket={}", place.join("socket").display()));
        server.arg(format!("--pid-file={}", place.join("pid").display()));
        server.arg(format!("--port={}", self.port));
        server.args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
        ]);
        server.args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M"]);
        // Only the first time: the second time they are there.
        let accounts = place.join("accounts.sql");
        if accounts.exists() {
            server.arg(format!("--init-file={}", accounts.display()));
        }
        let started = as_this_user(&mut server)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.process = Some(started.unwrap());
        wait_until("MariaDB answers", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && Conn::new(Opts::from_url(&self.url()).unwrap()).is_ok()
        });
        // It need not have been there.
        let _ = fs::remove_file(accounts);
    }

    /// Ends the server in order; what it holds stays.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let pid = Pid::from_child(&process);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        process.wait().unwrap();
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    pub(crate) fn url_with(&self, password: &str) -> String {
        format!("mysql://{USER}:{password}@127.0.0.1:{}/shop", self.port)
    }

    /// What a program may say about where it is.
    pub(crate) fn place(&self) -> String {
        format!("shop at 127.0.0.1:{} as {USER}", self.port)
    }

    /// Runs a statement.
    pub(crate) fn run(&self, sql: &str) {
        let mut connection = Conn::new(Opts::from_url(&self.url()).unwrap()).unwrap();
        connection.query_drop(sql).unwrap();
    }

    /// What a question for one column is answered.
    pub(crate) fn ask(&self, sql: &str) -> Vec<String> {
        let mut connection = Conn::new(Opts::from_url(&self.url()).unwrap()).unwrap();
        connection.query(sql).unwrap()
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program(name: &str) -> PathBuf {
    let usual = Path::new("/usr/sbin").join(name);
    if usual.is_file() { usual } else { name.into() }
}

/// Root must say that it means itself.
fn as_this_user(command: &mut Command) -> &mut Command {
    if is_root() {
        command.arg("--user=root");
    }
    command
}
