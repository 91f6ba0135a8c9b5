//! A server that is killed, stands still, ends connections or may only read: one clear error each, and nothing
//! that was saved is lost, nor anything saved of which the opposite was said.

use crate::server::{Server, open, own_servers};
use cgi_session::store_contract::{WAIT, count, counted, create, later, record};
use testkit::mysql::MysqlServer;
use testkit::outside::send_to;
use testkit::prelude::*;

/// The server is found again, and the session counts this.
#[track_caller]
fn is_found_again(store: &dyn Store, session: &SessionDigest, expected: u64) {
    // After a failure there is no try for a while.
    wait_until("the server is found again", || {
        store.read(session, SystemTime::now()).is_ok()
    });
    assert_eq!(counted(store, session), Some(expected));
}

#[test]
fn a_restart_between_two_requests_is_not_noticed() {
    for mut server in own_servers() {
        let store = server.installed("Session", &[]);
        let now = SystemTime::now();
        let kept: Vec<_> = (0..4).map(|number| create(&*store, number, now)).collect();
        let id = kept[2].0.clone();
        drop(kept);
        server.kill();
        server.run();
        let (stored, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        assert_eq!(count(&stored.record), 2);
        lease.finish(&record(5, now), now).unwrap();
        assert_eq!(counted(&*store, &id.digest()), Some(5));
    }
}

#[test]
fn a_server_that_is_killed_in_mid_request_is_503_keeps_what_was_saved_and_is_found_again() {
    for mut server in own_servers() {
        let store = server.installed("Session", &[]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        lease.commit(&record(2, now), now).unwrap();
        let other = stored(&*store, 7);
        server.kill();

        let session = id.digest();
        let new = SessionId::generate().unwrap().digest();
        for outcome in [
            lease.finish(&record(3, now), now),
            store.read(&session, now).map(drop),
            store.lock(&other.digest(), WAIT, now).map(drop),
            store.create(&new, &record(1, now), now).map(drop),
        ] {
            fails(outcome, 503, "");
        }
        drop(lease);
        server.run();
        is_found_again(&*store, &session, 2);
        assert_eq!(counted(&*store, &other.digest()), Some(7));
        assert_eq!(counted(&*store, &new), None);
        saves(&*store, &session, 4);
    }
}

#[test]
fn a_server_that_stands_still_is_given_up_in_time_and_the_session_is_whole_when_it_goes_on() {
    for server in own_servers() {
        let store = server.installed("Session", &[("lockTimeout", "1s")]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        drop(create(&*store, 0, now));
        let session = id.digest();
        server.freeze();
        for (name, outcome) in [
            ("commit", timed(|| lease.finish(&record(2, now), now))),
            ("read", timed(|| store.read(&session, now).map(drop))),
            (
                "lock",
                timed(|| store.lock(&session, Duration::from_secs(1), now).map(drop)),
            ),
        ] {
            let (outcome, time) = outcome;
            fails(outcome, 503, "no answer in time");
            assert!(time < Duration::from_secs(30), "{name} took {time:?}");
        }
        drop(lease);
        server.resume();
        let deadline = Instant::now() + DEADLINE;
        let (stored, mut lease) = loop {
            match store.lock(&session, WAIT, now) {
                Ok(found) => break found.unwrap(),
                Err(_) => assert!(Instant::now() < deadline, "the server is not found again"),
            }
        };
        // What would become of the commit was not known. It is whole, and all see the same.
        let counts = count(&stored.record);
        assert!(counts == 1 || counts == 2, "{counts}");
        lease.finish(&record(3, now), now).unwrap();
        assert_eq!(counted(&*store, &session), Some(3));
    }
}

fn timed(call: impl FnOnce() -> Result<(), Error>) -> (Result<(), Error>, Duration) {
    let started = Instant::now();
    (call(), started.elapsed())
}

#[test]
fn a_holder_whose_connection_the_server_ends_has_lost_the_session_and_stores_nothing() {
    for server in own_servers() {
        let store = server.installed("Session", &[]);
        let now = SystemTime::now();
        let id = stored(&*store, 1);
        let lock = || store.lock(&id.digest(), WAIT, now).unwrap().unwrap().1;
        for end in ["finish", "commit", "destroy"] {
            let mut lease = lock();
            server.end_connections();
            // A request that waits has it at once, and what it writes stays.
            let mut other = lock();
            other.finish(&record(2, now), now).unwrap();
            is_lost(match end {
                "finish" => lease.finish(&record(9, now), now),
                "commit" => lease.commit(&record(9, now), now),
                _ => lease.destroy(),
            });
            let found = counted(&*store, &id.digest());
            assert_eq!(found, Some(2), "{}: {end}", server.kind());
        }
        // No other request came in between: it is lost all the same.
        let mut lease = lock();
        lease.commit(&record(3, now), now).unwrap();
        server.end_connections();
        is_lost(lease.commit(&record(9, now), now));
        is_lost(lease.finish(&record(9, now), now));
        assert_eq!(counted(&*store, &id.digest()), Some(3));
    }
}

#[test]
fn a_server_that_may_only_read_is_503_and_keeps_what_it_has() {
    for server in own_servers() {
        let store = server.installed("Session", &[]);
        let now = SystemTime::now();
        let id = stored(&*store, 1);
        let (off, on) = match server.kind() {
            "postgres" => (
                "ALTER DATABASE shop SET default_transaction_read_only = off",
                "ALTER DATABASE shop SET default_transaction_read_only = on",
            ),
            _ => ("SET GLOBAL read_only = 0", "SET GLOBAL read_only = 1"),
        };
        server.tell(on);
        server.end_connections();
        let new = SessionId::generate().unwrap().digest();
        let outcome = store.create(&new, &record(1, now), now);
        fails(outcome, 503, "must name the primary");
        assert_eq!(counted(&*store, &id.digest()), Some(1));
        // One engine refuses to lock what cannot be written, the other to write it.
        let changed = store.lock(&id.digest(), WAIT, now).and_then(|found| {
            let (_, mut lease) = found.unwrap();
            lease.finish(&record(2, now), now)
        });
        says(&changed.unwrap_err(), "must name the primary");
        assert_eq!(counted(&*store, &id.digest()), Some(1));
        server.tell(off);
        server.end_connections();
        saves(&*store, &id.digest(), 3);
        assert_eq!(counted(&*store, &new), None);
    }
}

/// A name or a proxy leads to another server now, and the connections to the old one go on.
#[test]
fn after_a_switch_over_no_request_stays_with_the_server_that_may_only_read() {
    for server in own_servers() {
        let first = server.installed("Session", &[]);
        // What is connected after the one and before the other may only read.
        let [on, off] = match server.kind() {
            "postgres" => ["on", "off"]
                .map(|is| format!("ALTER DATABASE shop SET default_transaction_read_only = {is}")),
            _ => [
                "SET GLOBAL read_only = 1".to_owned(),
                "GRANT READ_ONLY ADMIN ON *.* TO shop".to_owned(),
            ],
        };
        let now = SystemTime::now();
        for change in ["create", "finish", "commit", "destroy", "read"] {
            let id = stored(&*first, 1);
            let session = id.digest();
            server.tell(&on);
            let store = server.store("Session", &[]);
            let kept: Vec<_> = (0..6).map(|_| store.read(&session, now)).collect();
            assert!(kept.iter().all(Result::is_ok));
            server.tell(&off);
            let lock = || store.lock(&session, WAIT, now).unwrap().unwrap().1;
            match change {
                "create" => drop(create(&*store, 2, now)),
                "finish" => lock().finish(&record(2, now), now).unwrap(),
                "commit" => {
                    let mut lease = lock();
                    lease.commit(&record(2, now), now).unwrap();
                    lease.finish(&record(3, now), now).unwrap();
                    assert_eq!(counted(&*first, &session), Some(3));
                }
                "destroy" => {
                    lock().destroy().unwrap();
                    assert_eq!(counted(&*first, &session), None);
                }
                _ => {
                    store.read(&session, later(now, 59)).unwrap().unwrap();
                    assert!(first.peek(&session, later(now, 100)).unwrap().is_some());
                }
            }
            if server.kind() == "mysql" {
                server.tell("SET GLOBAL read_only = 0");
                server.tell("REVOKE READ_ONLY ADMIN ON *.* FROM shop");
            }
        }
    }
}

/// The server's process of each of these connections stands still, and has not ended.
#[test]
fn kept_connections_that_are_dead_cost_one_wait_and_not_one_each() {
    let Some(server) = PostgresServer::start(&[]) else {
        return;
    };
    let now = SystemTime::now();
    let store = (&server as &dyn Server).installed("Session", &[]);
    for idle in [Duration::ZERO, Duration::from_millis(1100)] {
        let kept: Vec<_> = (0..6).map(|number| create(&*store, number, now)).collect();
        let id = kept[0].0.clone();
        drop(kept);
        let processes = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity \
                         WHERE usename = 'shop' AND pid <> pg_backend_pid()";
        let processes = server.ask(processes).unwrap();
        let processes = processes.split(' ').map(|pid| pid.parse().unwrap());
        let processes: Vec<_> = processes.map(|pid| Pid::from_raw(pid).unwrap()).collect();
        assert_eq!(processes.len(), 6);
        let signal = |signal| {
            for process in &processes {
                send_to(*process, signal);
            }
        };
        signal(Signal::STOP);
        // From then on one is asked whether it still answers.
        thread::sleep(idle);
        let started = Instant::now();
        let failed = (0..7).filter(|_| store.read(&id.digest(), now).is_err());
        let (failed, took) = (failed.count(), started.elapsed());
        signal(Signal::CONT);
        assert!(failed <= usize::from(idle.is_zero()), "{failed} of 7");
        // One answer may take as long as `lockTimeout`.
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!(counted(&*store, &id.digest()), Some(0));
    }
}

#[test]
fn a_connection_to_mysql_is_asked_by_a_ping_whether_it_works() {
    let Some(server) = MysqlServer::start(&[]) else {
        return;
    };
    let store = (&server as &dyn Server).installed("Session", &[]);
    let pings = || {
        let pings = server.ask("SHOW GLOBAL STATUS LIKE 'Com_admin_commands'");
        pings.unwrap().parse::<u64>().unwrap()
    };
    stored(&*store, 1);
    let before = pings();
    // A creation makes sure of a connection that was used before.
    stored(&*store, 2);
    assert_eq!(pings(), before + 1);
}

/// A server that has said nothing for so long has done what it was asked.
const SILENCE: Duration = Duration::from_secs(1);

/// Passes on what is said to a server and, when told to, cuts the line before a question or instead of
/// an answer: the next one, or one after it.
struct Line {
    port: u16,
    cuts: Arc<Cuts>,
}

#[derive(Default)]
struct Cuts {
    question: AtomicU32,
    answer: AtomicU32,
}

impl Line {
    fn to(server: &dyn Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::new(Cuts::default());
        let (target, told) = (server.port(), Arc::clone(&cuts));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
                let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (first, second) = (Arc::clone(&told), Arc::clone(&told));
                thread::spawn(move || pass_on(client, forth, &first.question, false));
                thread::spawn(move || pass_on(server, back, &second.answer, true));
            }
        });
        Line { port, cuts }
    }

    fn store(&self, server: &dyn Server) -> Arc<dyn Store> {
        let url = server
            .url()
            .replace(&server.port().to_string(), &self.port.to_string());
        open(server.kind(), &[("database", &url)]).unwrap()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, cuts: &AtomicU32, is_answer: bool) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let length = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let before = |left: u32| left.checked_sub(1);
        if cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, before) == Ok(1) {
            if is_answer {
                // What was asked for in several statements is answered in parts. All is done first.
                from.set_read_timeout(Some(SILENCE)).unwrap();
                while from.read(&mut bytes).is_ok_and(|length| length > 0) {}
            }
            break;
        }
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // The other end has heard it already, or hears it now.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn what_was_done_and_not_heard_of_is_looked_for_and_found_done() {
    for server in own_servers() {
        let server = &*server;
        server.installed("Session", &[]);
        let line = Line::to(server);
        let store = line.store(server);
        let now = SystemTime::now();
        let id = stored(&*store, 1);
        let lock = || store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        let cut = || line.cuts.answer.store(1, Ordering::SeqCst);
        let has_cut = || line.cuts.answer.load(Ordering::SeqCst) == 0;

        let (_, mut lease) = lock();
        cut();
        lease.finish(&record(2, now), now).unwrap();
        assert!(has_cut());
        assert_eq!(counted(&*store, &id.digest()), Some(2));

        let (_, mut lease) = lock();
        cut();
        lease.commit(&record(3, now), now).unwrap();
        assert!(has_cut());
        assert_eq!(counted(&*store, &id.digest()), Some(3));
        // The lock went with the connection.
        is_lost(lease.finish(&record(9, now), now));

        cut();
        let (stored, lease) = lock();
        assert!(has_cut());
        assert_eq!(count(&stored.record), 3);
        cut();
        lease.destroy().unwrap();
        assert!(has_cut());
        assert_eq!(counted(&*store, &id.digest()), None);

        cut();
        let (id, mut lease) = create(&*store, 4, now);
        assert!(has_cut());
        lease.finish(&record(5, now), now).unwrap();
        assert_eq!(counted(&*store, &id.digest()), Some(5));
    }
}

