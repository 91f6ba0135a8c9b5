//! What must hold when the storm is over and its processes have ended.

use std::collections::HashSet;

use cgi_session::{Result, Snapshot, Stored};
use testkit::prelude::*;

use super::content::{Content, EXPIRED};
use super::ground::{Field, Former, Ground};
use super::ledger::Operation;
use super::tally::Tally;
use super::violation::{Kind, failure, shown};
use crate::subject::{Subject, TIMEOUT};

/// After so long nothing of a process that died is kept, and no expired session.
const LONG_AFTER: Duration = Duration::from_secs(180);

/// The most sessions above the cap: a new one does not wait while another one makes room.
const AT_ONCE: u64 = 16;

/// Between two clean-ups of a store whose locks outlive their holders.
const PAUSE: Duration = Duration::from_millis(20);

/// What is wrong with what the storm has left, and removes it.
pub(super) fn pronounce(
    ground: &Ground,
    subject: &Subject,
    tally: &Tally,
) -> io::Result<Vec<String>> {
    let mut violations = Vec::new();
    for field in Field::ALL {
        let directory = ground.field(field);
        let manager = match field.of(subject).open(&directory) {
            Ok(manager) => manager,
            Err(error) => return Ok(vec![failure("the store", "to open", &error)]),
        };
        let (store, delay) = (manager.store(), subject.lock_delay());
        if field == Field::Lasting {
            violations.extend(check_sessions(ground, &manager, tally)?);
            violations.extend(check_locks(ground, store, delay)?);
        }
        if let Some(cap) = field.cap(subject) {
            let created = tally.done_of(Operation::Crowd);
            violations.extend(check_cap(store, cap, created));
        }
        // What the first one has met before the session that it belonged to goes with the second.
        let mut sweeps = (0..2).map(|_| check_sweep(store, delay));
        violations.extend(sweeps.find(|broken| !broken.is_empty()).unwrap_or_default());
        let mut left = Vec::new();
        list(&directory, "", subject, &mut left)?;
        violations.extend(left.into_iter().map(|name| {
            let expected = "nothing after a clean-up long after";
            Kind::Left.violation(directory.display(), expected, name)
        }));
        let errors = store.uninstall().errors.into_iter();
        violations.extend(errors.map(|error| failure("the store", "to go", &error)));
    }
    Ok(violations)
}

/// Every counter holds what the ledgers say, and no ended session is there.
fn check_sessions(
    ground: &Ground,
    manager: &SessionManager,
    tally: &Tally,
) -> io::Result<Vec<String>> {
    let (store, now) = (manager.store(), SystemTime::now());
    let mut violations = Vec::new();
    let replaced = ground.all(Former::Replaced)?;
    let former: HashSet<SessionDigest> = replaced.iter().map(SessionId::digest).collect();
    let mut stored: BTreeMap<u64, Vec<(SessionDigest, u64)>> = BTreeMap::new();
    let mut live = BTreeSet::new();
    let mut users: BTreeMap<String, Vec<SessionDigest>> = BTreeMap::new();
    let listed = store.for_each(
        &mut |digest, found| {
            live.insert(digest.to_string());
            if former.contains(digest) {
                return ControlFlow::Continue(());
            }
            let name = || format!("session {}", digest.as_str().get(..12).unwrap_or_default());
            // The process that created it was killed before it could let it expire.
            let is_expired = |stored: &Stored| stored.record.values() == EXPIRED.as_bytes();
            if found.as_ref().is_ok_and(is_expired) {
                return ControlFlow::Continue(());
            }
            if let Some(user) = found.as_ref().ok().and_then(|it| it.record.user()) {
                users.entry(user.to_owned()).or_default().push(*digest);
            }
            match found.map(|stored| Content::of_record(&stored.record)) {
                Ok(Some(content)) => {
                    let sessions = stored.entry(content.counter).or_default();
                    sessions.push((*digest, content.number));
                }
                Ok(None) => violations.push(Kind::torn(name())),
                Err(error) => violations.push(failure(name(), "to be read", &error)),
            }
            ControlFlow::Continue(())
        },
        now,
    );
    if let Err(error) = listed {
        violations.push(failure("the store", "to be listed", &error));
        return Ok(violations);
    }
    violations.extend(tally.check(&stored));
    violations.extend(check_users(store, &users, now));
    violations.extend(check_replaced(manager, &replaced));
    for id in ground.all(Former::Ended)? {
        if live.contains(id.digest().as_str()) {
            let expected = "none after it was destroyed or got another id";
            violations.push(Kind::Resurrected.violation(shown(&id), expected, "one"));
        }
    }
    Ok(violations)
}

