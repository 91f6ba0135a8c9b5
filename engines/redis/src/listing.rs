//! All sessions of a store, and those of one user.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use cgi_session::store::has_passed;
use cgi_session::{Result, SessionDigest, Stored, Visitor};

use super::Shared;
use super::node::{Link, answers};
use super::record::{self, Field};
use super::server::At;

const ACTION: &str = "list the sessions in";
/// An index of a user is read so many times at most, while sessions get other ids.
const MAX_LISTINGS: u32 = 100;
/// The server looks at so many keys at a time, and can do nothing else meanwhile.
pub(super) const PAGE: usize = 500;

pub(super) fn for_each(shared: &Shared, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
    shared.scan_sessions(|sessions| {
        let mut live = live(shared, &sessions, now)?.into_iter();
        let shown = live.try_for_each(|(session, stored)| visit(&session, stored));
        Ok(shown.is_continue())
    })
}

pub(super) fn sessions_of(
    shared: &Shared,
    user: &str,
    now: SystemTime,
) -> Result<Vec<SessionDigest>> {
    let key = shared.key(&format!("user:{user}"));
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for _ in 0..MAX_LISTINGS {
        let members: Vec<String> =
            (shared.server).ask(ACTION, At::Key(&key), "ZRANGE", (&key, 0, -1))?;
        let sessions = (members.iter()).filter_map(|it| SessionDigest::parse(it.as_bytes()));
        let sessions: Vec<_> = sessions.filter(|it| seen.insert(*it)).collect();
        let mut has_moved = false;
        for page in sessions.chunks(PAGE) {
            let shown = live(shared, page, now)?;
            has_moved |= shown.len() < page.len();
            for (session, stored) in shown {
                has_moved |= stored.as_ref().is_ok_and(|it| it.record.is_replaced());
                // One that cannot be read may be the user's.
                if stored.map_or(true, |stored| stored.record.user() == Some(user)) {
                    found.push(session);
                }
            }
        }
        // A session whose id has changed since is in the index under the new one.
        if !has_moved {
            break;
        }
    }
    Ok(found)
}

/// Those of these sessions that are there and have not expired. The marker of a change of id is none.
fn live(
    shared: &Shared,
    sessions: &[SessionDigest],
    now: SystemTime,
) -> Result<Vec<(SessionDigest, Result<Stored>)>> {
    let rows = shared.load(ACTION, sessions, record::ALL)?;
    let live = rows.into_iter().filter_map(|(session, fields)| {
        let (row, _) = record::loaded(fields).filter(|(row, _)| !has_passed(row.end, now))?;
        Some((session, row.listed(&session, &shared.server.shown)?))
    });
    Ok(live.collect())
}

impl Shared {
    /// These fields of these sessions, those of one node at once.
    pub(super) fn load<const N: usize>(
        &self,
        action: &str,
        sessions: &[SessionDigest],
        fields: [&str; N],
    ) -> Result<Vec<(SessionDigest, [Field; N])>> {
        let server = &self.server;
        let mut nodes = HashMap::new();
        for session in sessions {
            let key = self.record(session);
            let node = server.node(action, At::Key(&key))?;
            let of_node = nodes.entry(Arc::as_ptr(&node));
            let (_, keys) = of_node.or_insert_with(|| (node, Vec::new()));
            keys.push((*session, key));
        }
        let mut loaded = Vec::with_capacity(sessions.len());
        for (node, keys) in nodes.into_values() {
            let mut all = redis::pipe();
            for (_, key) in &keys {
                all.cmd("HMGET").arg(key).arg(&fields);
            }
            let ask = |link: &mut Link| answers(link.connection(), &all);
            let answers = server.with(&mut None, action, At::Node(&node), ask)?;
            for ((session, key), answer) in keys.into_iter().zip(answers) {
                let again = |_| server.ask(action, At::Key(&key), "HMGET", (&key, &fields));
                // Perhaps another node has it by now.
                loaded.push((session, answer.or_else(again)?));
            }
        }
        Ok(loaded)
    }

    /// Shows all sessions, some at a time, as long as `visit` goes on.
    pub(super) fn scan_sessions(
        &self,
        mut visit: impl FnMut(Vec<SessionDigest>) -> Result<bool>,
    ) -> Result<()> {
        // The server may show a key twice. A quarter of a digest tells it from a million others.
        let mut seen = HashSet::new();
        self.scan("{*}", "hash", |keys| {
            let sessions = keys.iter().filter_map(|key| self.session(key));
            let quarter = |it: &SessionDigest| u64::from_str_radix(&it.as_str()[..16], 16).ok();
            visit(sessions.filter(|it| seen.insert(quarter(it))).collect())
        })
    }

    /// Shows all keys whose names have this pattern, of this type, some at a time and perhaps some twice, as long
    /// as `visit` goes on. The name of a table holds nothing that means something in a pattern.
    pub(super) fn scan(
        &self,
        pattern: &str,
        kind: &str,
        mut visit: impl FnMut(&[String]) -> Result<bool>,
    ) -> Result<()> {
        let pattern = self.key(pattern);
        let of_type = Some(("TYPE", kind)).filter(|_| !kind.is_empty());
        for node in self.server.all(ACTION)? {
            let mut cursor = 0_u64;
            loop {
                let arguments = (cursor, "MATCH", &pattern, "COUNT", PAGE, of_type);
                let (next, keys): (u64, Vec<Vec<u8>>) =
                    (self.server).ask(ACTION, At::Node(&node), "SCAN", arguments)?;
                // A key that is not UTF-8 is none of ours.
                let keys: Vec<_> = keys.into_iter().flat_map(String::from_utf8).collect();
                if !keys.is_empty() && !visit(&keys)? {
                    return Ok(());
                }
                if next == 0 {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }
}
