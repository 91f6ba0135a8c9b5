//! Whether the server can keep sessions, and removing them from it.

use std::ops::ControlFlow;

use super::Shared;
use super::names::Kind;
use super::node::Connections;
use crate::error::{Error, Result};
use crate::store::Uninstalled;

/// The first version that can tell whether the holder of a lock is still connected.
const OLDEST: (u32, u32) = (6, 2);
const ASK: &str = "ask for the state of";

/// Looks whether the server is there and fit for sessions, or every node of a cluster. There is nothing
/// to be made.
pub(super) fn install(shared: &Shared) -> Vec<Error> {
    let nodes = match shared.server.all(ASK) {
        Ok(nodes) => nodes,
        Err(error) => return vec![error],
    };
    let problems = nodes.iter().flat_map(|node| problems_of(shared, node));
    problems.collect()
}

fn problems_of(shared: &Shared, node: &Connections) -> Vec<Error> {
    let information: Result<String> = shared.server.on(node, ASK, |link| {
        redis::cmd("INFO").query(link.connection())
    });
    let information = match information {
        Ok(information) => information,
        Err(error) => return vec![error],
    };
    let value = |name: &str| {
        let mut lines = information.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
    };
    let place = match node.engine().name() {
        "" => shared.server.shown().to_owned(),
        name => format!("{} ({name})", shared.server.shown()),
    };
    let mut problems = Vec::new();
    let mut refuse = |reason: String, hint: &str| {
        let error = Error::store(format!("cannot keep sessions in {place}"), reason);
        problems.push(error.with_hint(hint));
    };
    let version = value("redis_version");
    if is_older(version) {
        let reason = format!("its version is {version}");
        refuse(reason, "version 6.2 or a later one is needed");
    }
    if value("role") == "slave" {
        let hint = "database must name the primary";
        refuse("it is a replica".to_owned(), hint);
    }
    if value("cluster_enabled") == "1" && !shared.server.is_cluster() {
        let hint = "write redis+cluster:// in database";
        refuse("it is part of a cluster".to_owned(), hint);
    }
    if shared.server.is_cluster()
        && setting(shared, node, "cluster-require-full-coverage").is_some_and(|it| it == "yes")
    {
        log::warn!(
            "{place} refuses all sessions while one node is away; set cluster-require-full-coverage no"
        );
    }
    let policy = value("maxmemory_policy");
    if value("maxmemory") != "0" && policy != "noeviction" {
        let reason = format!("it may delete sessions that live (maxmemory-policy {policy})");
        refuse(reason, "set maxmemory-policy noeviction");
    }
    let keeps = value("aof_enabled") == "1";
    if shared.server.is_durable() {
        let is_synced =
            keeps && setting(shared, node, "appendfsync").is_none_or(|it| it == "always");
        if !is_synced && matches!(value("connected_slaves"), "" | "0") {
            let reason =
                "a commit is lost with its power, which durability = data excludes".to_owned();
            refuse(
                reason,
                "set appendonly yes and appendfsync always, or give it a replica",
            );
        }
    } else if !keeps && setting(shared, node, "save").is_some_and(|save| save.is_empty()) {
        log::warn!("{place} keeps nothing on disk: all sessions end with it; set appendonly yes");
    }
    problems
}

fn is_older(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next()) < OLDEST
}

/// A setting of the server; `None` where it does not tell.
fn setting(shared: &Shared, node: &Connections, name: &str) -> Option<String> {
    let asked: Result<Vec<String>> = shared.server.on(node, "ask for the settings of", |link| {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name).query(link.connection())
    });
    asked.ok()?.into_iter().nth(1)
}

/// Removes our keys and no others.
pub(super) fn uninstall(shared: &Shared) -> Uninstalled {
    let mut done = Uninstalled::default();
    let removed = shared.scan(&shared.names.all(), "", |keys| {
        for key in keys {
            let kind = shared.names.kind(key);
            if kind == Kind::Foreign {
                done.foreign.push(format!("key {key}"));
                continue;
            }
            let removed: bool = shared
                .server
                .once("remove the sessions from", key, |link| {
                    redis::cmd("DEL").arg(key).query(link.connection())
                })?;
            if removed && kind != Kind::Other {
                done.sessions += 1;
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    // A key that was shown twice.
    done.foreign.sort();
    done.foreign.dedup();
    done.errors.extend(removed.err());
    done
}
