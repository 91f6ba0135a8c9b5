//! What is particular to a server: its URL and its password, its keys, its clock, and a lock that ends.

use std::os::unix::fs::PermissionsExt;

use cgi_session_redis::RedisStore;

use crate::away::is_away;
use cgi_session::store_contract::{WAIT, count, counted, create, later, record};
use testkit::database_urls;
use testkit::prelude::*;
use testkit::redis::USER;
use testkit::sessions::log_in_at_once;

pub(crate) fn config(url: &str, settings: &[(&str, &str)]) -> Config {
    set(Config::new().set("database", url).unwrap(), settings)
}

pub(crate) fn store(server: &RedisServer, settings: &[(&str, &str)]) -> RedisStore {
    RedisStore::new(&config(&server.url(), settings)).unwrap()
}

#[track_caller]
fn is_refused(config: &Config, words: impl Words) {
    let error = RedisStore::new(config).map(drop).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    says(&error, words);
}

#[test]
fn a_server_is_named_by_a_url_and_by_nothing_else() {
    for url in [
        "redis://127.0.0.1",
        "redis://127.0.0.1:6379/0",
        "redis://ada:s3cret@[::1]:6379/3",
        "redis+unix:///run/redis.sock?db=0&user=ada&pass=s3cret",
        "redis+cluster://127.0.0.1:7001,redis.example:7002,[::1]:7003/",
        "redis+cluster://ada:s3cret@127.0.0.1:7001",
        "valkey://127.0.0.1:6379/0",
        "valkey+unix:///run/valkey.sock",
        "redis+sentinel://127.0.0.1:26379,redis.example,[::1]:26380/my-master/0",
        "redis+sentinel://ada:s3cret@h/mymaster/2?sentinelUser=eve&sentinelPass=s3cret",
        "valkey+sentinel://h/mymaster",
        "redis+sentinel://h/a%2Fb/1",
    ] {
        assert!(RedisStore::new(&config(url, &[])).is_ok(), "{url}");
    }
    let example = "redis://127.0.0.1:6379/0";
    for (scheme, path) in [
        ("redis", "0"),
        ("valkey+cluster", ""),
        ("redis+sentinel", "mymaster/0"),
    ] {
        database_urls::are_refused(scheme, path, example, |config| {
            RedisStore::new(config).map(drop)
        });
    }
    let (number, name) = ("Invalid database number", "under which name");
    for (url, words) in [
        ("redis://ada:s3cret@h/x", number),
        ("redis://ada:s3cret@h/-1", number),
        ("redis+unix:///r.sock?db=-1&pass=s3cret", number),
        ("redis://ada:s3cret@h,k/0", "several hosts"),
        ("redis+unix://ada:s3cret@h/r.sock", "no host"),
        ("redis+unix:///r.sock?db=1&db=2", "two parameters db"),
        ("redis+cluster://ada:s3cret@h:7001/1", "no database but 0"),
        ("redis+sentinel://ada:s3cret@h:26379", name),
        ("redis+sentinel://ada:s3cret@h/?sentinelPass=s3cret", name),
        ("redis+sentinel://ada:s3cret@h/mymaster/x", number),
    ] {
        is_refused(&config(url, &[]), [words, example]);
    }
}

#[test]
fn a_greatest_number_of_sessions_is_refused() {
    let limited = config("redis://127.0.0.1", &[("maxSessions", "10")]);
    is_refused(&limited, "maxSessions*not supported by storageType = redis");
}

