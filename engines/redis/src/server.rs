//! [`Server`]: the server or the cluster, whichever of its nodes is to be asked.

use std::sync::Arc;

use cgi_session::{Config, Error, Result};
use cgi_session_kit::pool::Pool;
use redis::{FromRedisValue, RedisError, RedisResult, ToRedisArgs};
use scopeguard::ScopeGuard;

use super::cluster::Cluster;
use super::failure::{is_interrupted, is_stale, leaves_in_step, may_be_done};
use super::node::{Connections, Kept, Link, Node};
use super::place::Place;
use super::scripts::{Reply, Script};

/// So often a question is passed on from node to node.
const MAX_TURNS: u32 = 6;

pub(super) struct Server {
    nodes: Nodes,
    /// Where it is, without a password.
    pub(super) shown: Arc<str>,
    /// Whether a commit is to be confirmed by the log or a replica.
    pub(super) is_durable: bool,
}

enum Nodes {
    One(Connections),
    Many(Cluster),
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
        let nodes = if place.sentinels.is_some() || place.hosts.is_empty() {
            let address = None;
            Nodes::One(Arc::new(Pool::new(Node { place, address })))
        } else {
            Nodes::Many(Cluster::new(place))
        };
        Ok(Server {
            nodes,
            shown,
            is_durable: config.is_durable(),
        })
    }

    /// Runs a script on this key.
    pub(super) fn call(
        &self,
        link: &mut Kept,
        script: &Script,
        key: &str,
        arguments: impl ToRedisArgs,
    ) -> Result<Reply> {
        let must_last = self.is_durable && script.is_lasting;
        let mut is_repeated = false;
        let mut attempt = |link: &mut Link| {
            link.probe(script)?;
            let done = link.run(script, key, is_repeated, &arguments);
            is_repeated |= done.as_ref().is_err_and(may_be_done);
            let reply = done?;
            if !must_last || reply.word != "done" {
                return Ok((reply, true));
            }
            // It stays done when this fails. The same connection is asked: another server may have its place by now.
            is_repeated = true;
            Ok((reply, link.is_lasting()?))
        };
        let (action, at) = (script.action, At::Key(key));
        let (mut reply, mut is_witnessed) = self.with(link, action, at, &mut attempt)?;
        if reply.word == "late" {
            // It came in time, so that the server's clock was set. A new connection knows what it shows.
            if let Some(link) = link.take() {
                link.pool.close();
            }
            (reply, is_witnessed) = self.with(link, action, at, &mut attempt)?;
        }
        let cause = if reply.word == "late" {
            "the server's clock does not run evenly"
        } else if !is_witnessed {
            "it was done there, but its disk or a replica has not confirmed it in time"
        } else {
            return Ok(reply);
        };
        let action = format!("cannot {action} {}", self.shown);
        Err(Error::unavailable(action, cause))
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
        let ask = |link: &mut Link| command.query(link.connection());
        self.with(&mut None, action, at, ask)
    }

    /// Does something with this connection, or with another one if there is none. What a connection fails at that
    /// the server has closed meanwhile is done again with a new one, and what another node has is done there: it must
    /// be such that it can be done twice.
    pub(super) fn with<T>(
        &self,
        link: &mut Kept,
        action: &str,
        at: At<'_>,
        mut work: impl FnMut(&mut Link) -> RedisResult<T>,
    ) -> Result<T> {
        let mut turn = 0;
        loop {
            let mut current = match link.take() {
                Some(kept) => ScopeGuard::into_inner(kept),
                None => self.link(action, at)?,
            };
            let error = match work(&mut current) {
                Ok(done) => {
                    *link = Some(current.guarded());
                    return Ok(done);
                }
                Err(error) => error,
            };
            let node = Arc::clone(&current.pool);
            if leaves_in_step(&error) {
                *link = Some(current.guarded());
            }
            turn += 1;
            match self.next_turn(&error, &node, at, turn) {
                Some(next) if turn < MAX_TURNS => *link = next,
                _ => return Err(node.engine().explain(action, &error)),
            }
        }
    }

    /// What another turn is done with, if there is to be one.
    fn next_turn(
        &self,
        error: &RedisError,
        node: &Connections,
        at: At<'_>,
        turn: u32,
    ) -> Option<Kept> {
        if is_stale(error) || error.is_timeout() {
            // Then so it is with those that were made before.
            node.close();
        }
        if is_interrupted(error) || is_stale(error) && turn == 1 {
            return Some(None);
        }
        match (&self.nodes, at) {
            (Nodes::Many(cluster), At::Key(key)) => cluster.pass_on(error, node, key),
            _ => None,
        }
    }

    fn link(&self, action: &str, at: At<'_>) -> Result<Link> {
        let node = self.node(action, at)?;
        let place = &node.engine().place;
        let sentinels = place.sentinels.as_ref();
        if sentinels.is_some_and(|sentinels| sentinels.has_moved(place)) {
            node.close();
        }
        let linked = match (Link::to(&node), &self.nodes, at) {
            (Err(Error::Unavailable { .. }), Nodes::Many(cluster), At::Key(key))
                if cluster.look_again(&node, key) =>
            {
                Link::to(&self.node(action, at)?)
            }
            (linked, ..) => linked,
        };
        self.told(action, linked)
    }

    /// The node that is to be asked.
    pub(super) fn node(&self, action: &str, at: At<'_>) -> Result<Connections> {
        match (&self.nodes, at) {
            (Nodes::Many(cluster), At::Key(key)) => self.told(action, cluster.node(key)),
            (Nodes::One(node), _) | (_, At::Node(node)) => Ok(Arc::clone(node)),
        }
    }

    /// Every node that has keys.
    pub(super) fn all(&self, action: &str) -> Result<Vec<Connections>> {
        match &self.nodes {
            Nodes::One(node) => Ok(vec![Arc::clone(node)]),
            Nodes::Many(cluster) => self.told(action, cluster.primaries()),
        }
    }

    /// An error of a connection that was to be made as that of this action.
    fn told<T>(&self, action: &str, mut outcome: Result<T>) -> Result<T> {
        if let Err(Error::Unavailable { action: told, .. } | Error::Store { action: told, .. }) =
            &mut outcome
        {
            *told = format!("cannot {action} {}", self.shown);
        }
        outcome
    }
}
