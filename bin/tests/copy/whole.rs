//! What arrives: records byte for byte, and everything that can be done with them.

use std::time::{Duration, SystemTime};

use cgi_session::{Record, SessionManager};

use crate::pair::{Pair, all, counts, pairs, records, store, visitor};
use testkit::tools::Finished;

/// A store knows when a session was used to a sixtieth of its time, and in whole seconds.
const NOTICED: Duration = Duration::from_secs(62);
const HOUR: Duration = Duration::from_secs(3600);

/// Sessions of every kind.
fn fill(manager: &SessionManager) {
    let now = SystemTime::now();
    let plain = Record::new(now - HOUR);
    let odd = br#"{ "": {"a" : [1, 2.50, "\u00e4\n"],"":null}, "shop":{"cart":{}} }"#;
    let large = format!(r#"{{"":{{"padding":"{}"}}}}"#, "x".repeat(100_000));
    for values in [&b"{}"[..], odd, large.as_bytes()] {
        store(manager, &plain.with_values(values.to_vec()), 50);
    }
    for user in ["ada", "ada", "b\u{fc}cher \"quoted\""] {
        store(manager, &plain.clone().with_user(Some(user)), 5);
    }
    let mut session = manager.start("").unwrap();
    session.insert("views", 3).unwrap();
    session.set_timeout(Some(Duration::from_secs(900)));
    session.set_user(Some("grace")).unwrap();
    session.flash("notice", "Hello").unwrap();
    session
        .application("other")
        .unwrap()
        .insert("key", "value")
        .unwrap();
    session.commit().unwrap();
    let mut session = manager.start("").unwrap();
    session.insert("views", 4).unwrap();
    let cookie = session.commit().unwrap().unwrap().to_string();
    let mut session = manager.start(cookie.split(';').next().unwrap()).unwrap();
    session.regenerate_id_with_grace(Duration::from_secs(600));
    session.commit().unwrap();
}

const FILLED: u64 = 9;

/// The same sessions, in states and with times that are the same, too.
#[track_caller]
fn are_same(one: &SessionManager, other: &SessionManager) {
    assert_eq!(records(one), records(other));
    let others = all(other);
    for (session, stored) in all(one) {
        let ends = [(one, &stored), (other, &others[&session])];
        let [end, other_end] = ends.map(|(manager, stored)| manager.end_of(stored));
        let apart = other_end
            .duration_since(end)
            .unwrap_or_else(|earlier| earlier.duration());
        assert!(apart <= NOTICED, "{session}: {apart:?}");
        if stored.record.expires().is_some() && stored.record.timeout().is_none() {
            // A file has no place for the last use of what ends at a fixed time.
            continue;
        }
        let used = others[&session].last_access;
        let apart = used
            .duration_since(stored.last_access)
            .unwrap_or_else(|earlier| earlier.duration());
        assert!(apart <= NOTICED, "{session}: {apart:?}");
    }
}

#[test]
fn sessions_arrive_whole_in_another_store_and_in_files_again() {
    for (old, new) in pairs() {
        let pair = Pair::new(old, new);
        fill(&pair.old());
        let copied = pair.counts(&[], 0);
        assert_eq!(copied, counts(FILLED, &[("copied", FILLED)]));
        are_same(&pair.old(), &pair.new_one());
        pair.configure("third", "file", "shards = 256");
        let mut back = pair.command("new", "third");
        back.arg("--journal").arg(pair.path().join("third.journal"));
        Finished::of(&mut back)
            .exits_with(0)
            .says("9 sessions copied; ");
        are_same(&pair.old(), &pair.manager("third"));
        for manager in [pair.new_one(), pair.manager("third")] {
            let of = |user| manager.sessions_of(user).unwrap().len();
            assert_eq!((of("ada"), of("b\u{fc}cher \"quoted\"")), (2, 1));
            assert_eq!(manager.destroy_sessions_of("ada", None).unwrap(), 2);
        }
    }
}

#[test]
fn a_visitor_goes_on_with_the_same_cookie() {
    let pair = Pair::new("sqlite", "file");
    let visitor = visitor(&pair.old());
    visitor.count(&pair.old());
    pair.copy(&[]).exits_with(0);
    visitor.count(&pair.new_one());
    assert_eq!(visitor.counted(&pair.new_one()), Some(2));
    assert_eq!(visitor.counted(&pair.old()), Some(1));
}

#[test]
fn a_session_that_has_a_new_id_cannot_be_changed_under_the_old_one_there_either() {
    let pair = Pair::new("file", "sqlite");
    let visitor = visitor(&pair.old());
    let mut session = pair.old().start(&visitor.cookie).unwrap();
    session.regenerate_id_with_grace(Duration::from_secs(600));
    session.commit().unwrap();
    assert_eq!(pair.counts(&[], 0), counts(2, &[("copied", 2)]));
    let old_id = pair.new_one().existing(&visitor.cookie).unwrap().unwrap();
    assert!(old_id.is_replaced());
}

#[test]
fn what_has_expired_is_left_out_by_the_rules_of_both_stores() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("new", "sqlite", "timeout = 30");
    let record = Record::new(SystemTime::now() - 2 * HOUR);
    for minutes in [10, 45, 90] {
        store(&pair.old(), &record, minutes);
    }
    let copied = pair.counts(&[], 0);
    assert_eq!(copied, counts(2, &[("copied", 1), ("expired", 1)]));
    assert_eq!(all(&pair.new_one()).len(), 1);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let pair = Pair::new("file", "sqlite");
    fill(&pair.old());
    let expected = counts(FILLED, &[("copied", FILLED), ("moved", FILLED)]);
    assert_eq!(pair.counts(&["--dry-run", "--move"], 0), expected);
    assert!(!pair.journal().exists());
    assert!(!pair.directory("new").join("sessions.db").exists());
    assert_eq!(all(&pair.old()).len(), 9);
    pair.copy(&["--dry-run"]).says("this was a dry run");
}
