//! Cuts the power of a real ext4 at every step of every operation, at random moments of many
//! processes, and of a model of weaker file systems. With `durability = data` what was said to be done
//! is done, what was destroyed stays gone, and the next request works; without it nothing is torn.

mod crowd;
mod model;
mod rig;
mod trace;
mod verdict;

use std::env;
use std::fs;

use model::{History, lay_out};
use rig::{Prepared, Scene};
use testkit::broken::Fault;
use testkit::disk::{Cut, Room};
use verdict::{Kind, OPERATIONS, Operation};

/// ext4 as it is usually mounted, and with less care for what is not synced.
const MOUNTS: [&str; 4] = [
    "data=ordered",
    "data=writeback",
    "data=writeback,noauto_da_alloc",
    "nodelalloc",
];

/// Half of the combinations, or with `POWER_CUTS=all` all of them.
fn weathers() -> Vec<(&'static str, Cut)> {
    let all = MOUNTS
        .into_iter()
        .flat_map(|options| [(options, Cut::Everything), (options, Cut::AllButTheJournal)]);
    if is_long() {
        return all.collect();
    }
    // The ordered data of a journal that was written is written too: little is lost.
    all.filter(|(options, cut)| (*cut == Cut::Everything) != options.contains("writeback"))
        .collect()
}

fn is_long() -> bool {
    env::var_os("POWER_CUTS").is_some_and(|value| value == "all")
}

#[track_caller]
fn is_sound(room: &Room, operation: Operation, kind: Kind) {
    let prepared = Prepared::new(room, operation, kind);
    let mut cuts = 0;
    for (options, cut) in weathers() {
        let findings = prepared.cut_everywhere(cut, options);
        assert_eq!(findings.violations, [""; 0], "{operation:?}");
        cuts += findings.cuts;
    }
    println!(
        "{}, durability = {}: {cuts} cuts",
        operation.name, kind.durability
    );
}

#[test]
fn what_was_done_with_durability_survives_a_power_cut_at_every_step() {
    let Some(room) = Room::open() else { return };
    for operation in OPERATIONS {
        is_sound(&room, operation, Kind::DURABLE);
    }
}

#[test]
fn without_durability_a_power_cut_leaves_the_old_the_new_or_nothing() {
    let Some(room) = Room::open() else { return };
    for operation in OPERATIONS {
        is_sound(&room, operation, Kind::FAST);
    }
}

#[test]
fn the_cuts_find_nothing_in_a_store_that_syncs_as_it_should() {
    let Some(room) = Room::open() else { return };
    is_sound(&room, operation("save"), Kind::broken(Fault::Nothing));
}

/// Something like `what` is found when the power is cut everywhere in a save.
#[track_caller]
fn is_caught(room: &Room, name: &str, kind: Kind, what: &str) {
    let prepared = Prepared::new(room, operation(name), kind);
    let found = weathers().into_iter();
    let found = found.flat_map(|(options, cut)| prepared.cut_everywhere(cut, options).violations);
    let found: Vec<_> = found.collect();
    assert!(found.iter().any(|text| text.contains(what)), "{found:#?}");
}

#[test]
fn the_cuts_find_the_save_that_a_store_without_sync_loses() {
    let Some(room) = Room::open() else { return };
    let lost = "save: Some(State { n: 1, length: 0 }) instead of [Some(State { n: 2, length: 0 })]";
    is_caught(&room, "save", Kind::broken(Fault::RenameWithoutSync), lost);
    is_caught(&room, "save", Kind::PRETENDING, lost);
}

#[test]
fn the_cuts_find_the_destroyed_session_that_comes_back_without_sync() {
    let Some(room) = Room::open() else { return };
    let back = "destroy: Some(State { n: 1, length: 0 }) instead of [None]";
    is_caught(
        &room,
        "destroy",
        Kind::broken(Fault::RenameWithoutSync),
        back,
    );
    is_caught(&room, "destroy", Kind::PRETENDING, back);
}

#[test]
fn the_cuts_find_the_damaged_session_that_is_lost_without_sync() {
    let Some(room) = Room::open() else { return };
    is_caught(&room, "set aside", Kind::PRETENDING, "is kept nowhere");
}

