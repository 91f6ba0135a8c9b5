//! Whether the server can keep sessions, and removing them from it.

use std::ops::ControlFlow;

use redis::RedisResult;

use super::Shared;
use super::names::Kind;
use super::server::Link;
use crate::error::{Error, Result};
use crate::store::{Examination, Uninstalled};

/// The first version that can tell whether the holder of a lock is still connected.
const OLDEST: (u32, u32) = (6, 2);

/// Looks whether the server is there and fit for sessions. There is nothing to be made.
pub(super) fn install(shared: &Shared) -> Vec<Error> {
    let examined = examine(shared);
    for warning in examined.warnings {
        log::warn!("{warning}");
    }
    examined.problems
}

pub(super) fn examine(shared: &Shared) -> Examination {
    let server = &shared.server;
    let information: Result<String> = server.once("ask for the state of", |link| {
        redis::cmd("INFO").query(link.connection())
    });
    let information = match information {
        Ok(information) => information,
        Err(error) => {
            return Examination {
                problems: vec![error],
                ..Examination::default()
            };
        }
    };
    let value = |name: &str| {
        let mut lines = information.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
    };
    let mut problems = Vec::new();
    let mut refuse = |reason: String, hint: &str| {
        let place = server.shown();
        let error = Error::store(format!("cannot keep sessions in {place}"), reason);
        problems.push(error.with_hint(hint));
    };
    let version = value("redis_version");
    if is_older(version) {
        let reason = format!("its version is {version}");
        refuse(reason, "version 6.2 or a later one is needed");
    }
    if value("role") == "slave" {
        refuse(
            "it is a replica".to_owned(),
            "database must name the primary",
        );
    }
    if value("cluster_enabled") == "1" {
        let hint =
            "database must name a server that is none, or the primary that a sentinel watches";
        refuse("it is part of a cluster".to_owned(), hint);
    }
    let policy = value("maxmemory_policy");
    if value("maxmemory") != "0" && policy != "noeviction" {
        let reason = format!("it may delete sessions that live (maxmemory-policy {policy})");
        refuse(reason, "set maxmemory-policy noeviction");
    }
    let mut warnings = Vec::new();
    if value("aof_enabled") == "0" && !saves_snapshots(shared) {
        warnings.push(format!(
            "{} keeps nothing on disk: all sessions end with it; set appendonly yes for others",
            server.shown()
        ));
    }
    Examination {
        engine: Some(format!("Redis {version}")),
        problems,
        warnings,
    }
}

fn is_older(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next()) < OLDEST
}

/// Whether the server writes its memory to disk now and then; where it does not tell, it may.
fn saves_snapshots(shared: &Shared) -> bool {
    let asked: Result<Vec<String>> = shared.server.once("ask for the settings of", |link| {
        redis::cmd("CONFIG")
            .arg("GET")
            .arg("save")
            .query(link.connection())
    });
    asked.map_or(true, |answer| {
        answer.get(1).is_none_or(|save| !save.is_empty())
    })
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
            let removed = shared
                .server
                .once("remove the sessions from", |link| remove(link, key))?;
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

fn remove(link: &mut Link, key: &str) -> RedisResult<bool> {
    redis::cmd("DEL").arg(key).query(link.connection())
}
