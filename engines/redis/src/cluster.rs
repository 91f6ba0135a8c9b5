//! [`Cluster`]: which node of a Redis cluster has which keys.
//!
//! The nodes are asked when the first key is needed, and again when one of them says that a key is
//! elsewhere or does not answer. A node that is away concerns no request but those whose keys it has.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cgi_session::{Error, Result};
use cgi_session_kit::{Pool, lock};
use crc::{CRC_16_XMODEM, Crc};
use redis::{ErrorKind, RedisError, ServerErrorKind, Value, from_redis_value_ref};

use super::node::{Connections, Kept, Link, Node};
use super::place::{Address, Place, first_answer};

const SLOTS: u16 = 16384;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
/// An earlier question would get the same answer.
const PAUSE: Duration = Duration::from_millis(100);

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

impl Cluster {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Cluster {
            place,
            map: Mutex::default(),
        }
    }

    /// The node that has this key.
    pub(super) fn node(&self, key: &str) -> Result<Connections> {
        let slot = slot(key);
        if let Some(pool) = lock(&self.map).of(slot) {
            return Ok(pool);
        }
        self.refresh(None)?;
        let pool = lock(&self.map).of(slot);
        pool.ok_or_else(|| {
            let error = Error::unavailable("cannot find a key", format!("no node has slot {slot}"));
            error.with_hint("try: redis-cli cluster info")
        })
    }

    /// Every node that has keys.
    pub(super) fn primaries(&self) -> Result<Vec<Connections>> {
        self.refresh(None)?;
        Ok(lock(&self.map).primaries())
    }

    /// Learns which node has a key whose node has failed; `false` if it is still the same one.
    pub(super) fn look_again(&self, failed: &Connections, key: &str) -> bool {
        let is_asked = self.refresh(Some(failed)).is_ok();
        let node = lock(&self.map).of(slot(key));
        is_asked && node.is_some_and(|node| !Arc::ptr_eq(&node, failed))
    }

    /// What a question is passed on with that a node has refused, if another one may have the key.
    pub(super) fn pass_on(
        &self,
        error: &RedisError,
        from: &Connections,
        key: &str,
    ) -> Option<Kept> {
        use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, ReadOnly};
        let target = || self.target(error, from);
        match error.kind() {
            ErrorKind::Server(Moved) => self.ask_for_slots(&target()?).ok().map(|()| None),
            ErrorKind::Server(Ask) => Link::to(&target()?).ok()?.announced().ok().map(Some),
            // Another node may have its place by now.
            ErrorKind::Io | ErrorKind::Server(ReadOnly | ClusterDown | MasterDown) => {
                self.look_again(from, key).then_some(None)
            }
            _ => None,
        }
    }

    /// The node that has the key, as an answer says.
    fn target(&self, error: &RedisError, from: &Connections) -> Option<Connections> {
        let (target, _) = error.redirect_node()?;
        let (host, port) = target.rsplit_once(':')?;
        let host = reachable(Some(host.trim_matches(['[', ']'])), host_of(from));
        Some(self.known((host, port.parse().ok()?)))
    }

    /// Asks any node for the nodes of all slots, unless that was asked a moment ago.
    fn refresh(&self, failed: Option<&Connections>) -> Result<()> {
        {
            let mut map = lock(&self.map);
            if !map.ranges.is_empty() && map.asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
                return Ok(());
            }
            // Other requests continue with what is known.
            map.asked = Some(Instant::now());
        }
        let candidates = self.candidates(failed).into_iter();
        first_answer(candidates, |node| self.ask_for_slots(&node))
    }

    /// The nodes to ask: those that are known, those that are named, and at last the one that failed.
    fn candidates(&self, failed: Option<&Connections>) -> Vec<Connections> {
        let mut candidates = lock(&self.map).primaries();
        for host in &self.place.hosts {
            let pool = self.known(host.clone());
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
        let answer = command.arg("SLOTS").query(link.connection());
        let answer: Vec<Value> =
            answer.map_err(|error| pool.engine().explain("find the nodes of", &error))?;
        link.keep();
        let parts = answer.iter().filter_map(|part| read(part, host_of(pool)));
        let ranges = parts.map(|(first, last, address)| (first, last, self.known(address)));
        let ranges = ranges.collect();
        let mut map = lock(&self.map);
        map.ranges = ranges;
        map.asked = Some(Instant::now());
        Ok(())
    }

    /// The connections to the node of this address.
    fn known(&self, address: Address) -> Connections {
        let nodes = &mut lock(&self.map).nodes;
        let is_it = |node: &&Connections| node.engine().address.as_ref() == Some(&address);
        if let Some(known) = nodes.iter().find(is_it) {
            return Arc::clone(known);
        }
        let (place, address) = (Arc::clone(&self.place), Some(address));
        let node = Arc::new(Pool::new(Node { place, address }));
        nodes.push(Arc::clone(&node));
        node
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

fn host_of(node: &Connections) -> &str {
    let address = node.engine().address.as_ref();
    address.map_or("", |(host, _)| host)
}

/// A part of the answer to CLUSTER SLOTS: two slots, the primary's host, port and more, and its
/// replicas. A host that is not told is that of the node that was asked.
fn read(answer: &Value, asked: &str) -> Option<(u16, u16, Address)> {
    if let Value::Array(answer) = answer
        && let [first, last, Value::Array(primary), ..] = &answer[..]
        && let [host, port, ..] = &primary[..]
    {
        let number = |value| from_redis_value_ref::<u16>(value).ok();
        let host: Option<String> = from_redis_value_ref(host).ok()?;
        let host = reachable(host.as_deref(), asked);
        return Some((number(first)?, number(last)?, (host, number(port)?)));
    }
    None
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
