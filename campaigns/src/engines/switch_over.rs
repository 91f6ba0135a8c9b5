//! Switch-overs below a FastCGI program under load: how many requests were refused, for how long none was served, and
//! whether everything that was acknowledged is there, once.

use std::process::ExitCode;

use cgi_session::Program;
use cgi_session_redis::REDIS;
use cgi_session_sql::{MYSQL, POSTGRES};
use rustix::fd::OwnedFd;
use testkit::fastcgi::client::{Address, Client, Reply, get, visit};
use testkit::prelude::*;
use testkit::redis_sentinel::{RedisSentinels, SOON};

use super::engine::{self, Engine, Single, settings};
use super::relay::Relay;
use crate::campaign::{Campaign, Case, Trial};
use crate::process::{self, Process, Role, Task};
use crate::subject::Subject;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "switch-over",
    about: "FastCGI under load while Redis, PostgreSQL and MariaDB are restarted and replaced",
    seconds: 300,
    is_sampled: true,
    cases,
};

/// Each with a session of its own.
const CLIENTS: usize = 8;
/// Between an answer and the next request of a client.
const PAUSE: Duration = Duration::from_millis(10);
const LOCAL: &str = "127.0.0.1";

fn cases() -> Vec<Case> {
    vec![
        case("redis", "killed, without a log", |it| {
            it.restarted(engine::forgetful_redis)
        })
        .finding(&["lost: "]),
        case("redis", "behind a proxy that asks twice", |it| {
            it.asks_twice = true;
            it.restarted(engine::redis)
        })
        .finding(&["doubled: "]),
        case("redis", "killed, started again", |it| {
            it.restarted(engine::redis)
        }),
        case("postgres", "killed, started again", |it| {
            it.restarted(engine::postgres)
        }),
        case("mysql", "killed, started again", |it| {
            it.restarted(engine::mysql)
        }),
        case("redis", "planned, the old one up", |it| {
            let engine = engine::ReplicatedRedis::start(LOCAL)?;
            it.measure(&engine.settings(0), || engine.fail_over(0, Relay::lead_to));
            Some(())
        }),
        case("postgres", "planned, the old one up", |it| {
            let mut engine = engine::ReplicatedPostgres::start(LOCAL)?;
            it.measure(&engine.hosts(), || engine.hand_over());
            Some(())
        }),
        case("mysql", "planned, the old one up", |it| {
            let mut engine = engine::ReplicatedMysql::start(LOCAL)?;
            it.measure(&engine.settings(0), || engine.hand_over());
            Some(())
        }),
        case("postgres", "killed, several hosts", |it| {
            let mut engine = engine::ReplicatedPostgres::start(LOCAL)?;
            it.measure(&engine.hosts(), || engine.fail_over());
            Some(())
        }),
        case("mysql", "killed, one address", |it| {
            let mut engine = engine::ReplicatedMysql::start(LOCAL)?;
            it.measure(&engine.settings(0), || engine.fail_over());
            Some(())
        }),
        case("redis", "planned, Sentinel", |it| {
            let engine = RedisSentinels::start(SOON)?;
            it.measure(&of_sentinels(&engine), || engine.fail_over());
            Some(())
        }),
        case("redis", "killed, Sentinel", |it| {
            let mut engine = RedisSentinels::start(SOON)?;
            it.measure(&of_sentinels(&engine), || engine.kill_primary());
            Some(())
        }),
    ]
}

fn of_sentinels(engine: &RedisSentinels) -> Vec<(&'static str, String)> {
    let mut settings = settings("redis", &engine.url());
    settings.push(("durability", "data".to_owned()));
    settings
}

fn case(kind: &'static str, name: &str, attempt: fn(&mut SwitchOver<'_>) -> Option<()>) -> Case {
    Case::new(kind, name, move |trial| {
        let asks_twice = false;
        if attempt(&mut SwitchOver { trial, asks_twice }).is_none() {
            trial.skip("not installed");
        }
    })
}

struct SwitchOver<'a> {
    trial: &'a mut Trial,
    /// Whether each request is sent twice.
    asks_twice: bool,
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    served: AtomicU64,
    refused: AtomicU64,
    /// When each request was served.
    times: Mutex<Vec<Instant>>,
    wrong: Mutex<Vec<String>>,
    asks_twice: bool,
}

