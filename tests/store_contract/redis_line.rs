//! A line to a server that fails: whoever is cut off is told in time, and what was not heard of is found
//! done.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Error, RedisStore, Store};

use crate::redis::{config, scripts, store};
use crate::redis_away::is_away;
use crate::subjects::{WAIT, count, counted, create, record};
use crate::support::redis::RedisServer;
use crate::support::wait_until;

/// Passes on what is said to a server and, when told to, cuts the line instead of an answer, or is silent.
struct Line {
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    cuts: AtomicBool,
    is_silent: AtomicBool,
    holds: AtomicBool,
    held: Mutex<Option<(UnixStream, Vec<u8>)>>,
}

impl Line {
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

    fn cut_the_next_answer(&self) {
        self.faults.cuts.store(true, Ordering::SeqCst);
    }

    fn has_cut(&self) -> bool {
        !self.faults.cuts.load(Ordering::SeqCst)
    }

    /// The next question is on its way for long, and the line is cut meanwhile.
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
        if !is_answer && faults.holds.swap(false, Ordering::SeqCst) {
            *faults.held.lock().unwrap() = Some((to, said[..length].to_vec()));
            from.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
        if is_answer && faults.cuts.swap(false, Ordering::SeqCst) {
            // It was carried out, and nobody hears of it.
            to.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
        if !faults.is_silent.load(Ordering::SeqCst) && to.write_all(&said[..length]).is_err() {
            return;
        }
    }
}

#[test]
fn whoever_is_cut_off_is_told_in_time_and_waited_for_no_longer_than_his_lease() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let socket = server.directory().join("line.sock");
    let line = Line::new(&socket, &server.socket());
    let url = format!("redis+unix://{}", socket.display());
    let settings = [("lockLease", "2s"), ("lockTimeout", "1s")];
    let far = RedisStore::new(&config(&url, &settings)).unwrap();
    let near = store(&server, &settings);
    let now = SystemTime::now();
    let (id, mut slow) = create(&far, 1, now);
    let session = id.digest();
    line.silence(true);
    let started = Instant::now();
    is_away(slow.commit(&record(10, now), now), &["no answer in time"]);
    is_away(
        far.read(&session, now).map(drop),
        &["cannot read a session in"],
    );
    let told = started.elapsed();
    assert!(told < Duration::from_secs(4), "{told:?}");
    let (stored, mut quick) = near.lock(&session, WAIT, now).unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(count(&stored.record), 1);
    quick.finish(&record(2, now), now).unwrap();
    drop(quick);
    line.silence(false);
    // The last attempt to connect failed a moment ago.
    let deadline = Instant::now() + Duration::from_secs(10);
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
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let socket = server.directory().join("line.sock");
    let line = Line::new(&socket, &server.socket());
    let url = format!("redis+unix://{}", socket.display());
    let store = RedisStore::new(&config(&url, &[])).unwrap();
    let now = SystemTime::now();
    // The scripts are known to the server, so that one answer is that of one script.
    let (first, mut lease) = create(&store, 1, now);
    lease.commit(&record(2, now), now).unwrap();
    drop(lease);
    drop(store.lock(&first.digest(), WAIT, now).unwrap().unwrap());

    line.cut_the_next_answer();
    let (id, mut lease) = create(&store, 1, now);
    assert!(line.has_cut());
    line.cut_the_next_answer();
    lease.commit(&record(2, now), now).unwrap();
    assert!(line.has_cut());
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
    assert_eq!(server.tell(&["DBSIZE"]), "1", "the first session");
}

#[test]
fn what_was_on_its_way_for_long_does_not_undo_what_was_saved_since() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let socket = server.directory().join("line.sock");
    let line = Line::new(&socket, &server.socket());
    let url = format!("redis+unix://{}", socket.display());
    let store = RedisStore::new(&config(&url, &[])).unwrap();
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
