//! A copy that is run again: it brings what has changed, overwrites nothing and brings nothing back.

use std::fs;
use std::time::{Duration, SystemTime};

use cgi_session::Record;

use crate::pair::{Pair, WAIT, all, counts, records, store, visitor};
use testkit::tools::set_age;

#[test]
fn it_brings_what_is_new_or_was_changed_and_nothing_else() {
    let pair = Pair::new("file", "sqlite");
    let [first, second] = [(); 2].map(|()| visitor(&pair.old()));
    assert_eq!(pair.counts(&[], 0), counts(2, &[("copied", 2)]));
    assert_eq!(pair.counts(&[], 0), counts(2, &[("unchanged", 2)]));
    first.count(&pair.old());
    let third = visitor(&pair.old());
    let expected = counts(3, &[("copied", 1), ("unchanged", 1), ("updated", 1)]);
    assert_eq!(pair.counts(&["--dry-run"], 0), expected);
    assert_eq!(pair.counts(&[], 0), expected);
    assert_eq!(pair.counts(&[], 0), counts(3, &[("unchanged", 3)]));
    let counted = [&first, &second, &third].map(|it| it.counted(&pair.new_one()));
    assert_eq!(counted, [Some(1), Some(0), Some(0)]);
}

#[test]
fn what_was_only_used_since_lives_on_as_long() {
    let pair = Pair::new("file", "sqlite");
    let session = store(&pair.old(), &Record::new(SystemTime::now()), 50);
    pair.copy(&[]).exits_with(0);
    let now = SystemTime::now();
    pair.old().store().read(&session, now).unwrap().unwrap();
    assert_eq!(pair.counts(&[], 0), counts(1, &[("renewed", 1)]));
    let stored = pair.new_one().peek(&session).unwrap().unwrap();
    assert!(now.duration_since(stored.last_access).unwrap().as_secs() <= 2);
    assert_eq!(pair.counts(&[], 0), counts(1, &[("unchanged", 1)]));
}

#[test]
fn a_session_that_lives_long_unused_is_not_renewed_for_a_use_that_is_not_noted_there() {
    let pair = Pair::new("file", "sqlite");
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let now = SystemTime::now();
    let record = br#"{"v":1,"created":1767225600,"idle":2592000,"lifetime":0,"values":{}}"#;
    let session = store(&pair.old(), &Record::from_json(record.to_vec()).unwrap(), 0);
    // A use is noted twice a day.
    let path = pair.directory("old").join(format!("{session}.json"));
    set_age(&path, hours(11));
    pair.copy(&[]).exits_with(0);
    let old = pair.old();
    let (_, mut lease) = old.store().lock(&session, WAIT, now).unwrap().unwrap();
    lease.touch(now + hours(2)).unwrap();
    drop(lease);
    assert_eq!(pair.counts(&[], 0), counts(1, &[("unchanged", 1)]));
}

#[test]
fn an_old_id_is_not_brought_and_ends_in_the_new_store() {
    let pair = Pair::new("file", "sqlite");
    let mut session = pair.old().start("").unwrap();
    session.insert("views", 1).unwrap();
    let cookie = session.commit().unwrap().unwrap().to_string();
    pair.copy(&[]).exits_with(0);
    let mut session = pair.old().start(cookie.split(';').next().unwrap()).unwrap();
    session.regenerate_id();
    session.commit().unwrap();
    let expected = counts(1, &[("copied", 1), ("gone", 1), ("goneDeleted", 1)]);
    assert_eq!(pair.counts(&["--delete-gone"], 0), expected);
    assert_eq!(records(&pair.old()), records(&pair.new_one()));
}

#[test]
fn what_was_written_in_the_new_store_is_never_overwritten() {
    let pair = Pair::new("file", "sqlite");
    let [there, both] = [(); 2].map(|()| visitor(&pair.old()));
    pair.copy(&[]).exits_with(0);
    there.count(&pair.new_one());
    assert_eq!(
        pair.counts(&[], 0),
        counts(2, &[("newerThere", 1), ("unchanged", 1)])
    );
    both.count(&pair.old());
    both.count(&pair.new_one());
    both.count(&pair.new_one());
    for arguments in [&[][..], &["--dry-run"], &["--move", "--dry-run"]] {
        let refused = pair.copy(arguments).exits_with(1);
        refused
            .complains(&format!("{}: ", both.digest))
            .complains("written in both stores")
            .says("not brought: 1 changed in both");
    }
    assert_eq!(both.counted(&pair.old()), Some(1));
    assert_eq!(both.counted(&pair.new_one()), Some(2));

    // A move ends what is there already, and leaves what is not.
    pair.copy(&["--move"]).exits_with(1);
    assert_eq!(there.counted(&pair.old()), None);
    assert_eq!(there.counted(&pair.new_one()), Some(1));
    assert_eq!(both.counted(&pair.old()), Some(1));
    pair.old().destroy_by_digest(&both.digest).unwrap();
    assert_eq!(pair.counts(&["--move"], 0), counts(0, &[]));
}

