//! Several processes on one session: nothing is lost when processes die, destroy or clean up. The same harness
//! must notice what a store without locks loses.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{OpenStore, StoreContract, WAIT, count, counted, create, later, names, record};
use crate::{Error, SessionDigest, Store, Sweep};

const PROCESSES: usize = 16;
const INCREMENTS: u64 = 200;
const DEADLINE: Duration = Duration::from_secs(120);

const DIRECTORY: &str = "STORE_CONTRACT_DIRECTORY";
const SESSION: &str = "STORE_CONTRACT_SESSION";
const TASK: &str = "STORE_CONTRACT_TASK";

impl StoreContract {
    /// Tries what several processes do with a store that they share. They are this test program, started with the
    /// name of the one test that calls this: `module::test`, as the test program lists it.
    ///
    /// # Panics
    ///
    /// When the store does not keep the contract, or the control loses nothing.
    pub fn check_processes(&self, test: &str) {
        if let Ok(task) = env::var(TASK) {
            return self.carry_out(&task);
        }
        self.share(test, sixteen_processes_that_count_at_once_count_3200);
        self.share(
            test,
            nothing_is_lost_while_processes_are_killed_and_others_clean_up,
        );
        self.share(
            test,
            a_killed_holder_frees_its_lock_at_once_and_leaves_the_record_before,
        );
        self.share(
            test,
            a_session_destroyed_while_others_wait_for_it_is_gone_for_them,
        );
        self.share(
            test,
            a_process_that_destroys_a_session_waits_for_a_slow_writer,
        );
        self.share(
            test,
            a_session_that_expires_while_it_is_held_is_its_holders_until_the_end,
        );
        self.share(
            test,
            processes_that_begin_at_once_on_nothing_all_store_their_sessions,
        );
        if self.control.is_some() {
            let loses = || {
                let processes = Processes::new(self, test);
                let (id, _) = create(&*processes.store, 0, SystemTime::now());
                processes.all("count without lock", &id.digest());
                counted(&*processes.store, &id.digest()) < Some(processes.acknowledged())
            };
            let is_noticed = (0..20).any(|_| loses());
            assert!(is_noticed, "{}: the control lost nothing", self.name);
        }
    }

    /// Lets processes do this with a session that counts 0.
    fn share<F: Fn(&Processes<'_>, &SessionDigest)>(&self, test: &str, check: F) {
        self.announce::<F>();
        let processes = Processes::new(self, test);
        let (id, _) = create(&*processes.store, 0, SystemTime::now());
        check(&processes, &id.digest());
    }

    /// What a process does that was started.
    fn carry_out(&self, task: &str) {
        let directory = env::var(DIRECTORY).unwrap();
        let directory = Path::new(&directory);
        let store = self.open_in(directory, &[("lockTimeout", "60s")]);
        let session = SessionDigest::parse(env::var(SESSION).unwrap().as_bytes()).unwrap();
        let ledger = directory.join(format!("ledger-{}", std::process::id()));
        let mut ledger = File::options().create(true).append(true).open(ledger);
        let mut note = || ledger.as_mut().unwrap().write_all(b".").unwrap();
        match task {
            "count" => (0..INCREMENTS).for_each(|_| count_one(&*store, &session, &mut note)),
            "count for ever" => loop {
                count_one(&*store, &session, &mut note);
            },
            "count without lock" => {
                let open = self.control.as_ref().expect("a control");
                let mut count_one = open(directory, &session);
                for _ in 0..INCREMENTS {
                    count_one();
                    note();
                }
            }
            "begin" => {
                create(&*store, 1, SystemTime::now());
                note();
            }
            "hold" => hold(&*store, &session),
            other => panic!("no task {other}"),
        }
    }
}

fn count_one(store: &dyn Store, session: &SessionDigest, note: &mut impl FnMut()) {
    let locked = store.lock(session, WAIT, SystemTime::now()).unwrap();
    let (stored, mut lease) = locked.unwrap();
    let now = SystemTime::now();
    let next = record(count(&stored.record) + 1, now);
    lease.commit(&next, now).unwrap();
    drop(lease);
    note();
}