/// A request that knows the id may have destroyed it since: it is not stored for a second time.
#[test]
fn a_new_session_that_is_not_found_after_its_answer_was_lost_is_503() {
    for server in own_servers() {
        let server = &*server;
        server.installed("Session", &[]);
        let line = Line::to(server);
        let store = line.store(server);
        let now = SystemTime::now();
        drop(create(&*store, 1, now));
        let session = SessionId::generate().unwrap().digest();
        // The first question is whether the connection works.
        line.cuts.question.store(2, Ordering::SeqCst);
        let stored = store.create(&session, &record(1, now), now).map(drop);
        assert_eq!(line.cuts.question.load(Ordering::SeqCst), 0);
        let error = stored.unwrap_err();
        assert_eq!(error.status(), 503, "{}", server.kind());
        says(&error, "whether it was carried out is not known");
        assert_eq!(counted(&*store, &session), None);
    }
}

#[test]
fn what_never_reached_the_server_is_not_said_to_be_done() {
    for server in own_servers() {
        let server = &*server;
        server.installed("Session", &[]);
        let line = Line::to(server);
        let store = line.store(server);
        let now = SystemTime::now();
        let id = stored(&*store, 1);
        let lock = || store.lock(&id.digest(), WAIT, now).unwrap().unwrap().1;
        for end in ["finish", "commit", "destroy"] {
            let mut lease = lock();
            line.cuts.question.store(1, Ordering::SeqCst);
            let outcome = match end {
                "finish" => lease.finish(&record(9, now), now),
                "commit" => lease.commit(&record(9, now), now),
                _ => lease.destroy(),
            };
            fails(outcome, 503, "");
            assert_eq!(line.cuts.question.load(Ordering::SeqCst), 0);
            let found = counted(&*store, &id.digest());
            assert_eq!(found, Some(1), "{}: {end}", server.kind());
        }
    }
}
