//! Many sessions: creating them at a cap, cleaning them up, and one request among them.

use std::cell::RefCell;
use std::env;
use std::process::Command;
use std::time::SystemTime;

use cgi_session::{FileStore, Store as _, Sweep};

use crate::cgi::{self, Programs};
use crate::crowd::{Crowd, LONG_AGO};
use crate::measure::{Outcome, Row, compare, timed};
use crate::place::Place;

const CAP: usize = 1000;

/// How many sessions live; a tenth as many are expired beside them.
fn sessions() -> Outcome<usize> {
    match env::var("FLOOR_SESSIONS") {
        Ok(number) => Ok(number.parse()?),
        Err(_) => Ok(100_000),
    }
}

pub(crate) fn creations(place: &Place) -> Outcome<Vec<Row>> {
    let mut free = Crowd::new(place, 200, &[])?;
    let mut capped = Crowd::new(place, 200, &[("maxSessions", &CAP.to_string())])?;
    free.fill(CAP)?;
    capped.fill(CAP)?;
    let [floor, at_cap] = compare(
        60,
        [
            Box::new(|| {
                let before = free.ids.len();
                let took = timed(200, || free.create())?;
                free.delete_from(before)?;
                Ok(took)
            }),
            Box::new(|| timed(200, || capped.create())),
        ],
    )?;
    let what = "creation at a cap of 1,000, against creation without one";
    Ok(vec![Row::ratio(what, place, [&floor, &at_cap], Some(2.5))])
}

pub(crate) fn clean_ups(place: &Place) -> Outcome<Vec<Row>> {
    let live = sessions()?;
    let rounds = if live > 200_000 { 3 } else { 5 };
    let mut rows = Vec::new();
    for (shards, layout, target) in [("1", "flat", 1.1), ("256", "256 shards", 0.8)] {
        let mut crowd = Crowd::new(place, 200, &[("shards", shards)])?;
        crowd.fill(live - live / 10)?;
        let crowd = RefCell::new(crowd);
        let [find, library] = compare(
            rounds,
            [
                Box::new(|| crowd.borrow_mut().clean_up(live / 10, find_and_delete)),
                Box::new(|| crowd.borrow_mut().clean_up(live / 10, delete_expired)),
            ],
        )?;
        let what = format!(
            "clean-up of {live} files, {} expired, {layout}, against `find -delete`",
            live / 10
        );
        rows.push(Row::ratio(what, place, [&find, &library], Some(target)));
    }
    Ok(rows)
}

pub(crate) fn growth(place: &Place) -> Outcome<Vec<Row>> {
    let mut few = Crowd::new(place, 200, &[])?;
    let mut many = Crowd::new(place, 200, &[])?;
    few.fill(1000)?;
    many.fill(sessions()?)?;
    let programs = Programs::build()?.ok_or(cgi::NOT_INSTALLED)?;
    let request = |crowd: &Crowd| {
        timed(10, || {
            cgi::count(&programs.counter, crowd.directory(), crowd.any())
        })
    };
    let [floor, measured] = compare(
        100,
        [Box::new(|| request(&few)), Box::new(|| request(&many))],
    )?;
    let live = many.ids.len();
    let what = format!("CGI request of any of {live} sessions, against any of 1,000");
    let whole = Row::ratio(what, place, [&floor, &measured], Some(1.05));
    let [floor, measured] = compare(
        60,
        [
            Box::new(|| timed(500, || few.save_any())),
            Box::new(|| timed(500, || many.save_any())),
        ],
    )?;
    let what = format!("save of any of {live} sessions, caches cold, against any of 1,000");
    Ok(vec![
        whole,
        Row::ratio(what, place, [&floor, &measured], None),
    ])
}

fn delete_expired(store: &FileStore) -> Outcome<()> {
    store.delete_expired(&Sweep::new(), SystemTime::now())?;
    Ok(())
}

fn find_and_delete(store: &FileStore) -> Outcome<()> {
    let mut find = Command::new("find");
    find.arg(store.directory())
        .args(["-name", "*.json", "-mmin"]);
    find.arg(format!("+{}", LONG_AGO / 2)).arg("-delete");
    if !find.status()?.success() {
        return Err("find failed".into());
    }
    Ok(())
}