/// A file of a directory that only its owner may read.
fn secret(directory: &Path, text: &str) -> String {
    let path = directory.join("password");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn a_password_is_taken_from_the_url_or_from_a_file_and_never_shown() {
    let Some(server) = RedisServer::start("--requirepass s3cret") else {
        return;
    };
    let path = secret(server.directory(), "s3cret\n");
    let now = SystemTime::now();
    let from_file = RedisStore::new(&config(&server.url(), &[("databasePasswordFile", &path)]));
    let (id, _) = create(&from_file.unwrap(), 1, now);
    let url = format!("{}?pass=s3cret", server.url());
    let from_url = RedisStore::new(&config(&url, &[])).unwrap();
    assert_eq!(counted(&from_url, &id.digest()), Some(1));

    let error = store(&server, &[]).read(&id.digest(), now).unwrap_err();
    says(&error, "NOAUTH*redis.sock*databasePasswordFile");
    assert_eq!(error.status(), 500);
    let wrong = RedisStore::new(&config(&format!("{}?pass=s3cretX", server.url()), &[]));
    let error = wrong.unwrap().read(&id.digest(), now).unwrap_err();
    says(&error, ["authentication failed", "pass=***"]);

    // The file is read again for every connection.
    fs::write(&path, "s3cretX\n").unwrap();
    let settings = [("databasePasswordFile", &*path)];
    let from_file = RedisStore::new(&config(&server.url(), &settings)).unwrap();
    let error = from_file.read(&id.digest(), now).unwrap_err();
    says(&error, "authentication failed*databasePasswordFile");
    fs::write(&path, "s3cret\n").unwrap();
    wait_until("the new password is taken", || {
        from_file.read(&id.digest(), now).is_ok()
    });

    let twice = config(&url, &[("databasePasswordFile", &path)]);
    is_refused(&twice, "databasePasswordFile*in database,");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let exposed = config(&server.url(), &[("databasePasswordFile", &path)]);
    is_refused(&exposed, "others can read it (mode 0640)");
    let missing = config(&server.url(), &[("databasePasswordFile", "/nonexistent")]);
    is_refused(&missing, "databasePasswordFile = /nonexistent*no such file");
}

#[test]
fn a_manager_keeps_its_sessions_in_the_server_that_the_configuration_names() {
    let Some(server) = redis() else { return };
    let config = config(
        &server.url(),
        &[("storageType", "redis"), ("table", "visitors")],
    );
    let manager = SessionManager::with_kinds(config, &[cgi_session_redis::REDIS]).unwrap();
    let cookie = header_of(change(&manager, b"", |it| it.insert("n", 1).unwrap()));
    let id = SessionId::parse(cookie.split_once('=').unwrap().1.as_bytes()).unwrap();
    let key = format!("visitors:{{{}}}", id.digest());
    // No more than one key, and no lock.
    assert_eq!(server.tell("KEYS *"), key);
    let text = server.tell(["HGET", &key, "record"]);
    assert!(text.ends_with(r#""values":{"":{"n":1}}}"#), "{text}");
    let session: Session = manager.existing(&cookie).unwrap().unwrap();
    assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
}

#[test]
fn however_many_log_in_at_once_a_user_never_has_more_sessions() {
    let Some(server) = redis() else { return };
    for full in ["evictOldest", "refuse"] {
        let settings = [
            ("storageType", "redis"),
            ("table", full),
            ("maxSessionsPerUser", "3"),
            ("whenUserFull", full),
            ("lockTimeout", "600s"),
        ];
        let manager = || {
            let config = config(&server.url(), &settings);
            SessionManager::with_kinds(config, &[cgi_session_redis::REDIS]).unwrap()
        };
        log_in_at_once([&manager(), &manager()], full == "refuse");
        // What is left of the lock is nothing.
        assert_eq!(server.tell("KEYS *:lock:*"), "");
    }
}

#[test]
fn a_slow_request_cannot_save_over_what_another_one_saved_since() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[("lockLease", "4s")]);
    let now = SystemTime::now();
    let (id, mut slow) = create(&store, 1, now);
    let session = id.digest();
    // In the lock's own time, and not before.
    assert!(matches!(
        store.lock(&session, Duration::ZERO, now),
        Err(Error::Busy { .. })
    ));
    let (stored, mut quick) = store.lock(&session, WAIT, now).unwrap().unwrap();
    assert_eq!(count(&stored.record), 1);
    is_lost(slow.check());
    let lost = slow.commit(&record(10, now), now);
    fails(lost, 503, "lockLease*nothing of this request was saved");
    quick.commit(&record(2, now), now).unwrap();
    drop(quick);
    is_lost(slow.commit(&record(10, now), now));
    slow.touch(later(now, 30)).unwrap();
    is_lost(slow.destroy());
    assert_eq!(counted(&store, &session), Some(2));
    // What the slow one gave back was not the lock of somebody else.
    let (_, lease) = store.lock(&session, Duration::ZERO, now).unwrap().unwrap();
    let (other, slow) = create(&store, 1, now);
    wait_until("the lock ends", || has_lock_ended(&server, &other));
    let (_, taken) = store.lock(&other.digest(), WAIT, now).unwrap().unwrap();
    drop(slow);
    assert!(matches!(
        store.lock(&other.digest(), Duration::ZERO, now),
        Err(Error::Busy { .. })
    ));
    drop((lease, taken));
}

/// Whether the time of a lock is over that nobody has given back.
fn has_lock_ended(server: &RedisServer, id: &SessionId) -> bool {
    let key = format!("Session:{{{}}}", id.digest());
    let until: u128 = server.tell(["HGET", &key, "until"]).parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() > until
}

#[test]
fn a_slow_request_may_save_when_nobody_came_in_between() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[("lockLease", "4s")]);
    let now = SystemTime::now();
    let (id, mut slow) = create(&store, 1, now);
    // From then on it has the lock again.
    let is_locked = || {
        let refused = store.lock(&id.digest(), Duration::ZERO, now).map(drop);
        matches!(refused, Err(Error::Busy { .. }))
    };
    wait_until("the lock ends", || has_lock_ended(&server, &id));
    slow.check().unwrap();
    assert!(is_locked());
    wait_until("the lock ends", || has_lock_ended(&server, &id));
    slow.commit(&record(2, now), now).unwrap();
    assert!(is_locked());
    drop(slow);
    assert_eq!(counted(&store, &id.digest()), Some(2));
}

