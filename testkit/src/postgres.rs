//! A `PostgreSQL` server of a test's own: on a port and a socket in a directory that goes with it.

use crate::outside::{self, Watched, send_to, user_of_root};
use crate::prelude::*;

/// Ends the server when its own input ends, which it does with the test, however that ends. The directory
/// goes too, unless a line says that it stays.
const WATCH: &str =
    "\"$@\" </dev/null >/dev/null 2>>\"$0/log\" & echo $!; read -r stays; kill -QUIT $! 2>/dev/null; wait
    [ \"$stays\" ] || rm -rf -- \"$0\"";
/// What the programs are called that use the server, and their password.
pub const USER: &str = "shop";
pub const PASSWORD: &str = "four-words-of-salt";
/// The owner of everything, who needs no password on the socket.
const OWNER: &str = "postgres";

/// A server that does not outlive its test.
pub struct PostgresServer {
    running: Option<Watched>,
    directory: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    settings: Vec<String>,
}

impl PostgresServer {
    /// A server with an empty database; `None` where there is none installed.
    #[track_caller]
    pub fn start(settings: &[&str]) -> Option<Self> {
        let mut server = PostgresServer::new(programs()?, settings);
        let mut initdb = server.command(&server.programs.join("initdb"));
        initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8", "-U", OWNER]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        let made = initdb.arg("-D").arg(server.data()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        // It may be set to listen for other hosts.
        let mut access = File::options()
            .append(true)
            .open(server.data().join("pg_hba.conf"))
            .unwrap();
        access
            .write_all(b"host all all all scram-sha-256\n")
            .unwrap();
        server.run();
        server.tell(&format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"));
        server.tell(&format!("CREATE DATABASE {USER} OWNER {USER}"));
        Some(server)
    }

    /// A place and a port for a server.
    fn new(programs: PathBuf, settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("pg")
            .tempdir_in("/tmp")
            .unwrap();
        give(directory.path());
        PostgresServer {
            directory,
            programs,
            port: free_port(),
            settings: settings.iter().map(ToString::to_string).collect(),
            running: None,
        }
    }

    /// A command as a user who may run a server, which root may not.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path());
        command.env_remove("PGDATA").env("LC_ALL", "C");
        as_its_user(&mut command);
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> PathBuf {
        self.directory
            .path()
            .join(format!(".s.PGSQL.{}", self.port))
    }

    /// The database, through the socket, where no password is asked for.
    pub fn socket_url(&self) -> String {
        let directory = self.directory.path().display();
        format!(
            "postgres://{USER}@/{USER}?host={directory}&port={}",
            self.port
        )
    }

    fn connect(&self, user: &str, database: &str) -> Result<postgres::Client, postgres::Error> {
        postgres::Config::new()
            .host_path(self.directory.path())
            .port(self.port)
            .user(user)
            .dbname(database)
            .connect(postgres::NoTls)
    }

    /// Another program with the same database open.
    #[track_caller]
    pub fn client(&self) -> postgres::Client {
        self.connect(USER, USER).unwrap()
    }

    /// Carries out a statement of the server's owner.
    #[track_caller]
    pub fn tell(&self, statement: &str) {
        let mut owner = self.connect(OWNER, "postgres").unwrap();
        owner.batch_execute(statement).unwrap();
    }

    /// The first column of the first row, as text.
    #[track_caller]
    pub fn ask(&self, question: &str) -> Option<String> {
        answer(&mut self.client(), question)
    }

    /// A server that follows this one and may take its place.
    #[track_caller]
    pub fn standby(&self) -> Self {
        let standby = PostgresServer::new(self.programs.clone(), &[]);
        let mut copy = standby.command(&standby.programs.join("pg_basebackup"));
        copy.arg("-h").arg(self.directory.path());
        copy.args(["-p", &self.port.to_string(), "-U", OWNER]);
        copy.args(["--checkpoint=fast", "--write-recovery-conf", "-D"]);
        let made = copy.arg(standby.data()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut standby = standby;
        standby.run();
        standby
    }

    fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.running.as_ref().unwrap().pid().as_raw_nonzero();
        let tasks = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(tasks).unwrap();
        let children = children.split_whitespace().map(|child| child.parse().ok());
        children.flatten().filter_map(Pid::from_raw).collect()
    }
}

impl DatabaseServer for PostgresServer {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn url(&self) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{USER}",
            self.port
        )
    }

    #[track_caller]
    fn run(&mut self) {
        let place = self.directory.path();
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", WATCH]).arg(place);
        command.arg(self.programs.join("postgres"));
        command.arg("-D").arg(self.data());
        command.arg("-k");
        command.arg(place).args(["-p", &self.port.to_string()]);
        // What the machine has been given outlives the server, synced or not.
        for setting in [
            "listen_addresses=127.0.0.1",
            "max_connections=300",
            "fsync=off",
            "shared_buffers=16MB",
        ] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.running = Some(Watched::start(&mut command));
        wait_until("PostgreSQL answers", || {
            self.connect(OWNER, "postgres").is_ok()
        });
    }

    fn stop(&mut self) {
        self.signal(Signal::INT);
        self.running.iter().for_each(Watched::has_ended);
        self.kill();
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn freeze(&self) {
        // From then on it has no more children.
        self.signal(Signal::STOP);
        for child in self.children() {
            send_to(child, Signal::STOP);
        }
    }

    fn resume(&self) {
        for child in self.children() {
            send_to(child, Signal::CONT);
        }
        self.signal(Signal::CONT);
    }
}

/// The first column of the first row, as text.
#[track_caller]
pub fn answer(client: &mut postgres::Client, question: &str) -> Option<String> {
    let messages = client.simple_query(question).unwrap();
    messages.iter().find_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// Where the server's programs are: Debian has them in no PATH.
#[track_caller]
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let places = versions.map(|version| version.unwrap().path().join("bin"));
    let newest = places.filter(|place| place.join("initdb").is_file()).max();
    if newest.is_some() || !is_installed("initdb") {
        return newest;
    }
    Some(PathBuf::new())
}

/// Gives a file or directory to the user who runs a server.
pub fn give(path: &Path) {
    outside::give(path, user());
}

/// A command as the user who runs a server.
pub fn as_its_user(command: &mut Command) -> &mut Command {
    outside::run_as(command, user())
}

/// The user that root runs a server as.
fn user() -> Option<(u32, u32)> {
    user_of_root(&[OWNER, "nobody"])
}