#[test]
fn the_cuts_find_the_session_that_is_written_over_in_place() {
    let Some(room) = Room::open() else { return };
    is_caught(
        &room,
        "save",
        Kind::broken(Fault::TruncateAndWrite),
        "cannot be read",
    );
}

fn operation(name: &str) -> Operation {
    let mut all = OPERATIONS.into_iter();
    all.find(|operation| operation.name == name).unwrap()
}

#[test]
fn what_many_processes_said_they_saved_survives_a_power_cut_at_a_random_moment() {
    let Some(room) = Room::open() else { return };
    for options in MOUNTS.into_iter().cycle().take(rounds()) {
        let lines = rand::random_range(1..400);
        let wrong = crowd::cut_after(&room, Kind::DURABLE, lines, options);
        assert_eq!(wrong, [""; 0], "{options}, after {lines} lines");
    }
}

#[test]
fn the_random_cuts_find_that_a_store_without_sync_loses_saves() {
    let Some(room) = Room::open() else { return };
    for kind in [Kind::PRETENDING, Kind::broken(Fault::RenameWithoutSync)] {
        let wrong = crowd::cut_after(&room, kind, 200, MOUNTS[0]);
        assert!(
            wrong.iter().any(|text| text.contains("was saved")),
            "{wrong:#?}"
        );
    }
}

fn rounds() -> usize {
    if is_long() { 100 } else { 8 }
}

/// A clean-up goes by the times of the files, which the model leaves out.
fn modelled() -> impl Iterator<Item = Operation> {
    let all = OPERATIONS.into_iter();
    all.filter(|operation| operation.name != "clean up")
}

/// Thousands of states need not wait for a disk.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// What is wrong in the states that a weak file system may leave, and how many there are.
fn weakly(operation: Operation, kind: Kind) -> (usize, Vec<String>) {
    let place = in_memory();
    let directory = place.path().join("sessions");
    let scene = Scene::set(operation, kind, &directory);
    let (history, said) = History::of(scene.start(&directory), &directory);
    let (mut states, mut violations) = (0, Vec::new());
    for events in 0..history.moments() {
        let is_done = events + 1 == history.moments();
        for files in history.found_after(events) {
            fs::remove_dir_all(&directory).unwrap();
            lay_out(&files, &directory);
            violations.extend(scene.violations(&directory, is_done.then_some(&said)));
            states += 1;
        }
    }
    (states, violations)
}

#[test]
fn what_was_done_with_durability_survives_on_a_file_system_that_orders_nothing() {
    for operation in modelled() {
        let (states, violations) = weakly(operation, Kind::DURABLE);
        assert_eq!(violations, [""; 0], "{operation:?}");
        println!("{}: {states} states", operation.name);
    }
}

#[test]
fn a_directory_that_is_made_for_a_durable_session_is_synced_into_its_parent() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("sessions");
    let mut traced = rig::start("begin", Kind::DURABLE, &directory, None);
    let mut synced = Vec::new();
    while let Some(call) = traced.next() {
        synced.extend(call.file.clone().filter(|_| call.is_sync()));
    }
    assert!(traced.said().starts_with("done "));
    for path in [directory.as_path(), place.path()] {
        assert!(synced.iter().any(|synced| synced == path), "{synced:?}");
    }
}

#[test]
fn without_durability_nothing_is_torn_on_a_file_system_that_orders_nothing() {
    for operation in modelled() {
        let (states, violations) = weakly(operation, Kind::FAST);
        assert_eq!(violations, [""; 0], "{operation:?}");
        println!("{}: {states} states", operation.name);
    }
}

#[test]
fn the_model_finds_every_store_that_syncs_or_writes_wrongly_and_no_other() {
    let lost = "instead of [Some(State { n: 2, length: 0 })]";
    for (kind, what) in [
        (Kind::PRETENDING, lost),
        (Kind::broken(Fault::RenameWithoutSync), lost),
        (Kind::broken(Fault::TruncateAndWrite), "cannot be read"),
    ] {
        let found = weakly(operation("save"), kind).1;
        assert!(
            found.iter().any(|text| text.contains(what)),
            "{kind:?}: {found:#?}"
        );
    }
    let sound = weakly(operation("save"), Kind::broken(Fault::Nothing));
    assert_eq!(sound.1, [""; 0]);
}
