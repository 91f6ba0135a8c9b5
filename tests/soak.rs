//! The soak of `benches/soak.rs` for half a minute, and what it must notice.

#[allow(dead_code, reason = "the benchmark shows more")]
#[path = "../benches/soak/mod.rs"]
mod soak;
mod support;

use std::time::Duration;

use soak::run::{Control, Outcome, Soak};
use soak::verdict::judge;
use support::is_installed;

fn soak(seconds: u64, control: Control) -> Option<Outcome> {
    if !is_installed("nginx") || !is_installed("apache2") {
        return None;
    }
    let soak = Soak {
        duration: Duration::from_secs(seconds),
        threads: 4,
        pause: Duration::from_millis(60),
        fault_every: Duration::from_secs(3),
        sample_every: Duration::from_secs(1),
        timeout: "15s",
        control,
    };
    Some(soak.run())
}

#[test]
fn nothing_is_lost_and_everything_stays_level() {
    let Some(outcome) = soak(40, Control::Nothing) else {
        return;
    };
    assert!(outcome.requests > 200, "{}", outcome.requests);
    assert!(!outcome.faults.is_empty());
    let reasons = judge(&outcome);
    assert!(reasons.is_empty(), "{reasons:#?}");
}

#[test]
fn a_responder_that_keeps_something_of_each_request_is_noticed() {
    let Some(outcome) = soak(20, Control::Leak) else {
        return;
    };
    let reasons = judge(&outcome).join("\n");
    assert!(reasons.contains("memory in KiB rose"), "{reasons}");
    assert!(reasons.contains("descriptors rose"), "{reasons}");
}

#[test]
fn a_session_that_disappears_is_noticed() {
    let Some(outcome) = soak(20, Control::Loss) else {
        return;
    };
    let reasons = judge(&outcome).join("\n");
    assert!(reasons.contains("counted 1, expected"), "{reasons}");
}
