//! A line to a server that fails: whoever is cut off is told in time, and what was not heard of is found
//! done.

use cgi_session_redis::RedisStore;

use crate::away::is_away;
use crate::store::{config, scripts, store};
use cgi_session::store_contract::{WAIT, count, counted, create, record};
use testkit::prelude::*;

/// Passes on what is said to a server and, when told to, cuts the line instead of an answer, or is silent.
struct Line {
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    cuts: AtomicBool,
    /// Whether the answer is passed on before the line is cut.
    is_heard: AtomicBool,
    loses: AtomicBool,
    /// Whether the question has passed whose answer is to be cut off.
    is_asked: AtomicBool,
    meanwhile: Mutex<Option<Meanwhile>>,
    is_silent: AtomicBool,
    holds: AtomicBool,
    held: Mutex<Option<(UnixStream, Vec<u8>)>>,
}

/// What somebody else does after an answer was lost and before it is asked for again.
type Meanwhile = Box<dyn FnOnce() + Send>;

impl Line {
    /// A line to a server, and a store at the far end of it.
    fn to(server: &RedisServer, settings: &[(&str, &str)]) -> (Self, RedisStore) {
        let socket = server.directory().join("line.sock");
        let line = Line::new(&socket, &server.socket());
        let url = format!("redis+unix://{}", socket.display());
        let store = RedisStore::new(&config(&url, settings)).unwrap();
        (line, store)
    }

