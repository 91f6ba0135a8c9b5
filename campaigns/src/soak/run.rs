//! [`Soak`]: servers, traffic, faults and the gauge, together for a given time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::faults::Faults;
use super::gauge::{Gauge, Sample};
use super::traffic::Traffic;
use super::troubles::Troubles;
use testkit::apache::web_user;
use testkit::client::Client;
use testkit::copy;
use testkit::counting::Tally;
use testkit::prelude::*;
use testkit::responder::Responder;
use testkit::servers::Way;

/// Sessions in which every thread counts.
const SHARED: usize = 4;
/// The lock is waited for as long as a slow machine needs.
const SETTINGS: &str = "lockTimeout = 90s\n";
/// Room for some thousand sessions, and soon filled.
const FILE_SYSTEM: &str = "size=48m";

/// What is to be done.
pub(crate) struct Soak {
    pub(crate) duration: Duration,
    /// Threads that send requests one after the other.
    pub(crate) threads: u64,
    /// Between two requests of a thread.
    pub(crate) pause: Duration,
    /// Between two faults.
    pub(crate) fault_every: Duration,
    pub(crate) sample_every: Duration,
    /// How long a session lives that no client comes back to, as the configuration says it.
    pub(crate) timeout: &'static str,
    pub(crate) control: Control,
    pub(crate) seed: u64,
}

/// Something that the soak must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Nothing,
    /// The responder keeps memory and a descriptor of each request.
    Leak,
    /// A session in use disappears.
    Loss,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    pub(crate) requests: u64,
    pub(crate) faults: Vec<(&'static str, usize)>,
    pub(crate) wrong: (usize, Vec<String>),
}

impl Soak {
    pub(crate) fn run(&self) -> Outcome {
        let servers = Servers::start(&format!("{SETTINGS}timeout = {}\n", self.timeout));
        let programs = servers.site.path().join("cgi-bin");
        copy(&tool("cgi-session-cleanup"), &programs);
        // A second responder on the same socket, which is left in peace and watched.
        let watched = programs.join("watched");
        let program = match self.control {
            Control::Leak => example("leak"),
            _ => servers.program(),
        };
        copy(&program, &watched);
        let responder = servers.socket.start(&watched);
        let sessions = servers.site.sessions();
        // Where only root may mount, there is none.
        let user = web_user().filter(|_| is_root());
        let own_file_system = user.and_then(|(uid, gid)| {
            SmallDisk::mount_on(&sessions, &format!("{FILE_SYSTEM},uid={uid},gid={gid}"))
        });
        let troubles = Troubles::default();
        let faults = Faults {
            servers: &servers,
            troubles: &troubles,
            cleaner: programs.join("cgi-session-cleanup"),
            owns_file_system: own_file_system.is_some(),
        };
        let (samples, requests) = self.run_on(&faults, &responder);
        Outcome {
            samples,
            requests,
            faults: troubles.made(),
            wrong: troubles.found(),
        }
    }

    fn run_on(&self, faults: &Faults<'_>, responder: &Responder) -> (Vec<Sample>, u64) {
        let (servers, troubles) = (faults.servers, faults.troubles);
        let ways = ways(servers);
        let shared: Vec<Client> = (0..SHARED).map(|_| ways[0].visitor()).collect();
        let is_over = AtomicBool::new(false);
        let started = Instant::now();
        let mut samples = Vec::new();
        let mut requests = 0;
        let mut tally = Tally::default();
        let send = |number| {
            fastrand::seed(self.seed.wrapping_add(number));
            Traffic::new(&ways, troubles, &shared).run(self.pause, &is_over)
        };
        let send = &send;
        thread::scope(|scope| {
            let over = Over(&is_over);
            let threads = (1..=self.threads).map(|number| scope.spawn(move || send(number)));
            let traffic: Vec<_> = threads.collect();
            let breaker = scope.spawn(|| {
                fastrand::seed(self.seed);
                self.break_things(faults, &is_over);
            });
            let gauge = Gauge {
                servers,
                responder,
                started,
            };
            while started.elapsed() < self.duration || self.needs_more(&samples, started) {
                thread::sleep(self.sample_every);
                match gauge.sample() {
                    Ok(sample) => samples.push(sample),
                    Err(error) => troubles.report(format!("the watched responder: {error}")),
                }
            }
            drop(over);
            breaker.join().unwrap();
            for traffic in traffic {
                let traffic = traffic.join().unwrap();
                requests += traffic.requests;
                tally.add(traffic.tally);
            }
        });
        settle(faults, &ways, &shared, tally);
        (samples, requests)
    }