/// Locks the session, says so, and counts when it is told to go on.
fn hold(store: &dyn Store, session: &SessionDigest) {
    let now = SystemTime::now();
    let Some((stored, mut lease)) = store.lock(session, WAIT, now).unwrap() else {
        println!("gone");
        return;
    };
    // As a login does.
    let _user = (store.locks_users()).then(|| store.lock_user("ada", WAIT).unwrap());
    println!("holding");
    io::stdin().read_line(&mut String::new()).unwrap();
    let next = record(count(&stored.record) + 1, now);
    lease.commit(&next, SystemTime::now()).unwrap();
}

fn sixteen_processes_that_count_at_once_count_3200(
    processes: &Processes<'_>,
    session: &SessionDigest,
) {
    processes.all("count", session);
    assert_eq!(counted(&*processes.store, session), Some(3200));
    assert_eq!(processes.acknowledged(), 3200);
}

fn nothing_is_lost_while_processes_are_killed_and_others_clean_up(
    processes: &Processes<'_>,
    session: &SessionDigest,
) {
    let start = || processes.start("count for ever", session);
    let clean_up = || {
        let store = &*processes.store;
        store
            .delete_expired(&Sweep::new(), SystemTime::now())
            .unwrap()
    };
    let mut workers: Vec<_> = (0..4).map(|_| start()).collect();
    let mut killed = 0;
    for turn in 0..40 {
        let before = processes.acknowledged();
        let deadline = Instant::now() + DEADLINE;
        while processes.acknowledged() < before + 10 {
            assert!(Instant::now() < deadline, "no progress");
            let report = clean_up();
            assert_eq!((report.deleted, report.failures.len()), (0, 0));
        }
        workers.swap_remove(turn % 4).kill();
        killed += 1;
        workers.push(start());
    }
    for worker in workers {
        worker.kill();
        killed += 1;
    }
    let value = counted(&*processes.store, session).expect("a session");
    let acknowledged = processes.acknowledged();
    let is_it = acknowledged <= value && value <= acknowledged + killed;
    assert!(is_it, "{value}, acknowledged {acknowledged}");
    clean_up();
    assert_eq!(processes.locks(), [""; 0]);
}

fn a_killed_holder_frees_its_lock_at_once_and_leaves_the_record_before(
    processes: &Processes<'_>,
    session: &SessionDigest,
) {
    let store = &*processes.store;
    let mut holder = processes.start("hold", session);
    holder.says("holding");
    let now = SystemTime::now();
    let busy = store.lock(session, Duration::ZERO, now).map(drop);
    assert!(matches!(busy, Err(Error::Busy { .. })));
    let process = format!("process {}", holder.child.id());
    let is_named = || match store
        .lock(session, Duration::from_millis(10), now)
        .map(drop)
    {
        Err(Error::Busy {
            holder: Some(holder),
            ..
        }) => {
            assert!(holder.contains(&process), "{holder}");
            true
        }
        _ => false,
    };
    let deadline = Instant::now() + DEADLINE;
    // The system's list of locks is not read at one instant: it may miss one.
    while processes.contract.names_holders && !is_named() {
        assert!(Instant::now() < deadline, "no holder is named");
    }
    let locks_users = store.locks_users();
    let of_user = |wait| store.lock_user("ada", wait).map(drop);
    if locks_users {
        let busy = of_user(Duration::ZERO);
        assert!(matches!(busy, Err(Error::Busy { .. })));
    }
    holder.kill();
    let (stored, _lease) = store.lock(session, WAIT, now).unwrap().unwrap();
    assert_eq!(count(&stored.record), 0);
    if locks_users {
        of_user(WAIT).unwrap();
    }
}

fn a_session_destroyed_while_others_wait_for_it_is_gone_for_them(
    processes: &Processes<'_>,
    session: &SessionDigest,
) {
    let store = &*processes.store;
    let (_, lease) = store
        .lock(session, WAIT, SystemTime::now())
        .unwrap()
        .unwrap();
    let mut waiters = [(); 4].map(|()| processes.start("hold", session));
    lease.destroy().unwrap();
    for waiter in &mut waiters {
        waiter.says("gone");
    }
    waiters.into_iter().for_each(Worker::succeeds);
    assert_eq!(counted(&*processes.store, session), None);
}

