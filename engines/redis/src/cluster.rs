//! [`Cluster`]: which node of a Redis cluster has which keys.
//!
//! The nodes are asked when the first key is needed, and again when one of them says that a key is
//! elsewhere or does not answer. A node that is away concerns no request but those whose keys it has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cgi_session::{Error, Result};
use cgi_session_kit::pool::Pool;
use crc::{CRC_16_XMODEM, Crc};
use redis::{RedisError, Value, from_redis_value_ref};

use super::node::{Connections, Link, Node};
use super::place::{Address, Place};

const SLOTS: u16 = 16384;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
/// An earlier question would get the same answer.
const PAUSE: Duration = Duration::from_millis(100);

/// The nodes of a cluster.
pub(super) struct Cluster {
    place: Arc<Place>,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    nodes: Vec<Connections>,
    /// The slots from the first to the last, and the node that has them.
    ranges: Vec<(u16, u16, Connections)>,
    asked: Option<Instant>,
}

/// The slots from the first to the last, and the address of their node.
type Part = (u16, u16, Address);

impl Cluster {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Cluster {
            place,
            map: Mutex::default(),
        }
    }

    /// A connection to the node that has this key.
    pub(super) fn link(&self, key: &str) -> Result<Link> {
        let pool = self.pool(key)?;
        match Link::to(&pool) {
            Err(error @ Error::Unavailable { .. }) => {
                self.look_again(&pool, key).ok_or(error)?;
                Link::to(&self.pool(key)?)
            }
            linked => linked,
        }
    }

    /// The node that has this key.
    pub(super) fn pool(&self, key: &str) -> Result<Connections> {
        let slot = slot(key);
        if let Some(pool) = self.map().of(slot) {
            return Ok(pool);
        }
        self.refresh(None)?;
        let pool = self.map().of(slot);
        pool.ok_or_else(|| {
            let action = format!("cannot find a key in {}", self.place.shown);
            Error::unavailable(action, format!("no node has slot {slot}"))
                .with_hint("try: redis-cli cluster info")
        })
    }

    /// Every node that has keys.
    pub(super) fn primaries(&self) -> Result<Vec<Connections>> {
        self.refresh(None)?;
        Ok(self.map().primaries())
    }

    /// Learns which node has a key whose node has failed; `None` if it is still the same one.
    pub(super) fn look_again(&self, failed: &Connections, key: &str) -> Option<()> {
        self.refresh(Some(failed)).ok()?;
        let pool = self.map().of(slot(key))?;
        (!Arc::ptr_eq(&pool, failed)).then_some(())
    }

    /// Learns the nodes of all slots from the node to which another one points.
    pub(super) fn follow(&self, error: &RedisError, from: Link) -> Option<()> {
        let address = target(error, &from)?;
        from.keep();
        self.ask_for_slots(&self.known(&address)).ok()
    }

    /// A connection to the node to which another one points, which will answer one question there.
    pub(super) fn ask(&self, error: &RedisError, from: Link) -> Option<Link> {
        let address = target(error, &from)?;
        from.keep();
        let mut link = Link::to(&self.known(&address)).ok()?;
        link.announce().ok()?;
        Some(link)
    }

    /// Asks any node for the nodes of all slots, unless that was asked a moment ago.
    fn refresh(&self, failed: Option<&Connections>) -> Result<()> {
        {
            let mut map = self.map();
            if !map.ranges.is_empty() && map.asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
                return Ok(());
            }
            // Other requests continue with what is known.
            map.asked = Some(Instant::now());
        }
        let mut last = None;
        for pool in self.candidates(failed) {
            match self.ask_for_slots(&pool) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::unavailable("cannot ask a cluster", "no node is known")))
    }

    /// The nodes to ask: those that are known, those that are named, and at last the one that failed.
    fn candidates(&self, failed: Option<&Connections>) -> Vec<Connections> {
        let mut candidates = self.map().primaries();
        // A program that serves one request is not to wait each time for the first one, if that is away.
        let hosts = &self.place.hosts;
        let (later, first) = hosts.split_at(rand::random_range(0..hosts.len().max(1)));
        for host in first.iter().chain(later) {
            let pool = self.known(host);
            if !candidates.iter().any(|known| Arc::ptr_eq(known, &pool)) {
                candidates.push(pool);
            }
        }
        if let Some(failed) = failed {
            candidates.sort_by_key(|pool| Arc::ptr_eq(pool, failed));
        }
        candidates
    }

    fn ask_for_slots(&self, pool: &Connections) -> Result<()> {
        let mut link = Link::to(pool)?;
        let mut command = redis::cmd("CLUSTER");
        let answer: Vec<Value> = command
            .arg("SLOTS")
            .query(link.connection())
            .map_err(|error| link.node().explain("find the nodes of", &error))?;
        link.keep();
        let parts = answer.iter().filter_map(|part| read(part, host_of(pool)));
        let ranges = parts
            .map(|(first, last, address)| (first, last, self.known(&address)))
            .collect();
        let mut map = self.map();
        map.ranges = ranges;
        map.asked = Some(Instant::now());
        Ok(())
    }

    /// The connections to the node of this address.
    fn known(&self, address: &Address) -> Connections {
        let nodes = &mut self.map().nodes;
        let is_it = |node: &&Connections| node.engine().address.as_ref() == Some(address);
        if let Some(known) = nodes.iter().find(is_it) {
            return Arc::clone(known);
        }
        let node = Node::new(&self.place, Some(address.clone()));
        let pool = Arc::new(Pool::new(node));
        nodes.push(Arc::clone(&pool));
        pool
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn of(&self, slot: u16) -> Option<Connections> {
        let mut ranges = self.ranges.iter();
        let (.., pool) = ranges.find(|(first, last, _)| (*first..=*last).contains(&slot))?;
        Some(Arc::clone(pool))
    }

    fn primaries(&self) -> Vec<Connections> {
        let has_slots = |node: &&Connections| {
            let mut ranges = self.ranges.iter();
            ranges.any(|(.., pool)| Arc::ptr_eq(pool, node))
        };
        self.nodes.iter().filter(has_slots).cloned().collect()
    }
}

