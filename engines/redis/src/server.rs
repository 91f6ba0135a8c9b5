//! [`Server`]: the server or the cluster, whichever of its nodes is to be asked.

use std::cell::Cell;
use std::sync::Arc;

use cgi_session::{Config, Error, Result};
use cgi_session_kit::pool::Pool;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, ToRedisArgs};

use super::cluster::Cluster;
use super::failure::in_place_of;
use super::node::{
    Connections, Link, Node, answers, is_interrupted, is_stale, leaves_in_step, may_be_done,
};
use super::place::Place;
use super::scripts::{Reply, Script};

/// So often a question is passed on from node to node.
const MAX_TURNS: u32 = 6;

/// The server, or a cluster of them.
pub(super) struct Server {
    nodes: Nodes,
    /// Where it is, without a password.
    pub(super) shown: Arc<str>,
    /// Whether a commit is to be confirmed by the log or a replica.
    pub(super) is_durable: bool,
}

enum Nodes {
    One(Connections),
    Many(Box<Cluster>),
}

/// What is asked: the node that has a key, or this one, whichever keys it has.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Key(&'a str),
    Node(&'a Connections),
}

impl Server {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let place = Arc::new(Place::of(config)?);
        let shown = Arc::clone(&place.shown);
        let nodes = if place.is_cluster {
            Nodes::Many(Box::new(Cluster::new(place)))
        } else {
            Nodes::One(Arc::new(Pool::new(Node::new(&place, None))))
        };
        Ok(Server {
            nodes,
            shown,
            is_durable: config.is_durable(),
        })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.nodes, Nodes::Many(_))
    }

    /// Runs a script on this key. Its arguments are those that depend on the connection, and the rest.
    pub(super) fn call<F: ToRedisArgs>(
        &self,
        link: &mut Option<Link>,
        action: &str,
        script: &Script,
        key: &str,
        first: impl Fn(&Link) -> F,
        rest: impl ToRedisArgs,
    ) -> Result<Reply> {
        let must_last = self.is_durable && script.is_lasting;
        let is_repeated = Cell::new(false);
        // Both on one connection: another server may have the place of the one that has done it.
        let attempt = |link: &mut Link| {
            let first = first(link);
            let script = match &script.again {
                Some(again) if is_repeated.get() => again,
                _ => script,
            };
            let mut reply = link.run(script, key, first, &rest)?;
            reply.is_repeated = is_repeated.get();
            let is_witnessed = !must_last || reply.word() != "done" || link.is_lasting()?;
            Ok((reply, is_witnessed))
        };
        let run = |link: &mut Link| {
            let done = attempt(link);
            if done.as_ref().is_err_and(may_be_done) {
                is_repeated.set(true);
            }
            done
        };
        let (mut reply, mut is_witnessed) = self.with(link, action, At::Key(key), run)?;
        if reply.word() == "late" {
            // It came in time, so that the server's clock was set. A new connection knows what it shows.
            if let Some(link) = link.take() {
                link.pool.close();
            }
            (reply, is_witnessed) = self.with(link, action, At::Key(key), run)?;
        }
        let fail = |cause| {
            Err(Error::unavailable(
                format!("cannot {action} {}", self.shown),
                cause,
            ))
        };
        if reply.word() == "late" {
            return fail("the server's clock does not run evenly");
        }
        if !is_witnessed {
            return fail(
                "it was done there, but its disk or a replica has not confirmed it in time",
            );
        }
        Ok(reply)
    }

    /// As [`Server::call`], with any connection.
    pub(super) fn call_once(
        &self,
        action: &str,
        script: &Script,
        key: &str,
        arguments: impl ToRedisArgs,
    ) -> Result<Reply> {
        let mut link = None;
        let reply = self.call(&mut link, action, script, key, nothing, arguments);
        keep(link);
        reply
    }

    /// What a command is answered.
    pub(super) fn ask<T: FromRedisValue>(
        &self,
        action: &str,
        at: At<'_>,
        name: &str,
        arguments: impl ToRedisArgs,
    ) -> Result<T> {
        let mut command = redis::cmd(name);
        command.arg(arguments);
        self.once(action, at, |link| command.query(link.connection()))
    }

    /// Does something once.
    fn once<T>(
        &self,
        action: &str,
        at: At<'_>,
        work: impl FnMut(&mut Link) -> RedisResult<T>,
    ) -> Result<T> {
        let mut link = None;
        let done = self.with(&mut link, action, at, work);
        keep(link);
        done
    }

    /// Does something with this connection, or with another one if there is none. What a connection fails at that the server has closed meanwhile is done again with a new
    /// one, and what another node has is done there: it must be such that it can be done twice.
    pub(super) fn with<T>(
        &self,
        link: &mut Option<Link>,
        action: &str,
        at: At<'_>,
        mut work: impl FnMut(&mut Link) -> RedisResult<T>,
    ) -> Result<T> {
        let mut turn = 0;
        loop {
            let mut current = match link.take() {
                Some(kept) => kept,
                None => self.link(action, at)?,
            };
            let error = match work(&mut current) {
                Ok(done) => {
                    *link = Some(current);
                    return Ok(done);
                }
                Err(error) => error,
            };
            let explained = current.node().explain(action, &error);
            turn += 1;
            if !self.has_another_turn(&error, current, link, at, turn) || turn == MAX_TURNS {
                return Err(explained);
            }
        }
    }

    /// Prepares another turn, where there is to be one.
    fn has_another_turn(
        &self,
        error: &RedisError,
        current: Link,
        link: &mut Option<Link>,
        at: At<'_>,
        turn: u32,
    ) -> bool {
        if is_interrupted(error) {
            return true;
        }
        if is_stale(error) || error.is_timeout() {
            // Then so it is with those that were made before.
            current.pool.close();
        }
        if is_stale(error) && turn == 1 {
            return true;
        }
        let (Nodes::Many(cluster), At::Key(key)) = (&self.nodes, at) else {
            if leaves_in_step(error) {
                *link = Some(current);
            }
            return false;
        };
        let turned = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => cluster.follow(error, current),
            ErrorKind::Server(ServerErrorKind::Ask) => {
                let asked = cluster.ask(error, current);
                asked.map(|asked| *link = Some(asked))
            }
            // Another node may have its place by now.
            ErrorKind::Io
            | ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown,
            ) => {
                let before = Arc::clone(&current.pool);
                drop(current);
                cluster.look_again(&before, key)
            }
            _ if leaves_in_step(error) => {
                *link = Some(current);
                None
            }
            _ => None,
        };
        turned.is_some()
    }

    fn link(&self, action: &str, at: At<'_>) -> Result<Link> {
        let linked = match (&self.nodes, at) {
            (Nodes::Many(cluster), At::Key(key)) => cluster.link(key),
            (Nodes::One(pool), _) | (_, At::Node(pool)) => {
                if pool.engine().has_moved() {
                    pool.close();
                }
                Link::to(pool)
            }
        };
        self.told(action, linked)
    }

    /// An error of a connection that was to be made as that of this action.
    fn told<T>(&self, action: &str, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| in_place_of(error, action, &self.shown))
    }

    /// Every node that has keys.
    pub(super) fn all(&self, action: &str) -> Result<Vec<Connections>> {
        match &self.nodes {
            Nodes::One(pool) => Ok(vec![Arc::clone(pool)]),
            Nodes::Many(cluster) => self.told(action, cluster.primaries()),
        }
    }

    /// Loads these fields of many hashes, those of one node at once.
    pub(super) fn load<T: FromRedisValue>(
        &self,
        action: &str,
        keys: &[String],
        fields: &[&str],
    ) -> Result<Vec<T>> {
        let mut loaded = Vec::new();
        for (pool, places) in self.by_node(action, keys)? {
            let mut all = redis::pipe();
            for at in &places {
                all.cmd("HMGET").arg(&keys[*at]).arg(fields);
            }
            let answers = self.once(action, At::Node(&pool), |link| {
                answers::<T>(link.connection(), &all)
            })?;
            for (at, answer) in places.into_iter().zip(answers) {
                let key = &keys[at];
                let again = || self.ask(action, At::Key(key), "HMGET", (key, fields));
                // Perhaps another node has it by now.
                let answer = answer.or_else(|_| again())?;
                loaded.push((at, answer));
            }
        }
        loaded.sort_by_key(|(at, _)| *at);
        Ok(loaded.into_iter().map(|(_, answer)| answer).collect())
    }

    /// At which places in this list stand the keys that each node has.
    fn by_node(&self, action: &str, keys: &[String]) -> Result<Vec<(Connections, Vec<usize>)>> {
        let mut nodes: Vec<(Connections, Vec<usize>)> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let pool = match &self.nodes {
                Nodes::One(pool) => Ok(Arc::clone(pool)),
                Nodes::Many(cluster) => cluster.pool(key),
            };
            let pool = self.told(action, pool)?;
            let mut known = nodes.iter_mut();
            match known.find(|(known, _)| Arc::ptr_eq(known, &pool)) {
                Some((_, places)) => places.push(at),
                None => nodes.push((pool, vec![at])),
            }
        }
        Ok(nodes)
    }
}

/// No arguments that depend on the connection.
pub(super) fn nothing(_: &Link) -> Option<u64> {
    None
}

/// Keeps a connection for the next use.
pub(super) fn keep(link: Option<Link>) {
    if let Some(link) = link {
        link.keep();
    }
}
