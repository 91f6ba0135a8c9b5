//! The soak of `benches/soak.rs` for half a minute, and what it must notice.

#[allow(dead_code, reason = "the benchmark shows more")]
#[path = "../benches/soak/mod.rs"]
mod soak;

use std::time::Duration;

use soak::run::{Control, Outcome, Soak};
use soak::verdict::judge;
use testkit::is_installed;

/// Times that are long enough for a slow machine to notice what it must.
const LONGER_AND_LONGER: [u64; 3] = [20, 60, 180];

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
        // Nobody stays away so long, however slow the machine is.
        timeout: "10m",
        control,
    };
    Some(soak.run())
}

#[test]
fn nothing_is_lost_and_everything_stays_level() {
    let Some(outcome) = soak(40, Control::Nothing) else {
        return;
    };
    assert!(outcome.requests > 0, "{}", outcome.requests);
    assert!(!outcome.faults.is_empty());
    let reasons = judge(&outcome);
    assert!(reasons.is_empty(), "{reasons:#?}");
}

/// Whether a soak with this control has a verdict with all these words, if it is given time.
#[track_caller]
fn is_noticed(control: Control, words: &[&str]) {
    let mut reasons = String::new();
    for seconds in LONGER_AND_LONGER {
        let Some(outcome) = soak(seconds, control) else {
            return;
        };
        reasons = judge(&outcome).join("\n");
        if words.iter().all(|word| reasons.contains(word)) {
            return;
        }
    }
    panic!("{reasons}");
}

#[test]
fn a_responder_that_keeps_something_of_each_request_is_noticed() {
    is_noticed(Control::Leak, &["memory in KiB rose", "descriptors rose"]);
}

#[test]
fn a_session_that_disappears_is_noticed() {
    is_noticed(Control::Loss, &["counted 1, expected"]);
}
