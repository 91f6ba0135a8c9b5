//! Several processes on one session of a store: nothing is lost, whoever dies, destroys or cleans up.
//! The same harness must notice what a store without locks loses.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{CustomFunctions, Error, Record, SessionDigest, Store, Sweep};

use crate::rows::Rows;
#[cfg(all(feature = "mysql", feature = "postgres"))]
use crate::sql_server::{count_without_lock as count_in_sql, shared_url, variable};
#[cfg(feature = "redis")]
use crate::subjects::{REDIS, redis_url};
use crate::subjects::{
    Subject, WAIT, count, counted, create, later, open, record, shared, subject, table,
};

const PROCESSES: usize = 16;
const INCREMENTS: u64 = 200;
const DEADLINE: Duration = Duration::from_secs(120);

const STORE: &str = "CONTRACT_STORE";
const PLACE: &str = "CONTRACT_PLACE";
const SESSION: &str = "CONTRACT_SESSION";
const TASK: &str = "CONTRACT_TASK";

/// The stores that processes share, each with a session that counts 0.
fn shared_stores() -> impl Iterator<Item = (Subject, SessionDigest)> {
    shared().map(|name| {
        let subject = subject(name, &[("lockTimeout", "60s")]);
        let (id, lease) = create(&*subject.store, 0, SystemTime::now());
        drop(lease);
        (subject, id.digest())
    })
}

#[test]
fn sixteen_processes_that_count_at_once_count_3200() {
    for (subject, session) in shared_stores() {
        let workers: Vec<_> = (0..PROCESSES)
            .map(|_| Worker::start(&subject, &session, "count"))
            .collect();
        workers.into_iter().for_each(Worker::succeeds);
        assert_eq!(
            counted(&*subject.store, &session),
            Some(3200),
            "{}",
            subject.name
        );
        assert_eq!(acknowledged(&subject), 3200, "{}", subject.name);
    }
}

#[test]
fn without_the_library_s_lock_updates_are_lost_and_it_is_noticed() {
    let loses = |name| {
        let subject = subject(name, &[]);
        let (id, _) = create(&*subject.store, 0, SystemTime::now());
        let session = id.digest();
        let workers: Vec<_> = (0..PROCESSES)
            .map(|_| Worker::start(&subject, &session, "count without lock"))
            .collect();
        workers.into_iter().for_each(Worker::succeeds);
        let counted = counted(&*subject.store, &session).unwrap();
        counted < acknowledged(&subject)
    };
    for name in shared().filter(|name| ["custom", "postgres", "mysql"].contains(*name)) {
        let is_noticed = (0..20).any(|_| loses(name));
        assert!(is_noticed, "{name}: nothing was noticed");
    }
}

#[test]
fn nothing_is_lost_while_processes_are_killed_and_others_clean_up() {
    for (subject, session) in shared_stores() {
        let start = || Worker::start(&subject, &session, "count for ever");
        let mut workers: Vec<_> = (0..4).map(|_| start()).collect();
        let mut killed = 0;
        for turn in 0..40 {
            let before = acknowledged(&subject);
            let deadline = Instant::now() + DEADLINE;
            while acknowledged(&subject) < before + 10 {
                assert!(Instant::now() < deadline, "{}: no progress", subject.name);
                let now = SystemTime::now();
                let report = subject.store.delete_expired(&Sweep::new(), now).unwrap();
                assert_eq!((report.deleted, report.failures.len()), (0, 0));
            }
            let last = workers.len() - 1;
            workers.swap(turn % 4, last);
            workers.pop().unwrap().kill();
            killed += 1;
            workers.push(start());
        }
        for worker in workers {
            worker.kill();
            killed += 1;
        }
        let value = counted(&*subject.store, &session).expect("a session");
        let acknowledged = acknowledged(&subject);
        assert!(
            acknowledged <= value && value <= acknowledged + killed,
            "{}: {value}, acknowledged {acknowledged}",
            subject.name
        );
        subject
            .store
            .delete_expired(&Sweep::new(), SystemTime::now())
            .unwrap();
        assert_eq!(locks(subject.place.path()), [""; 0], "{}", subject.name);
    }
}

