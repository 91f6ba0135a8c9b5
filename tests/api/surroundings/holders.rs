//! Holders of a lock that are stopped, and descriptors that outlive the handler.

use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::visitor::{End, Visitor, newcomer};
use testkit::prelude::*;

#[test]
fn a_stopped_holder_costs_others_of_its_session_the_lock_timeout_and_nobody_else_anything() {
    let site = Site::with_settings("lockTimeout = 1s\n");
    let (mut visitor, mut other) = (Visitor::begin(&site), Visitor::begin(&site));
    let holding = Holding::start(&site, Some(visitor.id()), &[]);
    send(Signal::STOP, &holding.child);
    let started = Instant::now();
    let refused = Cgi::new("counter", &site).visitor(visitor.id()).run();
    let waited = started.elapsed();
    assert!((1..20).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(refused.header("retry-after"), Some("5"));
    let holder = format!("process {} (misbehave), running for ", holding.child.id());
    refused.expect_failure(503, ["still locked after ", &holder]);
    for _ in 0..10 {
        other.goes_on();
        assert_eq!(newcomer(&site, ""), End::Served);
    }
    send(Signal::CONT, &holding.child);
    holding.end().expect(200, "unharmed");
    visitor.sees(1001);
}

/// A copy of the handler's descriptor of its session, as a child that it had forked would have.
fn left_behind(holding: &Holding, session: &Path) -> OwnedFd {
    let pid = holding.child.id();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut numbers = descriptors.filter_map(|entry| {
        let path = entry.unwrap().path();
        let leads_there = fs::read_link(&path).is_ok_and(|target| target == session);
        leads_there.then(|| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
    });
    let number = numbers.next().expect("a descriptor of the session");
    let process = pidfd_open(Pid::from_child(&holding.child), PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn a_child_that_a_handler_left_behind_keeps_no_lock() {
    let site = Site::with_settings("lockTimeout = 60s\n");
    let mut visitor = Visitor::begin(&site);
    let holding = Holding::start(&site, Some(visitor.id()), &[]);
    let copy = left_behind(&holding, &site.only_file());
    holding.end().expect(200, "unharmed");
    let started = Instant::now();
    visitor.sees(1001);
    assert!(started.elapsed() < Duration::from_secs(30));
    drop(copy);
}

#[test]
fn a_child_that_a_killed_handler_left_behind_keeps_the_lock_while_it_lives_and_others_get_503() {
    let site = Site::with_settings("lockTimeout = 1s\n");
    let mut visitor = Visitor::begin(&site);
    let mut holding = Holding::start(&site, Some(visitor.id()), &[]);
    let copy = left_behind(&holding, &site.only_file());
    holding.child.kill().unwrap();
    holding.child.wait().unwrap();
    let refused = Cgi::new("counter", &site).visitor(visitor.id()).run();
    refused.expect_failure(503, "still locked after ");
    drop(copy);
    visitor.goes_on();
}
