//! Cuts the power of a real ext4 at every step of every operation, at random moments of a storm, and of a
//! model of weaker file systems. With `durability = data` what was said to be done is done, what was
//! destroyed stays gone, and the next request works; without it nothing is torn.

mod model;

use testkit::broken::Fault;
use testkit::disk::{Cut, Ext4, Room};
use testkit::prelude::*;

use crate::campaign::{Campaign, Case, Trial};
use crate::operation::Operation;
use crate::process;
use crate::scene::{SAVED_BEFORE, Scene, State};
use crate::storm::{Host, Manner, Storm};
use crate::subject::Subject;
use model::History;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "power",
    about: "the power goes at each step of each operation, in storms, and in a model of weak file systems",
    seconds: 600,
    is_sampled: true,
    cases,
};

/// ext4 as it is usually mounted, and with less care for what is not synced.
const MOUNTS: [&str; 4] = [
    "data=ordered",
    "data=writeback",
    "data=writeback,noauto_da_alloc",
    "nodelalloc",
];

/// A store, and whether what was done must be found again.
#[derive(Clone)]
struct Kind {
    subject: Subject,
    is_durable: bool,
}

impl Kind {
    fn file(durability: &str) -> Self {
        Kind {
            subject: Subject::file().with("durability", durability),
            is_durable: durability == "data",
        }
    }

    /// It promises what its setting does not give.
    fn pretending() -> Self {
        Kind {
            is_durable: true,
            ..Kind::file("none")
        }
    }

    fn broken(fault: Fault) -> Self {
        Kind {
            subject: Subject::broken(fault),
            is_durable: true,
        }
    }

    /// Whether this may be found after an operation that was acknowledged or not.
    fn allows(&self, operation: Operation, is_acknowledged: bool, found: &State) -> bool {
        let states = operation.states();
        if self.is_durable {
            let last = states.last().filter(|_| is_acknowledged);
            return last.map_or_else(|| states.contains(found), |last| last == found);
        }
        // Nothing is promised but that each session is as it was, at a save before too, or will be, or is gone,
        // and that it is whole.
        let is_known = |n: &u64| states.iter().any(|state| state.others.contains(n));
        (found.a.is_none_or(|a| a == SAVED_BEFORE) || states.iter().any(|state| state.a == found.a))
            && states[0].b == found.b
            && found.others.iter().all(is_known)
    }
}

fn cases() -> Vec<Case> {
    let lost = &["acknowledged, and found A=5"];
    let save = |kind| at_every_step(Operation::Save, kind);
    let unsynced = || Kind::broken(Fault::RenameWithoutSync);
    let torn = || Kind::broken(Fault::TruncateAndWrite);
    let modelled = |kind| in_model(Operation::Save, kind);
    let mut cases = vec![
        save(unsynced()).finding(lost),
        save(Kind::pretending()).finding(lost),
        save(torn()).finding(&["cannot be read"]),
        at_every_step(Operation::Destroy, unsynced()).finding(lost),
        at_every_step(Operation::Destroy, Kind::pretending()).finding(lost),
        at_every_step(Operation::SetAside, Kind::pretending()).finding(&["is kept nowhere"]),
        modelled(unsynced()).finding(lost),
        modelled(Kind::pretending()).finding(lost),
        modelled(torn()).finding(&["cannot be read"]),
        in_storms(unsynced()).finding(&["lost: "]),
        in_storms(Kind::pretending()).finding(&["lost: "]),
        save(Kind::broken(Fault::Nothing)),
        modelled(Kind::broken(Fault::Nothing)),
        parent_is_synced(),
        in_storms(Kind::file("data")),
    ];
    let is_of_disks = |operation: &Operation| {
        // The one has no sessions, and the other two do what others do.
        *operation != Operation::Install && !operation.is_page()
    };
    for operation in Operation::ALL.into_iter().filter(is_of_disks) {
        for durability in ["data", "none"] {
            cases.push(at_every_step(operation, Kind::file(durability)));
            // These go by the times of the files, which the model leaves out.
            if ![Operation::CleanUp, Operation::Evict].contains(&operation) {
                cases.push(in_model(operation, Kind::file(durability)));
            }
        }
    }
    cases
}

fn case(name: &str, kind: &Kind, attempt: impl Fn(&mut Trial) + 'static) -> Case {
    let durability = kind.subject.setting("durability").unwrap_or("data");
    let promise = if kind.is_durable && durability == "none" {
        " judged as data"
    } else {
        ""
    };
    let name = format!("{name} durability={durability}{promise}");
    Case::new(&kind.subject.name, &name, attempt)
}

/// The power goes before each call that may change the disk, and behind the last one.
fn at_every_step(operation: Operation, kind: Kind) -> Case {
    let name = format!("{operation:?}, at every step");
    case(&name, &kind.clone(), move |trial| {
        let Some(room) = Room::open() else {
            return trial.skip("no disk can be made here");
        };
        let disk = Ext4::format(&room.path().join("image"), &room.path().join("disk"), &[]);
        disk.mount();
        let scene = Scene::set(operation, &kind.subject, &sessions(&disk));
        let scene = scene.after_power_cut(kind.is_durable);
        disk.unmount();
        let steps = steps(&scene, &disk);
        let weathers = MOUNTS
            .into_iter()
            .flat_map(|options| [Cut::Everything, Cut::AllButTheJournal].map(|cut| (options, cut)));
        let jobs = weathers.flat_map(|(options, cut)| (0..steps).map(move |at| (options, cut, at)));
        let mut jobs: Vec<(&str, Cut, usize)> = jobs.collect();
        fastrand::Rng::with_seed(trial.seed).shuffle(&mut jobs);
        trial.count("possible", jobs.len() as u64);
        for (options, cut, at) in jobs {
            if !trial.goes_on() {
                break;
            }
            let checked = cut_before(&scene, &kind, &disk.copy(options), cut, at);
            trial.count("cuts", 1);
            if let Err(wrong) = checked {
                trial.violation(format!("{options}, {cut:?}, before change {at}: {wrong}"));
            }
        }
    })
}