    /// Whether the control that leaks has answered too few requests for that to be seen.
    fn needs_more(&self, samples: &[Sample], started: Instant) -> bool {
        let is_seen = samples.last().is_some_and(|last| last.descriptors > 100);
        self.control == Control::Leak && !is_seen && started.elapsed() < 10 * DEADLINE
    }

    /// Breaks one thing after the other, and cleans up now and then as cron does.
    fn break_things(&self, faults: &Faults<'_>, is_over: &AtomicBool) {
        let mut number = 0u64;
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(self.fault_every.mul_f64(0.3 + 1.4 * fastrand::f64()));
            faults.make_one();
            number += 1;
            if number.is_multiple_of(4) {
                faults.clean_up(false);
            }
            if self.control == Control::Loss {
                lose_a_session(&faults.servers.site.sessions());
            }
        }
    }
}

/// The ways through nginx and Apache. Told to restart gracefully, `mod_fcgid` forgets who waits for a
/// process, for ever.
fn ways(servers: &Servers) -> Vec<Way> {
    let mut ways = servers.ways();
    ways.retain(|way| way.is_server("nginx") || way.is_server("Apache"));
    ways.retain(|way| !way.is_server("Apache, mod_fcgid"));
    assert!(!ways.is_empty(), "neither nginx nor Apache is installed");
    ways
}

/// When all is over: every shared count is right, and the clean-up finds nothing left behind.
fn settle(faults: &Faults<'_>, ways: &[Way], shared: &[Client], mut tally: Tally) {
    let last = (0..shared.len()).map(|session| last_count(ways[0], shared, session, &mut tally));
    let last: Vec<_> = last.collect();
    let counted = AssertUnwindSafe(|| tally.expect_each_counted_once(|session| last[session]));
    if catch_unwind(counted).is_err() {
        let wrong = "a shared session was not counted right, see above";
        faults.troubles.report(wrong.to_owned());
    }
    // What a killed process leaves behind is deleted when it is a minute old.
    let sessions = faults.servers.site.sessions();
    make_old(&sessions);
    faults.clean_up(false);
    for name in names(&sessions) {
        let ending = Path::new(&name).extension().and_then(OsStr::to_str);
        let is_permanent = [".gc", ".count"].contains(&&*name);
        if !is_permanent && !matches!(ending, Some("json" | "corrupt")) {
            let wrong = format!("{name} is left after the clean-up");
            faults.troubles.report(wrong);
        }
    }
}

/// Counts once more in a shared session. After the last fault it may take some tries; 0 where all fail.
fn last_count(way: Way, shared: &[Client], session: usize, tally: &mut Tally) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let mut visitor = shared[session].at(way.port);
        if let Some(number) = tally.count(session, &mut visitor, &way.path("/counter")) {
            return number;
        }
        thread::sleep(Duration::from_millis(100));
    }
    0
}

/// Deletes the session that was used last, as no process may.
fn lose_a_session(sessions: &Path) {
    let entries = fs::read_dir(sessions).unwrap().map_while(Result::ok);
    let records = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".json"));
    let times = records.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry)));
    if let Some((_, newest)) = times.max_by_key(|(modified, _)| *modified) {
        let _ = fs::remove_file(newest.path());
    }
}

/// Puts temporary files, which no process writes any more, an hour back.
fn make_old(sessions: &Path) {
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    for name in names(sessions) {
        if name.contains(".tmp-") {
            let file = fs::File::options().write(true).open(sessions.join(name));
            file.unwrap().set_modified(old).unwrap();
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map_while(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}
