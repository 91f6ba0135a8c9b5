//! A storm in a cluster of Redis: primaries die, stand still and hand over their slots, and nothing is lost that was
//! acknowledged with `durability = data`.

use testkit::prelude::*;
use testkit::redis_cluster::RedisCluster;

use crate::campaign::{Campaign, Case, Trial};
use crate::process;
use crate::storm::{Host, Manner, Storm};
use crate::subject::Subject;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "cluster",
    about: "storms in a Redis cluster whose primaries die, stand still and hand over their slots",
    seconds: 300,
    is_sampled: true,
    cases,
};

/// The node that fails, and the one that takes its place.
const VICTIM: usize = 1;
const HEIR: usize = 4;
const PRIMARIES: usize = 3;
/// The storm goes on so long before something happens and after it.
const WHILE: Duration = Duration::from_secs(2);

fn cases() -> Vec<Case> {
    let troubled = Manner::Troubled;
    vec![
        case("without durability", "none", troubled, forget).finding(&["lost: "]),
        case("of which a primary dies", "data", troubled, |it| {
            it.cluster.kill(VICTIM);
            it.fails_over()?;
            // One that comes back has to follow.
            it.cluster.run(VICTIM);
            it.follows()
        }),
        case("of which a primary stands still", "data", troubled, |it| {
            it.cluster.node(VICTIM).freeze();
            let failed_over = it.fails_over();
            it.cluster.node(VICTIM).resume();
            failed_over?;
            it.follows()
        }),
        case(
            "whose slots are handed over",
            "none",
            Manner::Strict,
            |it| {
                let mut from = 0;
                while it.storm.wait(WHILE / 4).is_ok() && it.trial.goes_on() {
                    let to = (from + 1) % PRIMARIES;
                    it.hand_over(from, to)?;
                    it.trial.count("slots handed over", 1);
                    from = to;
                }
                Ok(())
            },
        ),
    ]
}

/// A cluster, and a storm in it.
struct Scenario<'a> {
    cluster: RedisCluster,
    storm: Storm,
    trial: &'a mut Trial,
}

/// What is wrong meanwhile is the error.
type Attempt = fn(&mut Scenario<'_>) -> Result<(), String>;

fn case(name: &str, durability: &'static str, manner: Manner, attempt: Attempt) -> Case {
    Case::new("redis", name, move |trial| {
        // Only where a node is to fail may it be missed soon.
        let cluster = match manner {
            Manner::Troubled => RedisCluster::that_fails_over_soon(),
            Manner::Strict | Manner::Careless => RedisCluster::start(),
        };
        let Some(cluster) = cluster else {
            return trial.skip("redis-server is not installed");
        };
        let place = process::memory();
        let subject = Subject::of("redis").with("database", &cluster.url());
        let subject = subject.with("durability", durability);
        let subject = subject.with("lockTimeout", "5s").with("lockLease", "10s");
        let (hosts, stores) = (vec![Host::here(subject)], place.path().join("stores"));
        let storm = Storm::begin(place.path(), &stores, hosts, trial.seed, manner);
        let mut scenario = Scenario {
            cluster,
            storm: storm.unwrap(),
            trial,
        };
        let wrong = scenario.storm.wait(WHILE);
        let wrong = wrong.and_then(|()| attempt(&mut scenario));
        let wrong = wrong.and_then(|()| scenario.storm.goes_on(&[0], "at the end"));
        let Scenario {
            cluster: _cluster,
            mut storm,
            trial,
        } = scenario;
        storm.end(trial).unwrap();
        trial.violations(wrong.err().into_iter().chain(storm.verdict().unwrap()));
    })
}

/// What no replica has is lost with its primary.
fn forget(it: &mut Scenario<'_>) -> Result<(), String> {
    it.cluster.node(HEIR).freeze();
    // Else it would find on the line what was sent to it.
    let replicas = ["CLIENT", "KILL", "TYPE", "replica"];
    it.cluster.node(VICTIM).tell(replicas);
    let waited = it.storm.wait(WHILE);
    it.cluster.kill(VICTIM);
    it.cluster.node(HEIR).resume();
    waited?;
    it.fails_over()
}

impl Scenario<'_> {
    /// Waits until the replica has taken over, and the storm goes on.
    fn fails_over(&mut self) -> Result<(), String> {
        for _ in 0..60 {
            if self.cluster.is_primary(HEIR) {
                self.trial.count("failovers", 1);
                return self.storm.wait(WHILE);
            }
            self.storm.wait(WHILE / 4)?;
        }
        Err("the replica does not take over".to_owned())
    }

    fn follows(&mut self) -> Result<(), String> {
        wait_until("it is a replica", || !self.cluster.is_primary(VICTIM));
        self.storm.wait(WHILE)
    }

    /// Hands the slots of some sessions over to another node, key by key, as `redis-cli --cluster reshard` does.
    fn hand_over(&mut self, from: usize, to: usize) -> Result<(), String> {
        let [source, target] = [from, to].map(|at| self.cluster.node(at));
        let [source_id, target_id] = [source, target].map(|node| node.tell("CLUSTER MYID"));
        let keys = (0..4).map(|_| source.tell("RANDOMKEY"));
        let keys = keys.filter(|key| !key.is_empty());
        let slots: BTreeSet<usize> = keys.map(|key| self.cluster.slot(&key)).collect();
        for slot in slots.iter().map(usize::to_string) {
            target.tell(["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]);
            source.tell(["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]);
            // A node that has just come does not know the scripts.
            target.tell("SCRIPT FLUSH");
            loop {
                let key = source.tell(["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
                if key.is_empty() {
                    break;
                }
                let port = self.cluster.port(to);
                source.tell(["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
                self.storm.wait(Duration::from_millis(50))?;
            }
            for node in [target, source] {
                node.tell(["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
            }
        }
        Ok(())
    }
}
