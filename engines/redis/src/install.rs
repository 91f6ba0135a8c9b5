//! Whether the server can keep sessions, and removing them from it.

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
    let nodes = shared.server.all(ASK).unwrap_or_else(|error| {
        found.problems.push(error);
        Vec::new()
    });
    for node in &nodes {
        if let Err(error) = State::judge(shared, node, &mut found) {
            found.problems.push(error);
        }
    }
    found
}

/// What a server says of itself, and what that means.
struct State<'a> {
    shared: &'a Shared,
    node: &'a Connections,
    information: InfoDict,
    /// What it is called.
    place: String,
    found: &'a mut Examination,
}

impl<'a> State<'a> {
    fn judge(shared: &'a Shared, node: &'a Connections, found: &'a mut Examination) -> Result<()> {
        let shown = &shared.server.shown;
        let mut state = State {
            information: (shared.server).ask(ASK, At::Node(node), "INFO", None::<u64>)?,
            // The sentinels have named it by now.
            place: match &*node.engine().name() {
                "" => shown.to_string(),
                name => format!("{shown} ({name})"),
            },
            shared,
            node,
            found,
        };
        state.judge_version();
        state.judge_settings();
        state.judge_persistence()
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

    fn has(&self, setting: &str, value: &str) -> bool {
        self.setting(setting).is_some_and(|it| it == value)
    }

    fn problem(&mut self, reason: impl Into<String>, hint: &str) {
        let action = format!("cannot keep sessions in {}", self.place);
        let problem = Error::store(action, reason.into()).with_hint(hint);
        self.found.problems.push(problem);
    }

    fn warn(&mut self, text: &str) {
        let warning = format!("{} {text}", self.place);
        self.found.warnings.push(warning);
    }

    fn judge_version(&mut self) {
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
    }

    fn judge_settings(&mut self) {
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
        if !timeout.is_zero() && timeout < self.shared.lease() {
            let reason = format!("it ends the lock of a request that lasts for {timeout:?}");
            self.problem(reason, "set timeout 0, or lockLease below it");
        }
        if self.node.engine().address.is_none() {
            if self.value("cluster_enabled") == "1" {
                let hint = "write redis+cluster:// in database";
                self.problem("it is part of a cluster", hint);
            }
        } else if self.has("cluster-require-full-coverage", "yes") {
            self.warn(
                "refuses all sessions while one node is away; set cluster-require-full-coverage no",
            );
        }
    }

    /// Whether the server can tell when its log is on disk.
    fn has_waitaof(&self) -> bool {
        node::version(&self.information) >= WAITAOF
    }

    fn judge_persistence(&mut self) -> Result<()> {
        let has_log = self.value("aof_enabled") == "1";
        if !self.shared.server.is_durable {
            if !has_log && self.has("save", "") {
                self.warn("keeps nothing on disk: all sessions end with it; set appendonly yes for others");
            }
            return Ok(());
        }
        let waits = self.has_waitaof();
        let is_synced = has_log
            && !self.has("appendfsync", "no")
            && (waits || !self.has("appendfsync", "everysec"));
        if !is_synced && matches!(&*self.value("connected_slaves"), "" | "0") {
            let reason = "a commit is lost with its power, which durability = data excludes";
            let hint = "set appendonly yes and appendfsync always, or give it a replica";
            self.problem(reason, hint);
        }
        if waits && has_log {
            // Without the right to wait for the log each save would be stored, and yet be an error.
            let (server, at) = (&self.shared.server, At::Node(self.node));
            let _: (u64, u64) = server.ask("wait for the disk of", at, "WAITAOF", (0, 0, 1))?;
        }
        Ok(())
    }
}

/// Removes our keys and no others.
pub(super) fn uninstall(shared: &Shared) -> Uninstalled {
    let mut done = Uninstalled::default();
    let action = "remove the sessions from";
    let removed = shared.scan("*", "", |keys| {
        for key in keys {
            let is_session = shared.session(key).is_some();
            let name = shared.name(key).unwrap_or_default();
            let is_beside =
                name == "sweep" || name.starts_with("user:") || name.starts_with("lock:");
            if !is_session && !is_beside {
                done.foreign.push(format!("key {key}"));
                continue;
            }
            let removed: bool = shared.server.ask(action, At::Key(key), "DEL", key)?;
            done.sessions += u64::from(removed && is_session);
        }
        Ok(true)
    });
    // A key that was shown twice.
    done.foreign.sort();
    done.foreign.dedup();
    done.errors.extend(removed.err());
    done
}