#[test]
fn a_killed_holder_frees_its_lock_at_once_and_leaves_the_record_before() {
    for (Subject { name, store, place }, session) in shared_stores() {
        let subject = Subject { name, store, place };
        let mut holder = Worker::start(&subject, &session, "hold");
        holder.says("holding");
        let now = SystemTime::now();
        let busy = subject.store.lock(&session, Duration::ZERO, now).map(drop);
        assert!(matches!(busy, Err(Error::Busy { .. })), "{name}");
        if name == "mysql" {
            // The server knows, and does not say.
            holder.kill();
            assert!(subject.store.lock(&session, WAIT, now).unwrap().is_some());
            continue;
        }
        let started = Instant::now();
        // The system's list of locks is not read at one instant: it may miss one.
        let who = loop {
            let waited = subject.store.lock(&session, Duration::from_millis(10), now);
            if let Err(Error::Busy {
                holder: Some(who), ..
            }) = waited.map(drop)
            {
                break who;
            }
            assert!(started.elapsed() < DEADLINE, "{name}: nobody holds it");
        };
        assert!(
            who.contains(&format!("process {}", holder.child.id())),
            "{name}: {who}"
        );
        holder.kill();
        let (stored, _lease) = subject.store.lock(&session, WAIT, now).unwrap().unwrap();
        assert_eq!(count(&stored.record), 0, "{name}");
    }
}

#[test]
fn a_session_destroyed_while_others_wait_for_it_is_gone_for_them() {
    for (subject, session) in shared_stores() {
        let now = SystemTime::now();
        let (_, lease) = subject.store.lock(&session, WAIT, now).unwrap().unwrap();
        let mut waiters: Vec<_> = (0..4)
            .map(|_| Worker::start(&subject, &session, "hold"))
            .collect();
        lease.destroy().unwrap();
        for waiter in &mut waiters {
            waiter.says("gone");
        }
        waiters.into_iter().for_each(Worker::succeeds);
        assert_eq!(counted(&*subject.store, &session), None, "{}", subject.name);
    }
}

#[test]
fn whoever_destroys_a_session_waits_for_a_slow_writer_and_has_the_last_word() {
    for (subject, session) in shared_stores() {
        let mut writer = Worker::start(&subject, &session, "hold");
        writer.says("holding");
        thread::scope(|scope| {
            let destroyer = scope.spawn(|| {
                let now = SystemTime::now();
                let (stored, lease) = subject.store.lock(&session, WAIT, now).unwrap().unwrap();
                lease.destroy().unwrap();
                count(&stored.record)
            });
            writer.go_on();
            assert_eq!(destroyer.join().unwrap(), 1, "{}", subject.name);
        });
        writer.succeeds();
        assert_eq!(counted(&*subject.store, &session), None, "{}", subject.name);
        let mut late = Worker::start(&subject, &session, "hold");
        late.says("gone");
        late.succeeds();
    }
}

#[test]
fn a_session_that_expires_in_somebody_s_hands_is_his_until_he_lets_go() {
    for (subject, session) in shared_stores() {
        let name = subject.name;
        let mut holder = Worker::start(&subject, &session, "hold");
        holder.says("holding");
        let after = later(SystemTime::now(), 100);
        assert!(
            subject.store.read(&session, after).unwrap().is_none(),
            "{name}"
        );
        let taken = subject
            .store
            .lock(&session, Duration::from_millis(10), after);
        assert!(matches!(taken.map(drop), Err(Error::Busy { .. })), "{name}");
        let report = subject.store.delete_expired(&Sweep::new(), after).unwrap();
        if name != "custom" {
            assert_eq!((report.deleted, report.busy), (0, 1), "{name}");
        }
        holder.go_on();
        holder.succeeds();
        assert_eq!(counted(&*subject.store, &session), Some(1), "{name}");
        assert!(
            subject.store.lock(&session, WAIT, after).unwrap().is_none(),
            "{name}"
        );
        assert_eq!(counted(&*subject.store, &session), None, "{name}");
    }
}

#[test]
fn processes_that_begin_at_once_on_nothing_all_store_their_sessions() {
    for name in shared() {
        let subject = subject(name, &[]);
        let nobody = SessionDigest::parse(&[b'0'; 64]).unwrap();
        let workers: Vec<_> = (0..PROCESSES)
            .map(|_| Worker::start(&subject, &nobody, "begin"))
            .collect();
        workers.into_iter().for_each(Worker::succeeds);
        assert_eq!(acknowledged(&subject), 16, "{name}");
        assert_eq!(locks(subject.place.path()), [""; 0], "{name}");
    }
}

