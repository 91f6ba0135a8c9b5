//! [`Traffic`]: programs on every host, and what became of all that they did.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use cgi_session::{Config, SessionManager};

use crate::engine::Engine;
use crate::hosts::{Host, Network};
use crate::worker;
use testkit::wait_until;

const PROGRAMS: usize = 3;
const SESSIONS: usize = 4;
/// So many page views are progress.
const PROGRESS: usize = 30;

pub(crate) struct Traffic {
    directory: tempfile::TempDir,
    manager: SessionManager,
    cookies: Vec<String>,
    programs: Vec<Program>,
    killed: usize,
    is_careless: bool,
}

struct Program {
    child: Child,
    host: String,
}

impl Traffic {
    /// Makes the sessions, and starts the same number of programs on every host.
    pub(crate) fn start(network: &Network, engine: &dyn Engine) -> Self {
        Traffic::of(network, engine, false)
    }

    /// The same by programs that are wrong.
    pub(crate) fn start_careless(network: &Network, engine: &dyn Engine) -> Self {
        Traffic::of(network, engine, true)
    }

    fn of(network: &Network, engine: &dyn Engine, is_careless: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (number, host) in network.hosts().iter().enumerate() {
            let lines = engine.settings(number).into_iter();
            let lines: Vec<String> = lines
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            let text = format!("[session]\nlockTimeout = 5s\n{}\n", lines.join("\n"));
            fs::write(config_of(directory.path(), host.name()), text).unwrap();
        }
        let config = config_of(directory.path(), network.hosts()[0].name());
        let config = Config::load(&config).unwrap();
        let manager = SessionManager::new(config).unwrap();
        let problems = manager.install();
        assert!(problems.is_empty(), "{problems:?}");
        let cookies = (0..SESSIONS).map(|_| begin(&manager));
        let mut traffic = Traffic {
            cookies: cookies.collect(),
            directory,
            manager,
            programs: Vec::new(),
            killed: 0,
            is_careless,
        };
        for host in network.hosts() {
            traffic.is_known_at(host);
            fs::write(traffic.ledger(host.name()), "").unwrap();
            for _ in 0..PROGRAMS {
                traffic.add_program(host);
            }
        }
        traffic
    }

    /// Waits until what was made at one node is known at that of this host.
    fn is_known_at(&self, host: &Host) {
        let config = Config::load(&config_of(self.directory.path(), host.name())).unwrap();
        let manager = SessionManager::new(config).unwrap();
        let last = self.cookies.last().unwrap();
        wait_until("the last session is known everywhere", || {
            manager.read(last).is_ok_and(|found| found.is_some())
        });
    }

    fn ledger(&self, host: &str) -> PathBuf {
        self.directory.path().join(format!("ledger-{host}"))
    }

    fn add_program(&mut self, host: &Host) {
        let mut command = host.command();
        command.arg(std::env::current_exe().unwrap());
        command.args(["worker::process", "--exact", "--test-threads=1"]);
        command
            .env(
                worker::CONFIG,
                config_of(self.directory.path(), host.name()),
            )
            .env(worker::LEDGER, self.ledger(host.name()))
            .env(worker::COOKIES, self.cookies.join(" "))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if self.is_careless {
            command.env(worker::CARELESS, "yes");
        }
        self.programs.push(Program {
            child: command.spawn().unwrap(),
            host: host.name().to_owned(),
        });
    }

    /// Waits until every host has had page views acknowledged that began now.
    #[track_caller]
    pub(crate) fn goes_on(&self, when: &str) {
        let hosts = self.programs.iter().map(|program| program.host.as_str());
        let hosts: Vec<&str> = hosts.collect();
        self.hosts_go_on(hosts, when);
    }

    #[track_caller]
    pub(crate) fn goes_on_elsewhere(&self, but: &Host, when: &str) {
        let hosts = self.programs.iter().map(|program| program.host.as_str());
        let hosts: Vec<&str> = hosts.filter(|host| *host != but.name()).collect();
        self.hosts_go_on(hosts, when);
    }