fn a_process_that_destroys_a_session_waits_for_a_slow_writer(
    processes: &Processes<'_>,
    session: &SessionDigest,
) {
    let store = &*processes.store;
    let mut writer = processes.start("hold", session);
    writer.says("holding");
    thread::scope(|scope| {
        let destroyer = scope.spawn(|| {
            let locked = store.lock(session, WAIT, SystemTime::now());
            let (stored, lease) = locked.unwrap().unwrap();
            lease.destroy().unwrap();
            count(&stored.record)
        });
        writer.go_on();
        assert_eq!(destroyer.join().unwrap(), 1);
    });
    writer.succeeds();
    assert_eq!(counted(&*processes.store, session), None);
    let mut late = processes.start("hold", session);
    late.says("gone");
    late.succeeds();
}

fn a_session_that_expires_while_it_is_held_is_its_holders_until_the_end(
    processes: &Processes<'_>,
    session: &SessionDigest,
) {
    let store = &*processes.store;
    let mut holder = processes.start("hold", session);
    holder.says("holding");
    let after = later(SystemTime::now(), 100);
    assert!(store.read(session, after).unwrap().is_none());
    let taken = store.lock(session, Duration::from_millis(10), after);
    assert!(matches!(taken.map(drop), Err(Error::Busy { .. })));
    let report = store.delete_expired(&Sweep::new(), after).unwrap();
    if processes.contract.is_counted {
        assert_eq!((report.deleted, report.busy), (0, 1));
    }
    holder.go_on();
    holder.succeeds();
    assert_eq!(counted(&*processes.store, session), Some(1));
    assert!(store.lock(session, WAIT, after).unwrap().is_none());
    assert_eq!(counted(&*processes.store, session), None);
}

fn processes_that_begin_at_once_on_nothing_all_store_their_sessions(
    processes: &Processes<'_>,
    _: &SessionDigest,
) {
    let processes = Processes::new(processes.contract, processes.test);
    let unused = SessionDigest::parse(&[b'0'; SessionDigest::LENGTH]).unwrap();
    processes.all("begin", &unused);
    assert_eq!(processes.acknowledged(), 16);
    assert_eq!(processes.locks(), [""; 0]);
}

/// A store that processes share.
struct Processes<'a> {
    contract: &'a StoreContract,
    test: &'a str,
    store: OpenStore,
}

impl<'a> Processes<'a> {
    fn new(contract: &'a StoreContract, test: &'a str) -> Self {
        Processes {
            contract,
            test,
            store: contract.open(&[("lockTimeout", "60s")]).1,
        }
    }

    fn start(&self, task: &str, session: &SessionDigest) -> Worker {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([self.test, "--exact", "--nocapture", "--test-threads=1"]);
        command.envs(self.contract.environment.iter().cloned());
        command.env(DIRECTORY, self.store.directory.path());
        command.env(SESSION, session.as_str()).env(TASK, task);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Worker { child, output }
    }

    /// Starts all processes with this task, and waits for them.
    fn all(&self, task: &str, session: &SessionDigest) {
        let workers = [(); PROCESSES].map(|()| self.start(task, session));
        workers.into_iter().for_each(Worker::succeeds);
    }

    /// How often the processes have noted that they counted.
    fn acknowledged(&self) -> u64 {
        let entries = fs::read_dir(self.store.directory.path()).unwrap();
        let entries = entries.map(Result::unwrap);
        let ledgers = entries.filter(|it| it.file_name().to_string_lossy().starts_with("ledger-"));
        ledgers.map(|ledger| ledger.metadata().unwrap().len()).sum()
    }

    /// The files of locks that were left.
    fn locks(&self) -> Vec<String> {
        let directory = self.store.directory.path();
        let directories = ["sessions", "sessions.db.locks"].map(|name| directory.join(name));
        let found = directories.iter().filter(|directory| directory.exists());
        let names = found.flat_map(|directory| names(directory));
        names.filter(|name| name.contains(".lock")).collect()
    }
}

/// A process that does not outlive its test.
struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Waits until the process says this.
    #[track_caller]
    fn says(&mut self, expected: &str) {
        let mut line = String::new();
        while line.trim_end().rsplit(' ').next() != Some(expected) {
            line.clear();
            let length = self.output.read_line(&mut line).unwrap();
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