impl SwitchOver<'_> {
    fn restarted(&mut self, start: fn(&str) -> Option<Single>) -> Option<()> {
        let mut engine = start(LOCAL)?;
        self.measure(&engine.settings(0), || {
            engine.server.kill();
            engine.server.run();
        });
        Some(())
    }

    /// Requests before, while and after the server is switched over.
    fn measure(&mut self, settings: &[(&'static str, String)], switch_over: impl FnOnce()) {
        let set = |config: Config, (key, value): &(&str, String)| config.set(key, value).unwrap();
        let config = settings.iter().fold(Config::new(), set);
        let manager = SessionManager::with_kinds(config, &[REDIS, POSTGRES, MYSQL]);
        for problem in manager.unwrap().install() {
            self.trial.violation(problem.one_line());
        }
        let place = process::memory();
        let path = place.path().join("program.sock");
        let listener = OwnedFd::from(UnixListener::bind(&path).unwrap());
        let subject = Subject::of(&settings[0].1);
        let mut command = Task::new(&subject, place.path(), Role::Pages).command();
        let names = [
            ("storageType", "CGI_SESSION_STORAGE_TYPE"),
            ("database", "CGI_SESSION_DATABASE"),
            ("durability", "CGI_SESSION_DURABILITY"),
        ];
        for (key, value) in settings {
            let (_, name) = names.iter().find(|(known, _)| known == key).unwrap();
            command.env(name, value);
        }
        command.stdin(Stdio::from(listener)).stderr(Stdio::null());
        let _program = Process::spawn(&mut command).unwrap();

        let (mut seen, is_over) = (Seen::default(), AtomicBool::new(false));
        seen.asks_twice = self.asks_twice;
        let mut switched = (Instant::now(), Instant::now());
        thread::scope(|scope| {
            let over = Over(&is_over);
            for _ in 0..CLIENTS {
                scope.spawn(|| seen.count(&path, &is_over));
            }
            let is_served = |more: u64| {
                let goal = seen.served.load(Ordering::Relaxed) + more;
                wait_until("requests are served", || {
                    seen.served.load(Ordering::Relaxed) > goal
                });
            };
            is_served(200);
            switched.0 = Instant::now();
            switch_over();
            switched.1 = Instant::now();
            // None of those that were under way before.
            is_served(400);
            drop(over);
        });
        self.report(seen, switched);
    }

    fn report(&mut self, seen: Seen, (began, ended): (Instant, Instant)) {
        let mut times = seen.times.into_inner().unwrap();
        times.sort_unstable();
        let gaps = times.windows(2).filter(|pair| pair[1] >= began);
        let gap = gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let wrong = seen.wrong.into_inner().unwrap();
        self.trial.count("served", seen.served.into_inner());
        self.trial
            .count("answered with 503", seen.refused.into_inner());
        self.trial.count("ms without service", millis(gap));
        self.trial
            .count("ms of the switch-over itself", millis(ended - began));
        for kind in ["lost", "doubled"] {
            let of_kind = wrong.iter().filter(|text| text.starts_with(kind));
            let number = u64::try_from(of_kind.count()).unwrap_or(u64::MAX);
            self.trial.count(kind, number);
        }
        self.trial.violations(wrong);
    }
}

impl Seen {
    /// Counts in a session until it is over, and once more.
    fn count(&self, path: &Path, is_over: &AtomicBool) {
        let address = Address::Unix(path.to_owned());
        let ask = |cookie: &str| -> Reply {
            let request = if cookie.is_empty() {
                get(1, 0, "")
            } else {
                visit(1, 0, "", cookie)
            };
            Client::connect(&address).unwrap().ask(1, &request)
        };
        let (mut cookie, mut acknowledged, mut refused) = (String::new(), 0, 0);
        loop {
            let is_last = is_over.load(Ordering::Relaxed);
            if self.asks_twice {
                ask(&cookie);
            }
            let reply = ask(&cookie);
            match reply.status() {
                200 => {
                    let count: u64 = reply.text().parse().unwrap();
                    // One that was refused may have been counted.
                    let wrong = match count {
                        count if count <= acknowledged => Some("lost"),
                        count if count > acknowledged + refused + 1 => Some("doubled"),
                        _ => None,
                    };
                    let text =
                        wrong.map(|what| format!("{what}: {count} came after {acknowledged}"));
                    self.wrong.lock().unwrap().extend(text);
                    (acknowledged, refused) = (count, 0);
                    if let Some(new) = reply.cookie() {
                        new.clone_into(&mut cookie);
                    }
                    self.served.fetch_add(1, Ordering::Relaxed);
                    self.times.lock().unwrap().push(Instant::now());
                    if is_last {
                        return;
                    }
                }
                503 => {
                    refused += 1;
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                other => {
                    let text = format!("answered with {other}: {}", reply.text());
                    self.wrong.lock().unwrap().push(text);
                    return;
                }
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The program: a page that counts.
pub(crate) fn pages() -> ExitCode {
    let program = Program::new().store(REDIS).store(POSTGRES);
    program.store(MYSQL).run(page)
}

fn page(request: &mut Request) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let session = request.session()?;
    let count = session.get::<u64>("count")?.unwrap_or(0) + 1;
    session.insert("count", count)?;
    Ok(Response::text(count.to_string()))
}
