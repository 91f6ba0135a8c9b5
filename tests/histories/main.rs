//! Processes that do what they like with one or two sessions at once. Of thousands of short
//! histories, each must be explained by some order in which the operations were done one after the
//! other. Stores that are broken on purpose must give histories that nothing explains.

mod campaign;
mod history;
#[cfg(feature = "mysql")]
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
#[cfg(feature = "postgres")]
mod sessions;
mod worker;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[cfg(any(feature = "mysql", feature = "postgres"))]
use cgi_session::{Config, SessionManager};

use campaign::Campaign;
use history::History;
use testkit::subject::LIBRARY;

/// How many histories, and the seed of the first; each history prints its own seed when it fails.
const HISTORIES: &str = "HISTORIES";
const SEED: &str = "HISTORIES_SEED";

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn seed() -> u64 {
    setting(SEED).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() << 20
    })
}

#[track_caller]
fn is_explained(store: &'static str, histories: u64) {
    are_explained(store, Campaign::of(store), histories);
}

#[track_caller]
fn are_explained(store: &str, mut campaign: Campaign, histories: u64) {
    let (seed, started) = (seed(), Instant::now());
    let tally = campaign
        .run(seed, histories, |history| !history.is_linearizable())
        .unwrap_or_else(|violation| panic!("{violation}"));
    eprintln!(
        "{store}: {tally:?} in {:?}, {SEED}={seed}",
        started.elapsed()
    );
    // Otherwise nothing was tried.
    assert!(20 * tally.overlapping > tally.histories, "{tally:?}");
    assert!(tally.killed > 0 && tally.open > 0, "{tally:?}");
    assert!(tally.turned_away > 0, "{tally:?}");
}

#[track_caller]
fn is_found_out(store: &'static str) {
    let (seed, started) = (seed(), Instant::now());
    // An error would show without any of this. What counts is what nobody was told.
    let is_wrong = |history: &History| !history.has_failures() && !history.is_linearizable();
    let violation = Campaign::of(store)
        .run(seed, 20_000, is_wrong)
        .err()
        .unwrap_or_else(|| panic!("{store}: nothing was noticed, {SEED}={seed}"));
    eprintln!("{store}, after {:?}: {violation}", started.elapsed());
}

#[test]
fn every_history_of_the_library_is_explained_by_some_order() {
    is_explained(LIBRARY, setting(HISTORIES).unwrap_or(4000));
}

#[cfg(feature = "redis")]
#[test]
fn every_history_of_a_redis_server_is_explained_by_some_order() {
    let Some(server) = testkit::redis::RedisServer::start(&["--appendfsync", "no"]) else {
        return;
    };
    let settings = [
        ("storageType", "redis".to_owned()),
        ("database", server.url()),
    ];
    let histories = setting(HISTORIES).unwrap_or(1000);
    are_explained("redis", Campaign::of_engine(&settings), histories);
}

#[cfg(any(feature = "mysql", feature = "postgres"))]
#[track_caller]
fn is_explained_in_a_table(storage_type: &str, url: String) {
    let settings = [("storageType", storage_type.to_owned()), ("database", url)];
    let config = settings.iter().fold(Config::new(), |config, (key, value)| {
        config.set(key, value).unwrap()
    });
    let problems = SessionManager::new(config).unwrap().install();
    assert!(problems.is_empty(), "{problems:?}");
    let histories = setting(HISTORIES).unwrap_or(1000);
    are_explained(storage_type, Campaign::of_engine(&settings), histories);
}

#[cfg(feature = "postgres")]
#[test]
fn every_history_of_a_postgres_server_is_explained_by_some_order() {
    let Some(server) = testkit::postgres::PostgresServer::start(&[]) else {
        return;
    };
    is_explained_in_a_table("postgres", server.url());
}

#[cfg(feature = "mysql")]
#[test]
fn every_history_of_a_mysql_server_is_explained_by_some_order() {
    let Some(server) = testkit::mysql::MysqlServer::start(&[]) else {
        return;
    };
    is_explained_in_a_table("mysql", server.url());
}

#[test]
fn every_history_of_a_plain_but_right_store_is_explained_by_some_order() {
    is_explained("Nothing", 500);
}

#[test]
fn without_a_lock_a_history_is_not_explained() {
    is_found_out("NoLock");
}

#[test]
fn without_a_look_at_the_link_a_history_is_not_explained() {
    is_found_out("NoLinkCheck");
}

#[test]
fn a_session_that_a_commit_makes_again_leaves_a_history_that_is_not_explained() {
    is_found_out("Resurrect");
}

#[test]
fn a_clean_up_without_the_lock_leaves_a_history_that_is_not_explained() {
    is_found_out("SweepWithoutLock");
}

#[test]
fn an_old_id_that_goes_on_leaves_a_history_that_is_not_explained() {
    is_found_out("ForgetEnd");
}

#[test]
fn an_old_id_without_a_marker_leaves_a_history_that_is_not_explained() {
    is_found_out("DestroyAtEnd");
}

#[test]
fn a_lock_file_that_is_removed_leaves_a_history_that_is_not_explained() {
    is_found_out("LockFileRemoved");
}