#[test]
fn without_its_journal_it_overwrites_nothing_either() {
    let pair = Pair::new("file", "sqlite");
    let [same, changed] = [(); 2].map(|()| visitor(&pair.old()));
    pair.copy(&[]).exits_with(0);
    fs::remove_file(pair.journal()).unwrap();
    changed.count(&pair.old());
    let expected = counts(2, &[("conflicts", 1), ("unchanged", 1)]);
    assert_eq!(pair.counts(&[], 1), expected);
    assert_eq!(changed.counted(&pair.new_one()), Some(0));
    // What was found to be the same is known from then on.
    same.count(&pair.old());
    let expected = counts(2, &[("conflicts", 1), ("updated", 1)]);
    assert_eq!(pair.counts(&[], 1), expected);
}

#[test]
fn what_has_ended_in_the_new_store_does_not_come_back() {
    let pair = Pair::new("file", "sqlite");
    let [left, written] = [(); 2].map(|()| visitor(&pair.old()));
    pair.copy(&[]).exits_with(0);
    for visitor in [&left, &written] {
        pair.new_one().destroy_by_digest(&visitor.digest).unwrap();
    }
    written.count(&pair.old());
    let refused = pair.copy(&[]).exits_with(1).complains("has ended there");
    refused
        .says("1 ended there")
        .complains(written.digest.as_str());
    assert!(all(&pair.new_one()).is_empty());
    assert_eq!(written.counted(&pair.old()), Some(1));
    let expected = counts(2, &[("conflicts", 1), ("endedThere", 1), ("moved", 1)]);
    assert_eq!(pair.counts(&["--move"], 1), expected);
    assert_eq!(left.counted(&pair.old()), None);
}

#[test]
fn a_session_that_expired_in_the_new_store_while_it_was_used_in_the_old_one_is_brought_again() {
    let pair = Pair::new("file", "file");
    let session = store(&pair.old(), &Record::new(SystemTime::now()), 10);
    pair.copy(&[]).exits_with(0);
    // A shorter time in the new store stands for the time that passes.
    pair.configure("new", "file", "timeout = 5");
    assert!(pair.new_one().peek(&session).unwrap().is_none());
    let now = SystemTime::now();
    pair.old().store().read(&session, now).unwrap().unwrap();
    assert_eq!(pair.counts(&[], 0), counts(1, &[("copied", 1)]));
    assert!(pair.new_one().peek(&session).unwrap().is_some());
}

#[test]
fn what_has_ended_in_the_old_store_ends_in_the_new_one_when_that_is_asked_for() {
    let pair = Pair::new("file", "sqlite");
    let [unused, used, written] = [(); 3].map(|()| visitor(&pair.old()));
    let now = SystemTime::now();
    for visitor in [&unused, &used, &written] {
        // Long ago, so that a use is noted.
        let (_, mut lease) = pair
            .old()
            .store()
            .lock(&visitor.digest, WAIT, now)
            .unwrap()
            .unwrap();
        lease.touch(now - WAIT * 30).unwrap();
    }
    pair.copy(&[]).exits_with(0);
    pair.new_one().store().read(&used.digest, now).unwrap();
    written.count(&pair.new_one());
    for visitor in [&unused, &used, &written] {
        pair.old().destroy_by_digest(&visitor.digest).unwrap();
    }
    for arguments in [&[][..], &["--delete-gone", "--dry-run"]] {
        assert_eq!(pair.counts(arguments, 0), counts(0, &[("gone", 1)]));
    }
    pair.copy(&[]).exits_with(0).says("--delete-gone");
    let expected = counts(0, &[("gone", 1), ("goneDeleted", 1)]);
    assert_eq!(pair.counts(&["--delete-gone"], 0), expected);
    assert_eq!(pair.counts(&["--delete-gone"], 0), counts(0, &[]));
    let left: Vec<_> = all(&pair.new_one()).into_keys().collect();
    let mut expected = vec![used.digest.to_string(), written.digest.to_string()];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn what_was_moved_is_not_taken_for_gone() {
    let pair = Pair::new("file", "sqlite");
    let visitor = visitor(&pair.old());
    let expected = counts(1, &[("copied", 1), ("moved", 1)]);
    assert_eq!(pair.counts(&["--move"], 0), expected);
    assert!(all(&pair.old()).is_empty());
    for _ in 0..2 {
        let again = pair.counts(&["--move", "--delete-gone"], 0);
        assert_eq!(again, counts(0, &[]));
    }
    assert_eq!(visitor.counted(&pair.new_one()), Some(0));
}
