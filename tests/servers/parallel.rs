//! Many requests of one session at once, behind a real Apache: nothing is lost and nothing counted twice.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, SessionManager};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use testkit::apache::{self, Apache, Mpm, web_user};
use testkit::client::Client;
use testkit::{DEADLINE, tool};

const CLIENTS: usize = 16;
const INCREMENTS: usize = 200;
const EXPIRED: usize = 300;
const KILLS: usize = 100;

/// The lock is waited for as long as a slow machine needs.
const PATIENT: &str = "lockTimeout = 90s\n";

/// An answered request: when it began and ended, and the number it got.
struct Count {
    began: Instant,
    ended: Instant,
    number: u64,
}

#[test]
fn every_increment_under_event_and_cgid_counts_once() {
    apache::with(Mpm::EventWithCgid, PATIENT, |apache| {
        count_to_the_end(&session_of(apache));
    });
}

#[test]
fn every_increment_under_prefork_and_cgi_counts_once() {
    apache::with(Mpm::PreforkWithCgi, PATIENT, |apache| {
        count_to_the_end(&session_of(apache));
    });
}

#[test]
fn clean_up_under_event_and_cgid_deletes_what_has_expired_and_nothing_in_use() {
    apache::with(Mpm::EventWithCgid, &short_lived(), clean_up_meanwhile);
}

#[test]
fn clean_up_under_prefork_and_cgi_deletes_what_has_expired_and_nothing_in_use() {
    apache::with(Mpm::PreforkWithCgi, &short_lived(), clean_up_meanwhile);
}

#[test]
fn killed_programs_under_event_and_cgid_lose_no_acknowledged_increment() {
    apache::with(Mpm::EventWithCgid, PATIENT, kill_meanwhile);
}

#[test]
fn killed_programs_under_prefork_and_cgi_lose_no_acknowledged_increment() {
    apache::with(Mpm::PreforkWithCgi, PATIENT, kill_meanwhile);
}

/// A session that is not used for this time ends, but the one that is counted in always is.
fn short_lived() -> String {
    format!("{PATIENT}timeout = 1h\n")
}

/// A visitor who has a session, in which nothing was counted yet.
fn session_of(apache: &Apache) -> Client {
    let mut visitor = apache.client();
    visitor
        .get("/cgi-bin/lookup?create=1")
        .expect(200, "my_data");
    visitor
}

/// Counts from many clients at once and expects each number once and in the order of time.
fn count_to_the_end(visitor: &Client) {
    let mut counts = Vec::new();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| count_alone(&mut visitor.clone())))
            .collect();
        for client in clients {
            counts.extend(client.join().unwrap());
        }
    });
    let mut numbers: Vec<_> = counts.iter().map(|count| count.number).collect();
    numbers.sort_unstable();
    let expected: Vec<_> = (1..).take(CLIENTS * INCREMENTS).collect();
    assert_eq!(numbers, expected);
    expect_order(&mut counts);
}

fn count_alone(client: &mut Client) -> Vec<Count> {
    let increment = || {
        let began = Instant::now();
        let answer = client
            .get("/cgi-bin/counter")
            .expect(200, "you've been here");
        Count {
            began,
            ended: Instant::now(),
            number: answer.count().expect("a number"),
        }
    };
    std::iter::repeat_with(increment).take(INCREMENTS).collect()
}

/// A request that began after another had ended got the greater number.
#[track_caller]
fn expect_order(counts: &mut [Count]) {
    let mut ended: Vec<_> = counts
        .iter()
        .map(|count| (count.ended, count.number))
        .collect();
    ended.sort_unstable();
    counts.sort_unstable_by_key(|count| count.began);
    let mut ended = ended.into_iter().peekable();
    let mut greatest = 0;
    for count in counts {
        while let Some((_, number)) = ended.next_if(|(end, _)| *end < count.began) {
            greatest = greatest.max(number);
        }
        assert!(count.number > greatest, "{} after {greatest}", count.number);
    }
}

fn clean_up_meanwhile(apache: &Apache) {
    let visitor = session_of(apache);
    let live = apache.site().only_file();
    make_expired_sessions(apache);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let cleaner = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                clean_up(apache);
            }
        });
        let over = Over(&is_over);
        count_to_the_end(&visitor);
        drop(over);
        cleaner.join().unwrap();
    });
    assert_eq!(apache.site().only_file(), live);
}

