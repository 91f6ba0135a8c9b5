//! Floods: what many requests or long ones cost.

use std::fs;

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
