//! Every server at once on one directory of sessions, CGI and FastCGI mixed: each increment counts
//! once, also while servers and programs are restarted or killed.

use std::sync::atomic::AtomicUsize;

use testkit::client::Client;
use testkit::counting::Tally;
use testkit::prelude::*;
use testkit::servers::Way;

const CLIENTS: usize = 64;
/// No more than a responder lets wait for one session.
const OF_ONE_SESSION: usize = 16;
const INCREMENTS: usize = 480;
const RESTARTS: usize = 4;
const KILLS: usize = 8;
const EXPIRED: usize = 50;
const CLEAN_UPS: usize = 20;

/// The lock is waited for as long as a slow machine needs.
const PATIENT: &str = "lockTimeout = 90s\n";

#[test]
fn every_increment_of_one_session_counts_once() {
    let servers = Servers::start(PATIENT);
    let visitors = visitors(&servers, 1);
    let each = INCREMENTS / OF_ONE_SESSION;
    let tally = count(&servers.ways(), &visitors, OF_ONE_SESSION, each, || ());
    expect_all_answered(&tally);
    tally.expect_each_counted_once(last_of(&servers, &visitors));
}

#[test]
fn every_increment_counts_once_while_servers_and_workers_restart() {
    let servers = Servers::start(PATIENT);
    let visitors = visitors(&servers, 20);
    let mut ways = servers.ways();
    // Told to restart gracefully, mod_fcgid forgets who waits for a process, for ever.
    ways.retain(|way| !way.is_server("Apache, mod_fcgid"));
    let tally = count(&ways, &visitors, CLIENTS, usize::MAX, || {
        for _ in 0..RESTARTS {
            pause(100);
            signal(servers.nginx.as_ref(), Signal::HUP);
            pause(100);
            signal(servers.apache.as_ref(), Signal::USR1);
            pause(100);
            servers.restart_app(Signal::TERM);
        }
    });
    eprintln!("{} answered, {} not", tally.answered(), tally.unanswered());
    tally.expect_each_counted_once(last_of(&servers, &visitors));
}

#[test]
fn killed_workers_lose_no_acknowledged_increment() {
    let servers = Servers::start(PATIENT);
    let visitors = visitors(&servers, 3);
    let tally = count(&servers.ways(), &visitors, CLIENTS, usize::MAX, || {
        for _ in 0..KILLS {
            pause(rand::random_range(0..100));
            servers.restart_app(Signal::KILL);
            pause(rand::random_range(0..100));
            servers.kill_one();
        }
    });
    eprintln!("{} answered, {} not", tally.answered(), tally.unanswered());
    tally.expect_each_counted_once(last_of(&servers, &visitors));
}

#[test]
fn clean_up_meanwhile_deletes_what_has_expired_and_nothing_in_use() {
    let servers = Servers::start(&format!("{PATIENT}timeout = 1h\n"));
    let in_use = visitors(&servers, 3);
    let live = servers.site.files();
    visitors(&servers, EXPIRED);
    let long_ago = SystemTime::now() - Duration::from_secs(24 * 3600);
    for name in servers.site.files() {
        if !live.contains(&name) {
            let file = File::open(servers.site.sessions().join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
    }
    let tally = count(&servers.ways(), &in_use, OF_ONE_SESSION, usize::MAX, || {
        for _ in 0..CLEAN_UPS {
            clean_up(&servers);
        }
    });
    expect_all_answered(&tally);
    tally.expect_each_counted_once(last_of(&servers, &in_use));
    assert_eq!(servers.site.files(), live);
}

/// Visitors who have a session each, in which nothing was counted yet.
fn visitors(servers: &Servers, number: usize) -> Vec<Client> {
    let ways = servers.ways();
    let ways = ways.iter().cycle().take(number);
    ways.map(|way| way.visitor()).collect()
}

/// Counts from many clients at once, each of them by every way and in every session in turn, so
/// often or until `meanwhile` has ended.
fn count(
    ways: &[Way],
    visitors: &[Client],
    clients: usize,
    increments: usize,
    meanwhile: impl FnOnce(),
) -> Tally {
    let mut all = Tally::default();
    if ways.is_empty() {
        return all;
    }
    let is_over = AtomicBool::new(false);
    let turn = AtomicUsize::new(0);
    let count_alone = || {
        let mut tally = Tally::default();
        for _ in 0..increments {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let way = ways[turn % ways.len()];
            let session = turn / ways.len() % visitors.len();
            let mut client = visitors[session].at(way.port);
            tally.count(session, &mut client, &way.path("/counter"));
            if increments == usize::MAX && is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        tally
    };
    thread::scope(|scope| {
        let over = Over(&is_over);
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(count_alone)).collect();
        meanwhile();
        drop(over);
        for client in clients {
            all.add(client.join().unwrap());
        }
    });
    all
}

#[track_caller]
fn expect_all_answered(tally: &Tally) {
    assert_eq!(tally.unanswered(), 0, "{} answered", tally.answered());
}

/// What was counted in each session, told by one more request.
fn last_of(servers: &Servers, visitors: &[Client]) -> impl Fn(usize) -> u64 {
    let way = servers.ways().into_iter().next();
    move |session| {
        let way = way.unwrap();
        let mut visitor = visitors[session].at(way.port);
        let next = visitor.get(&way.path("/counter"));
        next.expect(200, "you've been here").count().unwrap() - 1
    }
}

fn clean_up(servers: &Servers) {
    let mut command = Command::new(tool("cgi-session-cleanup"));
    let output = command.arg("--config").arg(servers.site.config()).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{said:?}");
}

fn signal(server: Option<&testkit::server::Server>, signal: Signal) {
    if let Some(server) = server {
        server.signal(signal);
    }
}

/// Lets requests be at any point of their way.
fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