/// Where an answer says that the key is.
fn target(error: &RedisError, from: &Link) -> Option<Address> {
    let (target, _) = error.redirect_node()?;
    let (host, port) = target.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = reachable(Some(host), host_of(&from.pool));
    Some((host, port.parse().ok()?))
}

fn host_of(node: &Connections) -> &str {
    let address = node.engine().address.as_ref();
    address.map_or("", |(host, _)| host)
}

/// A part of the answer to CLUSTER SLOTS: two slots, the primary's host, port and more, and its
/// replicas. A host that is not told is that of the node that was asked.
fn read(answer: &Value, asked: &str) -> Option<Part> {
    let Value::Array(answer) = answer else {
        return None;
    };
    let [first, last, Value::Array(primary), ..] = &answer[..] else {
        return None;
    };
    let [host, port, ..] = &primary[..] else {
        return None;
    };
    let number = |value| from_redis_value_ref::<u16>(value).ok();
    let host: Option<String> = from_redis_value_ref(host).ok()?;
    let host = reachable(host.as_deref(), asked);
    Some((number(first)?, number(last)?, (host, number(port)?)))
}

/// The host that was told; where none is, or that of a node which listens everywhere, the one that was asked.
fn reachable(told: Option<&str>, asked: &str) -> String {
    let told = told.filter(|told| !["", "0.0.0.0", "::"].contains(told));
    told.unwrap_or(asked).to_owned()
}

/// The slot of a key: CRC-16/XMODEM of what is in its first braces, or of all.
fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let tag = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
    CRC.checksum(tag.unwrap_or(key).as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_slot_of_what_is_in_its_braces() {
        assert_eq!(slot("123456789"), 0x31C3);
        for key in ["{123456789}", "a{123456789}b{c}", "{123456789}}"] {
            assert_eq!(slot(key), 0x31C3, "{key}");
        }
        // Nothing is in the first braces.
        assert_eq!(slot("a{}{123456789}"), slot("a{}{123456789}"));
        assert_ne!(slot("a{}{123456789}"), 0x31C3);
        assert_eq!(slot(""), 0);
    }

    #[test]
    fn a_host_that_is_not_told_is_that_of_who_was_asked() {
        let part = |host| {
            let node = vec![host, Value::Int(7001), Value::Nil];
            Value::Array(vec![Value::Int(0), Value::Int(9), Value::Array(node)])
        };
        let text = |host: &str| Value::BulkString(host.into());
        for (told, host) in [
            (text("10.0.0.1"), "10.0.0.1"),
            (text("0.0.0.0"), "h"),
            (text("::"), "h"),
            (Value::Nil, "h"),
        ] {
            assert_eq!(read(&part(told), "h"), Some((0, 9, (host.into(), 7001))));
        }
        assert_eq!(read(&Value::Int(1), "h"), None);
    }
}