    fn new(socket: &Path, server: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let faults = Arc::new(Faults::default());
        let (server, told) = (server.to_owned(), Arc::clone(&faults));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
                let [back, forth] = [&client, &server].map(|end| end.try_clone().unwrap());
                let [asked, answered] = [&told, &told].map(Arc::clone);
                thread::spawn(move || pass_on(client, forth, &asked, false));
                thread::spawn(move || pass_on(server, back, &answered, true));
            }
        });
        Line { faults }
    }

    /// The next script is carried out, and the line is cut instead of its answer.
    fn cut_the_next_answer(&self) {
        self.faults.cuts.store(true, Ordering::SeqCst);
    }

    /// The same, and this happens before whoever has asked hears of it.
    fn cut_the_next_answer_and(&self, meanwhile: impl FnOnce() + Send + 'static) {
        *self.faults.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
        self.cut_the_next_answer();
    }

    /// The same, but the answer is heard. Nothing can be sent from then on.
    fn cut_after_the_next_answer_and(&self, meanwhile: impl FnOnce() + Send + 'static) {
        self.faults.is_heard.store(true, Ordering::SeqCst);
        self.cut_the_next_answer_and(meanwhile);
    }

    /// The line is cut when something is sent next, which does not arrive.
    fn cut_the_next_question(&self) {
        self.faults.loses.store(true, Ordering::SeqCst);
    }

    fn has_cut(&self) -> bool {
        let is_to_be = [&self.faults.cuts, &self.faults.loses];
        !is_to_be.iter().any(|it| it.load(Ordering::SeqCst))
    }

    /// The next script is on its way for long, and the line is cut meanwhile.
    fn hold_the_next_question(&self) {
        self.faults.holds.store(true, Ordering::SeqCst);
    }

    /// What was on its way for long arrives.
    fn let_go(&self) {
        let (mut server, question) = self.faults.held.lock().unwrap().take().unwrap();
        server.write_all(&question).unwrap();
    }

    /// From now on nothing arrives, or everything again.
    fn silence(&self, is_silent: bool) {
        self.faults.is_silent.store(is_silent, Ordering::SeqCst);
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, faults: &Faults, is_answer: bool) {
    let mut said = vec![0; 1 << 16];
    loop {
        let length = match from.read(&mut said) {
            // Who is not heard of cannot say that he is gone.
            Ok(0) if faults.is_silent.load(Ordering::SeqCst) => return,
            Ok(0) => {
                // It may be gone already, too.
                let _ = to.shutdown(std::net::Shutdown::Both);
                return;
            }
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if !is_answer && faults.loses.swap(false, Ordering::SeqCst) {
            from.shutdown(std::net::Shutdown::Both).unwrap();
            to.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
        let is_script = !is_answer && has_script(&said[..length]);
        if is_script && faults.holds.swap(false, Ordering::SeqCst) {
            *faults.held.lock().unwrap() = Some((to, said[..length].to_vec()));
            from.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
        if is_script && faults.cuts.swap(false, Ordering::SeqCst) {
            faults.is_asked.store(true, Ordering::SeqCst);
        }
        if is_answer && faults.is_asked.swap(false, Ordering::SeqCst) {
            // It was carried out, and nobody hears of it, or can ask anything after it.
            from.shutdown(std::net::Shutdown::Both).unwrap();
            if let Some(meanwhile) = faults.meanwhile.lock().unwrap().take() {
                meanwhile();
            }
            if faults.is_heard.swap(false, Ordering::SeqCst) {
                to.shutdown(std::net::Shutdown::Read).unwrap();
                to.write_all(&said[..length]).unwrap();
            }
            to.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
        if !faults.is_silent.load(Ordering::SeqCst) && to.write_all(&said[..length]).is_err() {
            return;
        }
    }
}

fn has_script(said: &[u8]) -> bool {
    let name = b"EVALSHA";
    said.windows(name.len()).any(|word| word == name)
}

#[test]
fn whoever_is_cut_off_is_told_in_time_and_waited_for_no_longer_than_his_lease() {
    let Some(server) = redis() else { return };
    let settings = [("lockLease", "8s"), ("lockTimeout", "3s")];
    let (line, far) = Line::to(&server, &settings);
    let near = store(&server, &settings);
    let now = SystemTime::now();
    let (id, mut slow) = create(&far, 1, now);
    let session = id.digest();
    line.silence(true);
    let started = Instant::now();
    is_away(slow.commit(&record(10, now), now), "no answer in time");
    is_away(far.read(&session, now), "cannot read a session in");
    let told = started.elapsed();
    assert!(told < Duration::from_secs(30), "{told:?}");
    let (stored, mut quick) = near.lock(&session, WAIT, now).unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(40));
    assert_eq!(count(&stored.record), 1);
    quick.finish(&record(2, now), now).unwrap();
    drop(quick);
    line.silence(false);
    // The last attempt to connect failed a moment ago.
    let deadline = Instant::now() + DEADLINE;
    let error = loop {
        let error = slow.commit(&record(10, now), now).unwrap_err();
        if !matches!(error, Error::Unavailable { .. }) {
            break error;
        }
        assert!(Instant::now() < deadline, "{error:?}");
    };
    assert!(matches!(error, Error::LeaseLost), "{error:?}");
    assert_eq!(counted(&near, &session), Some(2));
}

#[test]
fn what_was_done_and_not_heard_of_is_asked_for_again_and_found_done() {
    let Some(server) = redis() else { return };
    let (line, store) = Line::to(&server, &[]);
    let near = crate::store::store(&server, &[]);
    let now = SystemTime::now();
    // The scripts are known to the server, so that one answer is that of one script.
    let (first, mut lease) = create(&store, 1, now);
    lease.commit(&record(2, now), now).unwrap();
    drop(lease);
    drop(store.lock(&first.digest(), WAIT, now).unwrap().unwrap());

    // Whoever finds that a holder is gone takes his lock.
    let is_locked = |id: &SessionId| {
        let taken = near.lock(&id.digest(), Duration::ZERO, now).map(drop);
        matches!(taken, Err(Error::Busy { .. }))
    };
    line.cut_the_next_answer();
    let (id, mut lease) = create(&store, 1, now);
    assert!(line.has_cut());
    assert!(is_locked(&id), "by the new connection");
    line.cut_the_next_answer();
    lease.commit(&record(2, now), now).unwrap();
    assert!(line.has_cut());
    assert!(is_locked(&id), "by the new connection");
    line.cut_the_next_answer();
    drop(lease);
    assert!(line.has_cut());
    line.cut_the_next_answer();
    let (stored, lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
    assert!(line.has_cut());
    assert_eq!(count(&stored.record), 2);
    line.cut_the_next_answer();
    lease.destroy().unwrap();
    assert!(line.has_cut());
    assert_eq!(counted(&store, &id.digest()), None);
    assert_eq!(server.tell("DBSIZE"), "1", "the first session");
}

#[test]
fn a_session_that_is_destroyed_before_its_maker_hears_of_it_is_not_stored_again() {
    let Some(server) = redis() else { return };
    let (line, far) = Line::to(&server, &[]);
    let near = store(&server, &[]);
    let now = SystemTime::now();
    drop(create(&far, 1, now));
    let session = SessionId::generate().unwrap().digest();
    let other = near.clone();
    line.cut_the_next_answer_and(move || {
        let (_, lease) = other.lock(&session, WAIT, now).unwrap().unwrap();
        lease.destroy().unwrap();
    });
    let words = ["cannot store a session in", "whether it was done"];
    is_away(far.create(&session, &record(1, now), now), words);
    assert!(line.has_cut());
    assert_eq!(counted(&near, &session), None);
}

#[test]
fn what_was_never_sent_is_done_on_another_connection_as_if_for_the_first_time() {
    let Some(server) = redis() else { return };
    let (line, store) = Line::to(&server, &[]);
    let now = SystemTime::now();
    // There is a connection for the next request.
    drop(create(&store, 1, now));
    line.cut_the_next_question();
    let (id, lease) = create(&store, 1, now);
    assert!(line.has_cut());
    server.tell(["DEL", &format!("Session:{{{}}}", id.digest())]);
    line.cut_the_next_question();
    is_lost(lease.destroy());
    assert!(line.has_cut());
}

#[test]
fn what_was_heard_to_be_done_is_not_done_again_when_its_disk_cannot_be_asked() {
    let Some(server) = redis() else { return };
    let (line, far) = Line::to(&server, &[("durability", "data")]);
    let near = store(&server, &[]);
    let now = SystemTime::now();
    create(&far, 1, now).1.destroy().unwrap();
    let (id, lease) = create(&far, 1, now);
    line.cut_after_the_next_answer_and(|| {});
    lease.destroy().unwrap();
    assert!(line.has_cut());
    assert_eq!(counted(&near, &id.digest()), None);

    let session = SessionId::generate().unwrap().digest();
    let other = near.clone();
    line.cut_after_the_next_answer_and(move || {
        let (_, lease) = other.lock(&session, WAIT, now).unwrap().unwrap();
        lease.destroy().unwrap();
    });
    let words = ["cannot store a session in", "whether it was done"];
    is_away(far.create(&session, &record(1, now), now), words);
    assert!(line.has_cut());
    assert_eq!(counted(&near, &session), None);
}

#[test]
fn what_was_destroyed_and_not_heard_of_is_waited_for_as_well() {
    let port = free_port().to_string();
    let Some(server) = RedisServer::start(["--port", &port, "--bind", "127.0.0.1"]) else {
        return;
    };
    let settings = [("durability", "data"), ("lockTimeout", "4s")];
    let (line, far) = Line::to(&server, &settings);
    let now = SystemTime::now();
    create(&far, 1, now).1.destroy().unwrap();
    let (_, lease) = create(&far, 1, now);
    let replica = RedisServer::start(["--replicaof", "127.0.0.1", &port]).unwrap();
    wait_until("the replica follows", || {
        server.tell("INFO replication").contains("state=online")
    });
    replica.freeze();
    line.cut_the_next_answer();
    let words = ["cannot delete a session in", "a replica has not confirmed"];
    is_away(lease.destroy(), words);
    assert!(line.has_cut());
}

#[test]
fn what_somebody_else_did_before_an_answer_is_asked_for_again_is_not_undone() {
    let Some(server) = redis() else { return };
    let (line, far) = Line::to(&server, &[]);
    let near = store(&server, &[]);
    let now = SystemTime::now();
    // The first is saved and taken: who saved it has no lock any more, and his next one fails.
    let (id, mut lease) = create(&far, 1, now);
    let session = id.digest();
    lease.commit(&record(2, now), now).unwrap();
    let (keep, taken) = std::sync::mpsc::channel();
    let other = near.clone();
    line.cut_the_next_answer_and(move || {
        keep.send(other.lock(&session, WAIT, now).unwrap().unwrap())
            .unwrap();
    });
    lease.commit(&record(3, now), now).unwrap();
    let (stored, mut quick) = taken.recv().unwrap();
    assert_eq!(count(&stored.record), 3);
    let refused = lease.commit(&record(4, now), now);
    is_lost(refused);
    quick.commit(&record(5, now), now).unwrap();
    drop((lease, quick));

    // The second is saved and changed: nobody can say any more that it was saved.
    let (_, mut lease) = far.lock(&session, WAIT, now).unwrap().unwrap();
    let other = near.clone();
    line.cut_the_next_answer_and(move || {
        let (_, mut lease) = other.lock(&session, WAIT, now).unwrap().unwrap();
        lease.finish(&record(7, now), now).unwrap();
    });
    let words = ["cannot save a session in", "whether it was done"];
    is_away(lease.finish(&record(6, now), now), words);
    assert_eq!(counted(&near, &session), Some(7));
}

#[test]
fn what_was_on_its_way_for_long_does_not_undo_what_was_saved_since() {
    let Some(server) = redis() else { return };
    let (line, store) = Line::to(&server, &[]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 0, now);
    lease.commit(&record(1, now), now).unwrap();
    line.hold_the_next_question();
    // Asked for again on another connection.
    lease.commit(&record(2, now), now).unwrap();
    lease.commit(&record(3, now), now).unwrap();
    let before = scripts(&server);
    line.let_go();
    wait_until("it has arrived", || scripts(&server) > before);
    assert_eq!(counted(&store, &id.digest()), Some(3));
    lease.finish(&record(4, now), now).unwrap();
    assert_eq!(counted(&store, &id.digest()), Some(4));
}