#[test]
fn a_slow_request_brings_back_no_session_that_was_destroyed_and_begun_again() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[("lockLease", "1s")]);
    let now = SystemTime::now();
    let (id, mut slow) = create(&store, 1, now);
    let (_, lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
    lease.destroy().unwrap();
    assert!(slow.commit(&record(10, now), now).is_err());
    assert_eq!(counted(&store, &id.digest()), None);
    // Nor does it say that it has ended the session: it may have stored it under another id.
    is_lost(slow.destroy());
    let (id, mut slow) = create(&store, 1, now);
    let (_, lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
    lease.destroy().unwrap();
    let again = store.create(&id.digest(), &record(5, now), now).unwrap();
    drop(again.unwrap());
    assert!(slow.commit(&record(10, now), now).is_err());
    assert_eq!(counted(&store, &id.digest()), Some(5));
}

#[test]
fn a_new_id_brings_back_no_session_that_was_destroyed_meanwhile() {
    let Some(server) = redis() else { return };
    let manager = |settings: &[(&str, &str)]| {
        let config = config(&server.url(), settings);
        SessionManager::with_kinds(
            config.set("storageType", "redis").unwrap(),
            &[cgi_session_redis::REDIS],
        )
        .unwrap()
    };
    let (slow, other) = (
        manager(&[("lockLease", "1s")]),
        manager(&[("lockTimeout", "60s")]),
    );
    for grace in [None, Some(60)] {
        let id = stored(&store(&server, &[]), 1);
        let cookie = format!("sessionId={}", id.secret());
        let mut session = slow.start(cookie).unwrap();
        assert!(other.destroy_by_digest(&id.digest()).unwrap());
        match grace {
            Some(seconds) => session.regenerate_id_with_grace(Duration::from_secs(seconds)),
            None => session.regenerate_id(),
        }
        is_lost(session.commit());
        assert_eq!(server.tell("DBSIZE"), "0");
    }
}

/// How many scripts the server has run.
pub(crate) fn scripts(server: &RedisServer) -> u64 {
    let told = server.tell("INFO commandstats");
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.unwrap().split(',').next().unwrap().parse().unwrap()
}

#[test]
fn a_request_that_changes_its_session_asks_the_server_twice() {
    let Some(server) = redis() else { return };
    let config = config(&server.url(), &[("storageType", "redis")]);
    let manager = SessionManager::with_kinds(config, &[cgi_session_redis::REDIS]).unwrap();
    let mut session = manager.start(b"").unwrap();
    session.insert("n", 1).unwrap();
    let cookie = &header_of(session.commit().unwrap());
    let count = || {
        let before = scripts(&server);
        let mut session = manager.existing(cookie).unwrap().unwrap();
        let number: u64 = session.require("n").unwrap();
        session.insert("n", number + 1).unwrap();
        session.commit().unwrap();
        scripts(&server) - before
    };
    // A server that does not know the scripts is told them.
    server.tell("SCRIPT FLUSH");
    assert_eq!(count(), 4);
    assert_eq!(count(), 2);
    let session = manager.existing(cookie).unwrap().unwrap();
    assert_eq!(session.get::<u64>("n").unwrap(), Some(3));
}

#[test]
fn a_server_that_cannot_keep_sessions_is_told_when_it_is_installed() {
    let evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(server) = RedisServer::start(evicting) else {
        return;
    };
    let store = store(&server, &[]);
    let problems = store.install();
    assert_eq!(problems.len(), 1, "{problems:?}");
    says(&problems[0], "allkeys-lru*maxmemory-policy noeviction");
    server.tell("CONFIG SET maxmemory-policy noeviction");
    assert!(store.install().is_empty());
    let durable = crate::store::store(&server, &[("durability", "data")]);
    assert!(durable.install().is_empty());
    server.tell("CONFIG SET appendfsync no");
    let words = "durability = data*appendfsync always";
    says(&durable.install()[0], words);
    server.tell("CONFIG SET timeout 30");
    says(&store.install()[0], "lasts for 30s*set timeout 0");
    let short = crate::store::store(&server, &[("lockLease", "30s")]);
    assert!(short.install().is_empty());
    server.tell("CONFIG SET timeout 0");
    server.tell("REPLICAOF 127.0.0.1 1");
    says(&store.install()[0], "replica*primary");
}

#[test]
fn with_durability_a_commit_waits_for_the_disk_where_the_server_can_tell() {
    let Some(server) = RedisServer::start("--appendfsync everysec") else {
        return;
    };
    let store = store(&server, &[("durability", "data")]);
    let now = SystemTime::now();
    let (_, mut lease) = create(&store, 1, now);
    lease.commit(&record(2, now), now).unwrap();
    let version = server.tell("INFO server");
    let version = version
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let mut parts = version
        .unwrap()
        .split('.')
        .map(|part| part.parse::<u32>().unwrap());
    let can_tell = (parts.next(), parts.next()) >= (Some(7), Some(2));
    let used = server.tell("INFO commandstats");
    assert_eq!(
        used.contains("cmdstat_waitaof:calls=2,"),
        can_tell,
        "{used}"
    );
    let told = if can_tell {
        " (WAITAOF)"
    } else {
        ", without WAITAOF"
    };
    let engine = store.examine().engine.unwrap();
    assert!(engine.ends_with(told), "{engine}");
    // Where the server has no log there is nothing to be waited for.
    server.tell("CONFIG SET appendonly no");
    lease.commit(&record(3, now), now).unwrap();
    assert_eq!(store.install().len(), 1);
}

#[test]
fn a_user_with_the_documented_rights_can_do_everything_and_with_less_is_told_what_to_do() {
    let Some(server) = redis() else { return };
    server.let_in("~Session:*");
    let (user, password) = USER.split_once(':').unwrap();
    let url = format!("{}?user={user}&pass={password}&db=1", server.url());
    let store = |settings: &[(&str, &str)]| RedisStore::new(&config(&url, settings)).unwrap();
    let durable = store(&[("durability", "data")]);
    let now = SystemTime::now();
    assert!(durable.install().is_empty(), "{:?}", durable.install());
    let (id, mut lease) = create(&durable, 1, now);
    let record = record(2, now).with_user(Some("ada"));
    lease.commit(&record, now).unwrap();
    let refused = durable.lock(&id.digest(), Duration::ZERO, now).map(drop);
    assert!(matches!(refused, Err(Error::Busy { .. })));
    drop(lease);
    assert_eq!(durable.sessions_of("ada", now).unwrap(), [id.digest()]);
    let mut listed = 0;
    let visit = &mut |_: &SessionDigest, _| {
        listed += 1;
        ControlFlow::Continue(())
    };
    durable.for_each(visit, now).unwrap();
    assert_eq!(listed, 1);
    let report = durable.delete_expired(&Sweep::new(), later(now, 600));
    assert_eq!(report.unwrap().deleted, 1);
    assert!(durable.uninstall().errors.is_empty());

    let words = ["NOPERM", "what the user may do (ACL)"];
    let elsewhere = store(&[("table", "Other")]);
    fails(elsewhere.read(&id.digest(), now), 500, words);
    if durable.examine().engine.unwrap().ends_with("(WAITAOF)") {
        server.tell(["ACL", "SETUSER", user, "-waitaof"]);
        says(&durable.examine().problems[0], words);
    }
    server.tell(["ACL", "SETUSER", user, "-evalsha", "-info"]);
    let error = durable.lock(&id.digest(), WAIT, now).map(drop).unwrap_err();
    says(&error, words);
    says(&durable.install()[0], words);
}

#[test]
fn with_durability_a_commit_waits_for_a_replica_if_there_is_one() {
    let port = free_port().to_string();
    let Some(server) = RedisServer::start(["--port", &port, "--bind", "127.0.0.1"]) else {
        return;
    };
    let store = store(&server, &[("durability", "data"), ("lockTimeout", "4s")]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    let replica = RedisServer::start(["--replicaof", "127.0.0.1", &port]).unwrap();
    wait_until("the replica follows", || {
        server.tell("INFO replication").contains("state=online")
    });
    lease.commit(&record(2, now), now).unwrap();
    let key = format!("Session:{{{}}}", id.digest());
    holds(replica.tell(["HGET", &key, "record"]), r#""count":2"#);
    replica.freeze();
    fails(
        lease.commit(&record(3, now), now),
        503,
        "cannot save a session in*a replica has not confirmed",
    );
    replica.resume();
    lease.commit(&record(4, now), now).unwrap();
    lease.destroy().unwrap();
    assert_eq!(replica.tell(["EXISTS", &key]), "0");
}

#[test]
fn a_server_that_becomes_a_replica_while_a_commit_waits_for_one_is_away() {
    let port = free_port().to_string();
    let Some(server) = RedisServer::start(["--port", &port, "--bind", "127.0.0.1"]) else {
        return;
    };
    let replica = RedisServer::start(["--replicaof", "127.0.0.1", &port]).unwrap();
    wait_until("the replica follows", || {
        server.tell("INFO replication").contains("state=online")
    });
    let store = store(&server, &[("durability", "data")]);
    let now = SystemTime::now();
    let (_, mut lease) = create(&store, 1, now);
    replica.freeze();
    thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the commit waits", || {
                server.tell("INFO clients").contains("blocked_clients:1")
            });
            server.tell("REPLICAOF 127.0.0.1 1");
        });
        is_away(lease.commit(&record(2, now), now), "READONLY");
    });
}

#[test]
fn updates_without_lock_and_version_are_lost_and_the_count_shows_it() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[]);
    let lost = || {
        let id = stored(&store, 0);
        let key = format!("Session:{{{}}}", id.digest());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| count_without_lock(&server, &key, 100));
            }
        });
        counted(&store, &id.digest()).unwrap() < 400
    };
    assert!((0..20).any(|_| lost()), "nothing was lost");
}

/// As the library stores it, but for the lock and the version.
fn count_without_lock(server: &RedisServer, key: &str, times: u64) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for _ in 0..times {
        let text: Vec<u8> = redis::cmd("HGET")
            .arg(key)
            .arg("record")
            .query(&mut connection)
            .unwrap();
        let stored = cgi_session::Record::from_json(text).unwrap();
        let next = record(count(&stored) + 1, SystemTime::now()).to_json();
        let mut command = redis::cmd("HSET");
        command
            .arg(key)
            .arg("record")
            .arg(next)
            .exec(&mut connection)
            .unwrap();
    }
}