/// Ids that were replaced show what was, or nothing.
fn check_replaced(manager: &SessionManager, replaced: &[SessionId]) -> Vec<String> {
    let mut violations = Vec::new();
    for id in replaced {
        let cookie = format!("{}={}", manager.config().cookie_name(), id.secret());
        match manager.read(cookie) {
            Ok(found) if found.as_ref().is_none_or(Snapshot::is_replaced) => {}
            Ok(_) => {
                let expected = "what the session was before it got another id";
                violations.push(Kind::Resurrected.violation(shown(id), expected, "a session"));
            }
            Err(error) => violations.push(failure(shown(id), "to be read", &error)),
        }
    }
    violations
}

/// There are not many more sessions than the cap allows, nor many fewer.
fn check_cap(store: &dyn Store, cap: u64, created: u64) -> Option<String> {
    let mut sessions = 0;
    let mut count = |_: &SessionDigest, _: Result<Stored>| {
        sessions += 1;
        ControlFlow::Continue(())
    };
    if let Err(error) = store.for_each(&mut count, SystemTime::now()) {
        return Some(failure("the store", "to be listed", &error));
    }
    let kind = if sessions > cap + AT_ONCE {
        Kind::Crowded
    } else if created > 2 * cap && sessions < cap / 2 {
        Kind::Deleted
    } else {
        return None;
    };
    let expected = format!("{cap} sessions, or a few more that came at once");
    Some(kind.violation("the store", expected, sessions))
}

/// Every session is found by its user.
fn check_users(
    store: &dyn Store,
    users: &BTreeMap<String, Vec<SessionDigest>>,
    now: SystemTime,
) -> Vec<String> {
    let mut violations = Vec::new();
    for (user, sessions) in users {
        let found = match store.sessions_of(user, now) {
            Ok(found) => found,
            Err(error) => return vec![failure(user, "to have sessions", &error)],
        };
        let lacking = sessions.iter().filter(|session| !found.contains(session));
        violations.extend(lacking.map(|session| {
            let expected = format!("among the sessions of {user}");
            Kind::Lost.violation(format!("session {session}"), expected, "none")
        }));
    }
    violations
}

/// The locks of processes that were killed are free.
fn check_locks(ground: &Ground, store: &dyn Store, delay: Duration) -> io::Result<Vec<String>> {
    let mut violations = Vec::new();
    for slot in 0..Field::Lasting.slots() {
        let Some(entry) = ground.entry(Field::Lasting, slot)? else {
            continue;
        };
        let digest = entry.id.digest();
        if let Err(error) = store.lock(&digest, delay, SystemTime::now()) {
            violations.push(failure(shown(&entry.id), "a free lock", &error));
        }
    }
    Ok(violations)
}

/// Cleans up as if much time had passed: no session is in use then, and all have expired.
fn check_sweep(store: &dyn Store, delay: Duration) -> Vec<String> {
    let begun = Instant::now();
    let report = loop {
        let later = SystemTime::now() + TIMEOUT + LONG_AFTER;
        match store.delete_expired(&Sweep::new(), later) {
            Ok(report) if report.busy > 0 && begun.elapsed() < delay => thread::sleep(PAUSE),
            Ok(report) => break report,
            Err(error) => return vec![failure("the last clean-up", "to end", &error)],
        }
    };
    let failed = |expected, found| Kind::Failed.violation("the last clean-up", expected, found);
    let failures = report.failures.iter();
    let failures = failures.map(|found| failed("no failure", found.clone()));
    let busy = (report.busy > 0).then(|| format!("{} locked", report.busy));
    let busy = busy.map(|found| failed("no locked session", found));
    failures.chain(busy).collect()
}

/// The files below `directory` that are no part of an empty store.
fn list(
    directory: &Path,
    prefix: &str,
    subject: &Subject,
    left: &mut Vec<String>,
) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if subject.is_of_empty_store(&name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), subject, left)?;
        } else {
            left.push(name);
        }
    }
    Ok(())
}
