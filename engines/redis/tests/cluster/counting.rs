//! [`Counter`]: a session that counts, and what was acknowledged of it.

use cgi_session::Result;
use cgi_session::store_contract::{WAIT, count, counted, record};
use cgi_session_redis::RedisStore;

use testkit::prelude::*;
use testkit::redis_cluster::RedisCluster;

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
    acknowledged: AtomicU64,
}

impl Counter {
    /// A new session that counts 0.
    pub(crate) fn new(cluster: &RedisCluster, store: &RedisStore) -> Self {
        let session = SessionId::generate().unwrap().digest();
        let now = SystemTime::now();
        let lease = store.create(&session, &record(0, now), now);
        drop(lease.unwrap().unwrap());
        Counter {
            session,
            primary: cluster.primary_of(&key(&session)),
            acknowledged: AtomicU64::new(0),
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
        let now = SystemTime::now();
        let (stored, mut lease) = store.lock(&self.session, WAIT, now)?.expect("a session");
        lease.finish(&record(count(&stored.record) + 1, now), now)?;
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What is stored.
    pub(crate) fn value(&self, store: &RedisStore) -> u64 {
        counted(store, &self.session).expect("a session")
    }

    pub(crate) fn told(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// As the library names it.
fn key(session: &SessionDigest) -> String {
    format!("Session:{{{session}}}")
}
