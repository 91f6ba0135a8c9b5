//! Engines that several hosts share: a storm of programs on two hosts, which are network namespaces with a bridge
//! between them and the engine, while that is restarted, killed and frozen, and hosts are cut off. Whatever was
//! acknowledged must be there once, and nothing else but what was under way when an answer failed to come.

mod engine;
mod hosts;
mod relay;
pub(crate) mod switch_over;

use std::time::Duration;

use crate::campaign::{Campaign, Case, Trial};
use crate::process;
use crate::storm::{Host, Manner, Storm};
use crate::subject::Subject;
use engine::{Engine, Galera, Single};
use hosts::Network;
use testkit::database::DatabaseServer;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "engines",
    about: "storms from two hosts on Redis, PostgreSQL and MariaDB that are killed, frozen, cut off and replaced",
    seconds: 300,
    is_sampled: true,
    cases,
};

/// Longer than any program waits for an answer.
const LONG: Duration = Duration::from_secs(7);
const SHORT: Duration = Duration::from_secs(2);

fn cases() -> Vec<Case> {
    vec![
        case("redis", "by careless programs", Manner::Careless, redis).finding(&[
            "lost: ",
            "doubled: ",
            "stale: ",
        ]),
        case("redis", "", Manner::Troubled, redis),
        case("postgres", "", Manner::Troubled, |it| {
            it.single(engine::postgres)
        }),
        case("mysql", "", Manner::Troubled, |it| it.single(engine::mysql)),
        case("redis", "replicated", Manner::Troubled, replicated_redis),
        case(
            "postgres",
            "replicated",
            Manner::Troubled,
            replicated_postgres,
        ),
        case("mysql", "replicated", Manner::Troubled, replicated_mysql),
        case("mysql", "of Galera", Manner::Troubled, galera),
    ]
}

fn redis(it: &mut Scenario<'_>) -> Option<()> {
    it.single(engine::redis)
}

/// A network, an engine in it and a storm on the engine; `None` where one of them cannot be.
type Attempt = fn(&mut Scenario<'_>) -> Option<()>;

struct Scenario<'a> {
    network: &'a Network,
    kind: &'static str,
    manner: Manner,
    trial: &'a mut Trial,
}

fn case(kind: &'static str, name: &str, manner: Manner, attempt: Attempt) -> Case {
    Case::new(kind, name, move |trial| {
        let Some(network) = Network::open(2) else {
            return trial.skip("no network of its own can be made here");
        };
        let mut scenario = Scenario {
            network: &network,
            kind,
            manner,
            trial,
        };
        if attempt(&mut scenario).is_none() {
            trial.skip("not installed");
        }
    })
}

/// A storm, and the first thing that was wrong.
struct Traffic {
    storm: Storm,
    _place: tempfile::TempDir,
    wrong: Option<String>,
}

impl Traffic {
    /// Waits until every host but the one that is excepted has had operations acknowledged that began now.
    fn goes_on(&mut self, except: Option<usize>, when: &str) {
        let hosts: Vec<usize> = (0..2).filter(|host| Some(*host) != except).collect();
        if self.wrong.is_none() {
            self.wrong = self.storm.goes_on(&hosts, when).err();
        }
    }

    fn wait(&mut self, time: Duration) {
        if self.wrong.is_none() {
            self.wrong = self.storm.wait(time).err();
        }
    }

    fn is_calm(&self) -> bool {
        self.wrong.is_none()
    }
}

