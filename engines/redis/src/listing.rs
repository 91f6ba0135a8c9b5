//! All sessions of a store, and those of one user.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::SystemTime;

use cgi_session::store::has_passed;
use cgi_session::{Result, SessionDigest, Stored, Visitor};
use cgi_session_kit::rows::digests;
use redis::FromRedisValue;

use super::Shared;
use super::record::{self, Loaded};
use super::server::At;

const ACTION: &str = "list the sessions in";
/// An index of a user is read so many times at most, while sessions get other ids.
const MAX_LISTINGS: u32 = 100;
/// The server looks at so many keys at a time, and can do nothing else meanwhile.
pub(super) const PAGE: usize = 500;

pub(super) fn for_each(shared: &Shared, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
    shared.scan_sessions(|sessions| {
        for (session, stored) in live(shared, &sessions, now)? {
            if visit(&session, stored).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

pub(super) fn sessions_of(
    shared: &Shared,
    user: &str,
    now: SystemTime,
) -> Result<Vec<SessionDigest>> {
    let key = shared.names.user(user);
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for _ in 0..MAX_LISTINGS {
        let members: Vec<String> =
            (shared.server).ask(ACTION, At::Key(&key), "ZRANGE", (&key, 0, -1))?;
        let sessions: Vec<_> = digests(&members).filter(|it| seen.insert(*it)).collect();
        let mut has_moved = false;
        for page in sessions.chunks(PAGE) {
            for (session, stored) in live(shared, page, now)? {
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
    let loaded = sessions
        .iter()
        .zip(rows.into_iter().map(Loaded::from_fields));
    let live = loaded.filter_map(|(session, loaded)| {
        let loaded = loaded.filter(|loaded| !has_passed(loaded.row.end, now))?;
        Some((*session, loaded.row.listed(session, &shared.server.shown)?))
    });
    Ok(live.collect())
}

impl Shared {
    /// These fields of these sessions.
    pub(super) fn load<T: FromRedisValue>(
        &self,
        action: &str,
        sessions: &[SessionDigest],
        fields: &[&str],
    ) -> Result<Vec<T>> {
        let keys = sessions.iter().map(|session| self.names.record(session));
        let keys: Vec<_> = keys.collect();
        self.server.load(action, &keys, fields)
    }

    /// Shows all sessions, some at a time.
    pub(super) fn scan_sessions(
        &self,
        mut visit: impl FnMut(Vec<SessionDigest>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        // The server may show a key twice.
        let mut seen = HashSet::new();
        self.scan(&self.names.all_records(), "hash", |keys| {
            let sessions = keys.iter().filter_map(|key| self.names.session(key));
            visit(sessions.filter(|session| seen.insert(*session)).collect())
        })
    }

    /// Shows the names of all keys of this pattern and type, some at a time and perhaps some twice.
    pub(super) fn scan(
        &self,
        pattern: &str,
        kind: &str,
        mut visit: impl FnMut(&[String]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let of_type = Some(("TYPE", kind)).filter(|_| !kind.is_empty());
        for node in self.server.all(ACTION)? {
            let mut cursor = 0_u64;
            loop {
                let arguments = (cursor, "MATCH", pattern, "COUNT", PAGE, of_type);
                let answer = self
                    .server
                    .ask(ACTION, At::Node(&node), "SCAN", arguments)?;
                let (next, keys): (u64, Vec<Vec<u8>>) = answer;
                // A key that is not UTF-8 is none of ours.
                let keys: Vec<_> = keys.into_iter().flat_map(String::from_utf8).collect();
                if !keys.is_empty() && visit(&keys)?.is_break() {
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
