//! Floods: what many requests or long ones cost.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::trace::{Trace, mark};
use super::{DIRECTORY, manager, own_part};

#[test]
fn f1_and_f3_a_flood_without_sessions_makes_no_file_takes_no_lock_and_sends_no_cookie() {
    let place = tempfile::tempdir().unwrap();
    let sessions = place.path().join("sessions");
    let mut child = testkit::again(module_path!(), "child_that_floods");
    child.env(DIRECTORY, &sessions);
    let Some(trace) = Trace::of(&child, &["-e", "trace=%file,%desc"]) else {
        return;
    };
    assert!(trace.between(1, 2).is_empty(), "{:#?}", trace.between(1, 2));
    let held = |call: &&String| {
        call.contains("flock") || call.contains("O_CREAT") || call.contains("write")
    };
    let forged: Vec<_> = trace.between(2, 3).iter().filter(held).collect();
    assert!(forged.is_empty(), "{forged:#?}");
    assert!(!sessions.exists(), "{:?}", fs::read_dir(sessions));
}

/// The child's part.
#[test]
fn child_that_floods() {
    let Some(directory) = own_part() else { return };
    let manager = manager(directory, &[]);
    mark(1);
    for _ in 0..50_000 {
        let session = manager.start("").unwrap();
        assert_eq!(session.get::<u64>("pageViews").unwrap(), None);
        assert!(session.commit().unwrap().is_none());
        assert!(manager.read("theme=dark").unwrap().is_none());
    }
    mark(2);
    for number in 0..1000 {
        let header = format!("sessionId={number:040x}");
        assert!(manager.read(&header).unwrap().is_none());
        assert!(manager.start(&header).unwrap().commit().unwrap().is_none());
    }
    mark(3);
}

/// The processor time that `work` needs at least.
fn cost(work: impl Fn()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap(),
        )
    };
    let timed = (0..3).map(|_| {
        let begun = now();
        work();
        now().saturating_sub(begun)
    });
    timed.min().unwrap()
}

/// How much more processor time 32 times as much input costs.
fn growth(read: impl Fn(&str), part: &str, short: usize) -> f64 {
    let input = |bytes: usize| part.repeat(bytes / part.len());
    let (short, long) = (input(short), input(32 * short));
    cost(|| read(&long)).as_secs_f64() / cost(|| read(&short)).as_secs_f64()
}

/// Four times more than in proportion, which is far from the thousandfold of a square.
const MOST: f64 = 32.0 * 4.0;

#[test]
fn f2_a_cookie_header_of_two_megabytes_costs_in_proportion() {
    let place = tempfile::tempdir().unwrap();
    let manager = manager(place.path(), &[]);
    for part in [
        "a=b; ",
        ";",
        "=",
        "\"",
        "sessionId=\"; ",
        ",",
        " ",
        "\u{fc}=;",
    ] {
        let read = |header: &str| assert!(manager.session_id(header).is_none());
        let growth = growth(read, part, 1 << 16);
        assert!(growth < MOST, "{part:?} costs {growth} times as much");
    }
}

#[test]
fn f2_a_reader_that_looks_at_the_rest_again_for_each_cookie_is_noticed() {
    let read = |header: &str| {
        let cookies = header.match_indices(';');
        let looked_at = cookies.map(|(at, _)| header[at..].bytes().filter(|b| *b == b'=').count());
        assert!(looked_at.sum::<usize>() > 0);
    };
    let growth = growth(read, "a=b; ", 512);
    assert!(growth > MOST, "{growth} times as much is not noticed");
}