    #[track_caller]
    fn hosts_go_on(&self, mut hosts: Vec<&str>, when: &str) {
        hosts.dedup();
        for host in hosts {
            let before = self.acknowledged(host);
            let what = format!("{when}, {host} counts");
            wait_until(&what, || self.acknowledged(host) >= before + PROGRESS);
        }
    }

    fn acknowledged(&self, host: &str) -> usize {
        let mut tally = Tally::default();
        tally.read(&self.ledger(host));
        tally
            .sessions
            .values()
            .map(|views| views.acknowledged)
            .sum()
    }

    /// Kills one program of each host in the middle of its work. The others go on.
    pub(crate) fn loses_workers(&mut self) {
        let mut hosts: Vec<String> = Vec::new();
        self.programs.retain_mut(|program| {
            if hosts.contains(&program.host) {
                return true;
            }
            hosts.push(program.host.clone());
            program.end();
            false
        });
        self.killed += hosts.len();
    }

    /// Ends all programs, and holds their ledgers against what is stored.
    pub(crate) fn end(mut self) -> Tally {
        let mut tally = Tally {
            killed: self.killed + self.programs.len(),
            ..Tally::default()
        };
        let mut hosts: Vec<String> = Vec::new();
        for program in &mut self.programs {
            program.end();
            if !hosts.contains(&program.host) {
                hosts.push(program.host.clone());
            }
        }
        for host in hosts {
            tally.read(&self.ledger(&host));
        }
        for (number, cookie) in self.cookies.iter().enumerate() {
            let session = self.manager.existing(cookie).unwrap().expect("a session");
            let views = tally.sessions.entry(number).or_default();
            views.stored = session.require::<usize>(worker::VIEWS).unwrap();
        }
        let problems = self.manager.uninstall().errors;
        assert!(problems.is_empty(), "{problems:?}");
        tally
    }
}

fn config_of(directory: &Path, host: &str) -> PathBuf {
    directory.join(format!("config-{host}"))
}

fn begin(manager: &SessionManager) -> String {
    let mut session = manager.start("").unwrap();
    session.insert(worker::VIEWS, 0).unwrap();
    session.save().unwrap();
    format!("sessionId={}", session.id().unwrap().secret())
}

impl Program {
    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and needs not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of all page views, by session.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sessions: BTreeMap<usize, Views>,
    refused: usize,
    wrong: Vec<String>,
    /// Each may have stored something that nobody has written down.
    killed: usize,
}

#[derive(Debug, Default)]
struct Views {
    acknowledged: usize,
    unknown: usize,
    stored: usize,
}

impl Tally {
    fn read(&mut self, ledger: &Path) {
        let text = fs::read_to_string(ledger).unwrap();
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let (number, rest) = line.split_once(' ').unwrap();
            let (fate, words) = rest.split_once(' ').unwrap();
            let views = self.sessions.entry(number.parse().unwrap()).or_default();
            match fate {
                "Acknowledged" => views.acknowledged += 1,
                "Unknown" => views.unknown += 1,
                "Refused" => self.refused += 1,
                _ => self.wrong.push(words.trim_end().to_owned()),
            }
        }
    }

    /// How many page views were acknowledged and are not there.
    pub(crate) fn lost(&self) -> usize {
        let all = self.sessions.values();
        all.map(|views| views.acknowledged.saturating_sub(views.stored))
            .sum()
    }

    /// Nothing acknowledged is lost, nothing is stored twice, and no trouble was answered as a fault.
    #[track_caller]
    pub(crate) fn is_right(&self) {
        assert!(self.wrong.is_empty(), "{:?}", self.wrong);
        let mut surplus = 0;
        assert_eq!(self.lost(), 0, "{self}");
        for views in self.sessions.values() {
            let more = views.stored.saturating_sub(views.acknowledged);
            surplus += more.saturating_sub(views.unknown);
        }
        assert!(surplus <= self.killed, "{surplus} too many: {self}");
        assert!(self.refused > 0, "there was no trouble: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |count: fn(&Views) -> usize| self.sessions.values().map(count).sum::<usize>();
        write!(
            f,
            "{} page views acknowledged, {} stored, {} of which nobody knows, {} refused, {} programs killed",
            sum(|views| views.acknowledged),
            sum(|views| views.stored),
            sum(|views| views.unknown),
            self.refused,
            self.killed
        )
    }
}
