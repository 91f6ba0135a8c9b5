//! Galera: three nodes, each of which takes writes and has what the others have committed.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};
use rustix::process::Signal;
use tempfile::TempDir;

use super::Engine;
use testkit::outside::{Watched, free_port};
use testkit::{is_installed, is_root, wait_until};

const NODES: usize = 3;
const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";
const USER: &str = "shop";
const PASSWORD: &str = "four-words-of-salt";
/// Ends the server when its own input ends, which it does with the test, however that ends.
const WATCH: &str =
    "\"$@\" </dev/null >>\"$0/log\" 2>&1 & echo $!; read -r end; kill -KILL $!; wait";

pub(crate) struct Galera {
    nodes: Vec<Node>,
    address: String,
    _directory: TempDir,
}

struct Node {
    directory: PathBuf,
    /// For clients, the cluster, and the transfer of what is missing, a little and all.
    ports: [u16; 4],
    running: Option<Watched>,
}

impl Galera {
    pub(crate) fn start(address: &str) -> Option<Self> {
        if !is_installed("mariadbd") || !is_installed("rsync") || !Path::new(PROVIDER).is_file() {
            testkit::not_installed("Galera");
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("galera")
            .tempdir_in("/tmp")
            .unwrap();
        own(directory.path());
        let nodes = (0..NODES).map(|number| Node::new(&directory.path().join(number.to_string())));
        let mut galera = Galera {
            nodes: nodes.collect(),
            address: address.to_owned(),
            _directory: directory,
        };
        galera.run(0, "gcomm://");
        let mut first = galera.nodes[0].connect().unwrap();
        for statement in [
            format!("CREATE DATABASE {USER}"),
            format!("CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'"),
            format!("GRANT ALL ON {USER}.* TO '{USER}'@'%'"),
        ] {
            first.query_drop(statement).unwrap();
        }
        for number in 1..NODES {
            galera.join(number);
        }
        Some(galera)
    }

    pub(crate) fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a node that is to get from the others what it lacks.
    pub(crate) fn join(&mut self, number: usize) {
        let others = self.nodes.iter().enumerate();
        let others = others.filter(|(other, node)| *other != number && node.running.is_some());
        let others: Vec<String> = others
            .map(|(_, node)| format!("127.0.0.1:{}", node.ports[1]))
            .collect();
        self.run(number, &format!("gcomm://{}", others.join(",")));
    }

    fn run(&mut self, number: usize, cluster: &str) {
        let address = self.address.clone();
        self.nodes[number].run(&address, cluster);
    }

    pub(crate) fn freeze(&self, number: usize) {
        self.nodes[number].signal(Signal::STOP);
    }

    pub(crate) fn resume(&self, number: usize) {
        self.nodes[number].signal(Signal::CONT);
    }
}

impl Engine for Galera {
    /// Every host has a node of its own.
    fn settings(&self, host: usize) -> Vec<(&'static str, String)> {
        let port = self.nodes[host].ports[0];
        let url = format!("mysql://{USER}:{PASSWORD}@{}:{port}/{USER}", self.address);
        vec![("storageType", "mysql".to_owned()), ("database", url)]
    }
}

impl Node {
    fn new(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        own(directory);
        let node = Node {
            directory: directory.to_owned(),
            ports: [(); 4].map(|()| free_port()),
            running: None,
        };
        let mut install = Command::new("mariadb-install-db");
        install.args([
            "--no-defaults",
            "--innodb-use-native-aio=0",
            "--skip-test-db",
        ]);
        install.arg("--auth-root-authentication-method=normal");
        install.arg(format!(
            "--datadir={}",
            node.directory.join("data").display()
        ));
        install.env("TMPDIR", &node.directory);
        let made = as_another(&mut install).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        node
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    #[track_caller]
    fn run(&mut self, address: &str, cluster: &str) {
        let place = &self.directory;
        let [clients, group, increment, whole] = self.ports;
        let mut command = Command::new("sh");
        command.args(["-c", WATCH]).arg(place);
        command.args(["mariadbd", "--no-defaults", "--innodb-use-native-aio=0"]);
        for (name, path) in [
            ("datadir", place.join("data")),
            ("socket", self.socket()),
            ("pid-file", place.join("pid")),
            // A server removes what others of its kind have in a place for temporary files.
            ("tmpdir", place.clone()),
        ] {
            command.arg(format!("--{name}={}", path.display()));
        }
        command.arg(format!("--port={clients}"));
        command.arg(format!("--bind-address={address}"));
        command.args(["--skip-name-resolve", "--innodb-buffer-pool-size=16M"]);
        command.args(["--innodb-log-file-size=8M", "--binlog-format=ROW"]);
        command.args(["--innodb-autoinc-lock-mode=2", "--wsrep-on=ON"]);
        command.arg(format!("--wsrep-provider={PROVIDER}"));
        command.arg(format!("--wsrep-cluster-address={cluster}"));
        command.args(["--wsrep-node-address=127.0.0.1", "--wsrep-sst-method=rsync"]);
        command.arg(format!("--wsrep-sst-receive-address=127.0.0.1:{whole}"));
        command.arg(format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{group};\
             ist.recv_addr=127.0.0.1:{increment};gcache.size=16M"
        ));
        self.running = Some(Watched::start(as_another(&mut command)));
        wait_until("the node has what the others have", || self.is_synced());
    }

    fn connect(&self) -> mysql::Result<Conn> {
        let socket = self.socket();
        Conn::new(
            OptsBuilder::new()
                .socket(socket.to_str())
                .user(Some("root")),
        )
    }

    fn is_synced(&self) -> bool {
        let state = self.connect().and_then(|mut node| {
            node.query_first::<(String, String), _>("SHOW STATUS LIKE 'wsrep_local_state_comment'")
        });
        state.is_ok_and(|state| state.is_some_and(|(_, state)| state == "Synced"))
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }
}

/// What root starts runs as the servers' own user: the programs that copy a node insist on it.
fn as_another(command: &mut Command) -> &mut Command {
    if let Some((uid, gid)) = another_user() {
        command.uid(uid).gid(gid);
    }
    command
}

fn own(directory: &Path) {
    if let Some((uid, gid)) = another_user() {
        chown(directory, Some(uid), Some(gid)).unwrap();
    }
}

fn another_user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("mysql:"));
    let mut numbers = line?.split(':').skip(2);
    let user = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    is_root().then_some(user)
}