fn sessions(disk: &Ext4) -> PathBuf {
    disk.place().join("sessions")
}

/// How many moments there are at which the power may go.
fn steps(scene: &Scene, disk: &Ext4) -> usize {
    let disk = disk.copy(MOUNTS[0]);
    disk.mount();
    let mut tracer = scene.start(&sessions(&disk));
    let calls = std::iter::from_fn(|| tracer.next());
    let steps = calls.filter(crate::tracer::Call::may_change_disk).count();
    drop(tracer);
    disk.unmount();
    steps + 1
}

fn cut_before(
    scene: &Scene,
    kind: &Kind,
    disk: &Ext4,
    cut: Cut,
    changes: usize,
) -> Result<(), String> {
    disk.mount();
    let mut tracer = scene.start(&sessions(disk));
    let mut left = changes;
    while let Some(call) = tracer.next() {
        if call.may_change_disk() {
            if left == 0 {
                break;
            }
            left -= 1;
        }
    }
    disk.cut(cut);
    let said = tracer.kill().said;
    disk.unmount();

    disk.mount();
    let is_done = scene.operation.is_acknowledged(&said);
    let is_allowed = |found: &State| kind.allows(scene.operation, is_done, found);
    // Without durability an id that was told may lead nowhere.
    let told = if kind.is_durable { &said } else { "" };
    let checked = scene.check(&sessions(disk), is_allowed, told);
    disk.unmount();
    checked
}

/// The states that a file system may leave that orders nothing by itself.
fn in_model(operation: Operation, kind: Kind) -> Case {
    let name = format!("{operation:?}, in the model");
    case(&name, &kind.clone(), move |trial| {
        let place = process::memory();
        let directory = place.path().join("sessions");
        let scene = Scene::set(operation, &kind.subject, &directory);
        let scene = scene.after_power_cut(kind.is_durable);
        let (history, said) = History::of(scene.start(&directory), &directory);
        let mut jobs = Vec::new();
        for events in 0..history.moments() {
            let is_done = events + 1 == history.moments();
            let found = history.found_after(events).into_iter();
            jobs.extend(found.map(|files| (files, is_done)));
        }
        fastrand::Rng::with_seed(trial.seed).shuffle(&mut jobs);
        trial.count("possible", jobs.len() as u64);
        for (files, is_done) in jobs {
            if !trial.goes_on() {
                break;
            }
            fs::remove_dir_all(&directory).unwrap();
            model::lay_out(&files, &directory);
            let is_allowed = |found: &State| kind.allows(operation, is_done, found);
            let told = if is_done && kind.is_durable {
                &said
            } else {
                ""
            };
            trial.count("states", 1);
            if let Err(wrong) = scene.check(&directory, is_allowed, told) {
                trial.violation(wrong);
            }
        }
    })
}

/// A directory that is made for a durable session is synced into its parent.
fn parent_is_synced() -> Case {
    let kind = Kind::file("data");
    case("First, in a new directory", &kind.clone(), move |trial| {
        let place = process::memory();
        let directory = place.path().join("sessions");
        let scene = Scene::set(Operation::First, &kind.subject, &directory);
        fs::remove_dir_all(&directory).unwrap();
        let mut tracer = scene.start(&directory);
        let mut synced = Vec::new();
        while let Some(call) = tracer.next() {
            synced.extend(call.file.clone().filter(|_| call.is_sync()));
        }
        assert!(tracer.finish().said.starts_with("done "));
        for path in [directory.as_path(), place.path()] {
            if !synced.iter().any(|synced| synced == path) {
                trial.violation(format!("{} is not synced", path.display()));
            }
        }
    })
}

/// The power goes at a random moment of a storm, whose ledgers lie on no disk.
fn in_storms(kind: Kind) -> Case {
    case("in storms", &kind.clone(), move |trial| {
        let Some(room) = Room::open() else {
            return trial.skip("no disk can be made here");
        };
        let mut rng = fastrand::Rng::with_seed(trial.seed);
        let disk = Ext4::format(&room.path().join("storm"), &room.path().join("disk"), &[]);
        let mut round = 0;
        while round < trial.rounds && trial.goes_on_until(round > 0) {
            round += 1;
            let disk = disk.copy(rng.choice(MOUNTS).unwrap_or(MOUNTS[0]));
            disk.mount();
            let ledgers = process::memory();
            let hosts = vec![Host::here(kind.subject.clone())];
            let (stores, seed) = (disk.place().join("stores"), rng.u64(..));
            let storm = Storm::begin(ledgers.path(), &stores, hosts, seed, Manner::Strict);
            let mut storm = storm.unwrap();
            let end = Instant::now() + Duration::from_millis(rng.u64(200..1500));
            while storm.turn().unwrap() && Instant::now() < end {}
            storm.stop_hearing().unwrap();
            disk.cut(Cut::Everything);
            storm.stop().unwrap();
            storm.note(trial);
            disk.unmount();

            disk.mount();
            trial.violations(storm.verdict().unwrap());
            trial.count("cuts", 1);
            disk.unmount();
        }
    })
}
