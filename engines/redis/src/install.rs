//! Whether the server can keep sessions, and removing them from it.

use std::ops::ControlFlow;
use std::time::Duration;

use cgi_session::{Error, Examination, Result, Uninstalled};

use redis::InfoDict;

use super::Shared;
use super::node::{self, Connections, WAITAOF};
use super::server::At;

/// The first version that can tell whether the holder of a lock is still connected.
const OLDEST: (u32, u32) = (6, 2);
const ASK: &str = "ask for the state of";

/// Looks whether the server is there and fit for sessions. There is nothing to be made.
pub(super) fn install(shared: &Shared) -> Vec<Error> {
    let examined = examine(shared);
    for warning in examined.warnings {
        log::warn!("{warning}");
    }
    examined.problems
}

/// Looks at the server, or at every node of a cluster that has keys.
pub(super) fn examine(shared: &Shared) -> Examination {
    let mut found = Examination::default();
    let judged = shared.server.all(ASK).map(|nodes| {
        for node in &nodes {
            if let Err(error) = State::of(shared, node, &mut found).map(State::judge) {
                found.problems.push(error);
            }
        }
    });
    found.problems.extend(judged.err());
    found
}

/// What a server says of itself, and what that means.
struct State<'a> {
    shared: &'a Shared,
    node: &'a Connections,
    information: InfoDict,
    found: &'a mut Examination,
}

impl<'a> State<'a> {
    fn of(shared: &'a Shared, node: &'a Connections, found: &'a mut Examination) -> Result<Self> {
        let information = (shared.server).ask(ASK, At::Node(node), "INFO", None::<u64>)?;
        Ok(State {
            shared,
            node,
            information,
            found,
        })
    }

    fn value(&self, name: &str) -> String {
        self.information.get(name).unwrap_or_default()
    }

    /// A setting of the server; `None` where it does not tell.
    fn setting(&self, name: &str) -> Option<String> {
        let (server, at) = (&self.shared.server, At::Node(self.node));
        let asked = server.ask("ask for the settings of", at, "CONFIG", ("GET", name));
        let asked: Vec<String> = asked.ok()?;
        asked.into_iter().nth(1)
    }

    fn place(&self) -> String {
        let shown = &self.shared.server.shown;
        match &*self.node.engine().name() {
            "" => shown.to_string(),
            name => format!("{shown} ({name})"),
        }
    }

    fn problem(&mut self, reason: impl Into<String>, hint: &str) {
        let action = format!("cannot keep sessions in {}", self.place());
        let problem = Error::store(action, reason.into()).with_hint(hint);
        self.found.problems.push(problem);
    }

    fn warn(&mut self, text: &str) {
        let warning = format!("{} {text}", self.place());
        self.found.warnings.push(warning);
    }

    fn judge(mut self) {
        let version = self.value("redis_version");
        let mut engine = match &*self.value("valkey_version") {
            "" => format!("Redis {version}"),
            version => format!("Valkey {version}"),
        };
        if self.shared.server.is_durable {
            engine += if self.has_waitaof() {
                ", a commit waits for its disk (WAITAOF)"
            } else {
                ", without WAITAOF"
            };
        }
        self.found.engine.get_or_insert(engine);
        if node::version(&self.information) < OLDEST {
            let reason = format!("its version is {version}");
            self.problem(reason, "version 6.2 or a later one is needed");
        }
        if self.value("role") == "slave" {
            self.problem("it is a replica", "database must name the primary");
        }
        let policy = self.value("maxmemory_policy");
        if self.value("maxmemory") != "0" && policy != "noeviction" {
            let reason = format!("it may delete sessions that live (maxmemory-policy {policy})");
            self.problem(reason, "set maxmemory-policy noeviction");
        }
        let timeout = self.setting("timeout").and_then(|it| it.parse().ok());
        let timeout = Duration::from_secs(timeout.unwrap_or(0));
        if !timeout.is_zero() && timeout < self.shared.lease {
            let reason = format!("it ends the lock of a request that lasts for {timeout:?}");
            self.problem(reason, "set timeout 0, or lockLease below it");
        }
        self.judge_cluster();
        self.judge_persistence();
    }

    fn judge_cluster(&mut self) {
        if !self.shared.server.is_cluster() {
            if self.value("cluster_enabled") == "1" {
                let hint = "write redis+cluster:// in database";
                self.problem("it is part of a cluster", hint);
            }
            return;
        }
        let needs_all = self.setting("cluster-require-full-coverage");
        if needs_all.is_some_and(|needs_all| needs_all == "yes") {
            self.warn(
                "refuses all sessions while one node is away; set cluster-require-full-coverage no",
            );
        }
    }

    /// Whether the server can tell when its log is on disk.
    fn has_waitaof(&self) -> bool {
        node::version(&self.information) >= WAITAOF
    }

    fn judge_persistence(&mut self) {
        let has_log = self.value("aof_enabled") == "1";
        let is = |name: &str, value: &str| self.setting(name).is_some_and(|it| it == value);
        if !self.shared.server.is_durable {
            if !has_log && is("save", "") {
                self.warn("keeps nothing on disk: all sessions end with it; set appendonly yes for others");
            }
            return;
        }
        let waits = self.has_waitaof();
        let is_synced =
            has_log && !is("appendfsync", "no") && (waits || !is("appendfsync", "everysec"));
        if waits && has_log {
            // Without the right to wait for the log each save would be stored, and yet be an error.
            let (server, at) = (&self.shared.server, At::Node(self.node));
            let waited: Result<(u64, u64)> =
                server.ask("wait for the disk of", at, "WAITAOF", (0, 0, 1));
            self.found.problems.extend(waited.err());
        }
        if !is_synced && matches!(&*self.value("connected_slaves"), "" | "0") {
            let reason = "a commit is lost with its power, which durability = data excludes";
            let hint = "set appendonly yes and appendfsync always, or give it a replica";
            self.problem(reason, hint);
        }
    }
}

/// Removes our keys and no others.
pub(super) fn uninstall(shared: &Shared) -> Uninstalled {
    let mut done = Uninstalled::default();
    let action = "remove the sessions from";
    let removed = shared.scan(&shared.names.all(), "", |keys| {
        for key in keys {
            let is_session = shared.names.session(key).is_some();
            if !is_session && !shared.names.is_beside_records(key) {
                done.foreign.push(format!("key {key}"));
                continue;
            }
            let removed: bool = shared.server.ask(action, At::Key(key), "DEL", key)?;
            done.sessions += u64::from(removed && is_session);
        }
        Ok(ControlFlow::Continue(()))
    });
    // A key that was shown twice.
    done.foreign.sort();
    done.foreign.dedup();
    done.errors.extend(removed.err());
    done
}
