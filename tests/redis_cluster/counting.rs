//! [`Counter`]: a session that threads count in, and what they were told about it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, Error, Record, RedisStore, Result, SessionDigest, SessionId, Store};

use testkit::redis_cluster::RedisCluster;

pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// A store in a cluster, with these settings.
pub(crate) fn store(cluster: &RedisCluster, settings: &[(&str, &str)]) -> RedisStore {
    store_at(&cluster.url(), settings)
}

pub(crate) fn store_at(url: &str, settings: &[(&str, &str)]) -> RedisStore {
    let config = Config::new().set("database", url).unwrap();
    let config = settings.iter().fold(config, |config, (key, value)| {
        config.set(key, value).unwrap()
    });
    RedisStore::new(&config).unwrap()
}

/// A session that counts, and which node had it at the beginning.
pub(crate) struct Counter {
    pub(crate) session: SessionDigest,
    pub(crate) primary: usize,
    /// When each increment was acknowledged.
    acknowledged: Mutex<Vec<Instant>>,
    /// So often it was said that an increment could not be saved.
    unsure: AtomicU64,
    /// So often the session could not even be opened.
    refused: AtomicU64,
}

impl Counter {
    /// A new session that counts 0.
    pub(crate) fn new(cluster: &RedisCluster, store: &RedisStore) -> Self {
        let session = SessionId::generate().unwrap().digest();
        let now = SystemTime::now();
        drop(store.create(&session, &record(0), now).unwrap().unwrap());
        Counter {
            session,
            primary: cluster.primary_of(&key(&session)),
            acknowledged: Mutex::default(),
            unsure: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Sessions of which each primary has so many.
    pub(crate) fn on_each(cluster: &RedisCluster, store: &RedisStore, number: usize) -> Vec<Self> {
        let mut counters: Vec<Self> = Vec::new();
        let has = |counters: &[Self], primary| {
            let its = counters.iter().filter(|counter| counter.primary == primary);
            its.count()
        };
        while (0..3).any(|primary| has(&counters, primary) < number) {
            let counter = Counter::new(cluster, store);
            if has(&counters, counter.primary) < number {
                counters.push(counter);
            }
        }
        counters
    }

    pub(crate) fn key(&self) -> String {
        key(&self.session)
    }

    /// Counts once.
    pub(crate) fn count(&self, store: &RedisStore) -> Result<()> {
        let locked = store.lock(&self.session, WAIT, SystemTime::now());
        let (stored, mut lease) = match locked {
            Ok(found) => found.expect("a session"),
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        };
        let next = record(counted(&stored.record) + 1);
        if let Err(error) = lease.finish(&next, SystemTime::now()) {
            self.unsure.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        self.acknowledged().push(Instant::now());
        Ok(())
    }

    /// Counts until it is over. Whatever fails must say that it can be tried again.
    pub(crate) fn count_until(&self, store: &RedisStore, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            if let Err(error) = self.count(store) {
                assert!(
                    matches!(
                        error,
                        Error::Unavailable { .. } | Error::LeaseLost | Error::Busy { .. }
                    ),
                    "{error:?}"
                );
                // As long as nobody serves, there is nothing but that to be heard.
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// What is stored.
    pub(crate) fn value(&self, store: &RedisStore) -> u64 {
        let stored = store.read(&self.session, SystemTime::now()).unwrap();
        counted(&stored.expect("a session").record)
    }

    pub(crate) fn told(&self) -> u64 {
        self.acknowledged().len() as u64
    }

    /// How many increments were acknowledged no longer before or after this time.
    pub(crate) fn told_near(&self, time: Instant, distance: Duration) -> u64 {
        let all = self.acknowledged();
        let far = |at: Instant| {
            let after = at.saturating_duration_since(time);
            after.max(time.saturating_duration_since(at))
        };
        all.iter().filter(|at| far(**at) <= distance).count() as u64
    }

    /// When an increment was first acknowledged after this time.
    pub(crate) fn first_after(&self, time: Instant) -> Option<Instant> {
        let all = self.acknowledged();
        all.iter().copied().filter(|at| *at > time).min()
    }

    pub(crate) fn unsure(&self) -> u64 {
        self.unsure.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// As the library names it.
fn key(session: &SessionDigest) -> String {
    format!("Session:{{{session}}}")
}

pub(crate) fn record(count: u64) -> Record {
    let values = format!(r#"{{"":{{"count":{count}}}}}"#);
    Record::new(SystemTime::now()).with_values(values.into_bytes())
}

fn counted(record: &Record) -> u64 {
    let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
    values[""]["count"].as_u64().unwrap()
}

/// Counts in all sessions, each from two threads, until `work` is done.
pub(crate) fn count_meanwhile<T>(
    counters: &[Counter],
    store: &RedisStore,
    work: impl FnOnce() -> T,
) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for counter in counters.iter().chain(counters) {
            scope.spawn(|| counter.count_until(store, &is_over));
        }
        // Else the threads would count for ever when it fails.
        let _over = Over(&is_over);
        work()
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