/// Sets its flag when it goes out of scope, so that a failure ends the other thread too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn make_expired_sessions(apache: &Apache) {
    let before = apache.site().files();
    let config = Config::load(&apache.site().config()).unwrap();
    let sessions = SessionManager::new(config).unwrap();
    let owner = web_user();
    let long_ago = SystemTime::now() - Duration::from_secs(24 * 3600);
    let directory = apache.site().sessions();
    chown(
        &directory,
        rustix::process::geteuid().is_root().then_some((0, 0)),
    );
    for _ in 0..EXPIRED {
        let mut session = sessions.start(b"").unwrap();
        session.insert("pageViews", 1).unwrap();
        session.commit().unwrap();
    }
    chown(&directory, owner);
    let files = apache.site().files();
    let expired: Vec<_> = files.iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(expired.len(), EXPIRED);
    for name in expired {
        let path = directory.join(name);
        chown(&path, owner);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
}

fn chown(path: &Path, owner: Option<(u32, u32)>) {
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn clean_up(apache: &Apache) {
    let cleaned = Command::new(tool("cgi-session-cleanup"))
        .arg("--config")
        .arg(apache.site().config())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&cleaned.stderr);
    assert!(cleaned.status.success(), "{} {stderr}", cleaned.status);
    assert_eq!((cleaned.stdout.as_slice(), stderr.as_ref()), (&b""[..], ""));
}

fn kill_meanwhile(apache: &Apache) {
    let mut visitor = session_of(apache);
    let is_over = AtomicBool::new(false);
    let mut counts = Vec::new();
    let mut unanswered = 0;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| count_until(&is_over, visitor.clone())))
            .collect();
        let over = Over(&is_over);
        kill_counters(&apache.programs().join("counter"));
        drop(over);
        for client in clients {
            let (answered, lost) = client.join().unwrap();
            counts.extend(answered);
            unanswered += lost;
        }
    });
    let acknowledged = u64::try_from(counts.len()).unwrap();
    let next = visitor
        .get("/cgi-bin/counter")
        .expect(200, "you've been here");
    let total = next.count().unwrap() - 1;
    assert!(
        (acknowledged..=acknowledged + unanswered).contains(&total),
        "{acknowledged} acknowledged, {unanswered} unanswered, {total} counted"
    );
    eprintln!("{acknowledged} acknowledged, {unanswered} unanswered, {total} counted");
    expect_order(&mut counts);
    let mut numbers: Vec<_> = counts.iter().map(|count| count.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), counts.len(), "a number was given twice");
}

/// Counts until it is over; the answers, and how many requests had none.
fn count_until(is_over: &AtomicBool, mut client: Client) -> (Vec<Count>, u64) {
    let mut counts = Vec::new();
    let mut unanswered = 0;
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = client.try_request(b"GET /cgi-bin/counter HTTP/1.1\r\n", b"");
        match answer.ok().and_then(|answer| answer.count()) {
            Some(number) => counts.push(Count {
                began,
                ended: Instant::now(),
                number,
            }),
            None => unanswered += 1,
        }
    }
    (counts, unanswered)
}

/// Kills processes of this program, at random moments of their lives, until it were enough.
fn kill_counters(program: &Path) {
    let started = Instant::now();
    let mut killed = 0;
    while killed < KILLS {
        assert!(started.elapsed() < DEADLINE, "nothing can be killed");
        let running = pidfds_of(program);
        if !running.is_empty() {
            let victim = &running[rand::random_range(0..running.len())];
            // It may have ended by itself.
            killed += usize::from(pidfd_send_signal(victim, Signal::KILL).is_ok());
        }
        thread::sleep(Duration::from_millis(rand::random_range(0..20)));
    }
}

/// The processes that run this program.
fn pidfds_of(program: &Path) -> Vec<OwnedFd> {
    let names = fs::read_dir("/proc").unwrap();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter_map(|name| Pid::from_raw(name.parse().ok()?));
    // The descriptor is opened before the look at the program, so that the process that is killed
    // is the one that was looked at.
    let opened = pids.filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)));
    let is_ours = |pid: Pid| {
        let executable = fs::read_link(format!("/proc/{pid}/exe"));
        executable.is_ok_and(|executable| executable == program)
    };
    opened
        .filter_map(|(pid, process)| is_ours(pid).then_some(process))
        .collect()
}