/// How often the processes have noted that they counted.
fn acknowledged(subject: &Subject) -> u64 {
    let entries = fs::read_dir(subject.place.path()).unwrap();
    entries
        .map(Result::unwrap)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("ledger-"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum()
}

/// The files of locks that lie about.
fn locks(place: &Path) -> Vec<String> {
    let directories = ["sessions", "sessions.db.locks"].into_iter();
    let entries = directories.flat_map(|name| fs::read_dir(place.join(name)).into_iter().flatten());
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".lock"))
        .collect()
}

/// A process that does not outlive its test.
struct Worker {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Worker {
    fn start(subject: &Subject, session: &SessionDigest, task: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        #[cfg(feature = "redis")]
        if subject.name.starts_with("redis") {
            command.envs(redis_url(subject.name).map(|url| (REDIS, url)));
        }
        #[cfg(all(feature = "mysql", feature = "postgres"))]
        if let kind @ ("postgres" | "mysql") = subject.name {
            command.envs(shared_url(kind).map(|url| (variable(kind), url)));
        }
        let mut child = command
            .args([
                "processes::process",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(STORE, subject.name)
            .env(PLACE, subject.place.path())
            .env(SESSION, session.as_str())
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Worker { child, said }
    }

    /// Waits until the process says this.
    #[track_caller]
    fn says(&mut self, expected: &str) {
        let mut line = String::new();
        while line.trim_end().rsplit(' ').next() != Some(expected) {
            line.clear();
            let length = self.said.read_line(&mut line).unwrap();
            assert!(length > 0, "the process ended without {expected:?}");
        }
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    #[track_caller]
    fn succeeds(mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("the process does not end");
    }

    #[track_caller]
    fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), None, "it ended before it was killed");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and needs not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process: of no use when it runs as a test.
#[test]
fn process() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let setting = |name| std::env::var(name).unwrap();
    let place = setting(PLACE);
    let place = Path::new(&place);
    let store = open(&setting(STORE), place, &[("lockTimeout", "60s")]);
    let session = SessionDigest::parse(setting(SESSION).as_bytes()).unwrap();
    let ledger = place.join(format!("ledger-{}", std::process::id()));
    let mut ledger = File::options()
        .create(true)
        .append(true)
        .open(ledger)
        .unwrap();
    let mut count_one = || {
        let (stored, mut lease) = store
            .lock(&session, WAIT, SystemTime::now())
            .unwrap()
            .unwrap();
        let now = SystemTime::now();
        lease
            .commit(&record(count(&stored.record) + 1, now), now)
            .unwrap();
        drop(lease);
        ledger.write_all(b".").unwrap();
    };
    match task.as_str() {
        "count" => (0..INCREMENTS).for_each(|_| count_one()),
        "count for ever" => loop {
            count_one();
        },
        #[cfg(all(feature = "mysql", feature = "postgres"))]
        "count without lock" if setting(STORE) != "custom" => {
            let counted = || ledger.write_all(b".").unwrap();
            count_in_sql(
                &setting(STORE),
                &table(place),
                &session,
                INCREMENTS,
                counted,
            );
        }
        "count without lock" => count_without_lock(place, &session, &mut ledger),
        "begin" => {
            create(&*store, 1, SystemTime::now());
            ledger.write_all(b".").unwrap();
        }
        "hold" => hold(&*store, &session),
        other => panic!("no task {other}"),
    }
}

/// As the library does it with the functions, but for the lock.
fn count_without_lock(place: &Path, session: &SessionDigest, ledger: &mut File) {
    let rows = Rows::new(&place.join("rows"), false);
    let key = &session.as_str()[..40];
    for _ in 0..INCREMENTS {
        let (data, expires) = rows.load(key).unwrap().unwrap();
        let stored = Record::from_json(data.into_bytes()).unwrap();
        let next = record(count(&stored) + 1, SystemTime::now()).to_json();
        rows.save(key, &String::from_utf8(next).unwrap(), expires)
            .unwrap();
        ledger.write_all(b".").unwrap();
    }
}

/// Locks the session, says so, and counts when it is told to go on.
fn hold(store: &dyn Store, session: &SessionDigest) {
    let now = SystemTime::now();
    let Some((stored, mut lease)) = store.lock(session, WAIT, now).unwrap() else {
        println!("gone");
        return;
    };
    println!("holding");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let next = record(count(&stored.record) + 1, now);
    lease.commit(&next, SystemTime::now()).unwrap();
}