impl Scenario<'_> {
    fn traffic(&mut self, engine: &dyn Engine) -> Traffic {
        let place = process::memory();
        let host = |(number, host): (usize, &hosts::Host)| {
            let settings = engine.settings(number).into_iter();
            let subject = Subject::of(self.kind).with("lockTimeout", "5s");
            // A server that takes over may not know that the holder of a lock has died.
            let subject = subject.with("lockLease", "10s");
            Host {
                subject: settings.fold(subject, |it, (key, value)| it.with(key, &value)),
                prefix: host.prefix(),
            }
        };
        let hosts = self.network.hosts().iter().enumerate().map(host);
        let stores = place.path().join("stores");
        let seed = self.trial.seed;
        let storm = Storm::begin(place.path(), &stores, hosts.collect(), seed, self.manner);
        Traffic {
            storm: storm.unwrap(),
            _place: place,
            wrong: None,
        }
    }

    fn end(&mut self, traffic: Traffic) {
        let Traffic {
            mut storm, wrong, ..
        } = traffic;
        storm.stop().unwrap();
        storm.note(self.trial);
        let verdict = storm.verdict().unwrap();
        self.trial.violations(wrong.into_iter().chain(verdict));
    }

    /// Troubles a single server in every way that all engines know, as often as there is time.
    fn single(&mut self, start: fn(&str) -> Option<Single>) -> Option<()> {
        let mut engine = start(self.network.address())?;
        let mut traffic = self.traffic(&engine);
        traffic.goes_on(None, "before any trouble");
        if self.manner == Manner::Careless {
            while traffic.is_calm() && self.trial.goes_on() {
                traffic.goes_on(None, "without trouble");
            }
            self.end(traffic);
            return Some(());
        }
        let mut troubles = [0, 1, 2, 3, 4, 5, 6];
        fastrand::Rng::with_seed(self.trial.seed).shuffle(&mut troubles);
        let mut has_tried_one = false;
        for trouble in troubles.into_iter().cycle() {
            if !traffic.is_calm() || !self.trial.goes_on_until(has_tried_one) {
                break;
            }
            self.trouble(&mut *engine.server, &mut traffic, trouble);
            self.trial.count("troubles", 1);
            has_tried_one = true;
        }
        self.end(traffic);
        Some(())
    }

    fn trouble(&self, engine: &mut dyn DatabaseServer, traffic: &mut Traffic, which: usize) {
        let hosts = self.network.hosts();
        match which {
            0 => {
                engine.stop();
                engine.run();
                traffic.goes_on(None, "after the engine was restarted");
            }
            1 => {
                engine.kill();
                engine.run();
                traffic.goes_on(None, "after the engine was killed");
            }
            2 | 3 => {
                engine.freeze();
                traffic.wait(if which == 2 { SHORT } else { LONG });
                engine.resume();
                traffic.goes_on(None, "after the engine stood still");
            }
            4 | 5 => {
                let host = which - 4;
                hosts[host].cut_off();
                traffic.goes_on(Some(host), "while one host is cut off");
                traffic.wait(LONG);
                hosts[host].reconnect();
                traffic.goes_on(None, "after a host was cut off");
            }
            _ => {
                engine.kill();
                hosts.iter().for_each(hosts::Host::cut_off);
                traffic.wait(SHORT);
                hosts.iter().for_each(hosts::Host::reconnect);
                traffic.wait(SHORT);
                engine.run();
                traffic.goes_on(None, "after everything failed");
            }
        }
    }
}

fn replicated_redis(it: &mut Scenario<'_>) -> Option<()> {
    let engine = engine::ReplicatedRedis::start(it.network.address())?;
    let mut traffic = it.traffic(&engine);
    for turn in 0..4 {
        traffic.goes_on(None, "before the replica takes over");
        engine.fail_over(turn % 2, relay::Relay::turn_to);
        traffic.goes_on(None, "after the replica has taken over");
    }
    it.end(traffic);
    Some(())
}

fn replicated_postgres(it: &mut Scenario<'_>) -> Option<()> {
    let mut engine = engine::ReplicatedPostgres::start(it.network.address())?;
    let mut traffic = it.traffic(&engine);
    traffic.goes_on(None, "before the standby takes over");
    engine.fail_over();
    traffic.goes_on(None, "after the standby has taken over");
    it.end(traffic);
    Some(())
}

fn replicated_mysql(it: &mut Scenario<'_>) -> Option<()> {
    let mut engine = engine::ReplicatedMysql::start(it.network.address())?;
    let mut traffic = it.traffic(&engine);
    traffic.goes_on(None, "before the replica takes over");
    engine.fail_over();
    traffic.goes_on(None, "after the replica has taken over");
    it.end(traffic);
    Some(())
}

/// Two nodes of three, of which one is frozen and killed.
fn galera(it: &mut Scenario<'_>) -> Option<()> {
    let mut engine = Galera::start(it.network.address())?;
    let mut traffic = it.traffic(&engine);
    traffic.goes_on(None, "at two nodes");
    engine.freeze(1);
    traffic.wait(SHORT);
    engine.resume(1);
    traffic.goes_on(None, "after a node stood still");
    engine.kill(1);
    traffic.goes_on(Some(1), "while a node is away");
    engine.join(1);
    traffic.goes_on(None, "after a node came back");
    it.end(traffic);
    Some(())
}
