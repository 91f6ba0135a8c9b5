//! Mixed traffic over nginx and Apache, CGI and FastCGI on the same sessions, while programs are killed and
//! stopped, the disk fills, servers restart and clean-ups run. Nothing that was acknowledged may be lost, nothing
//! may fail without a fault to excuse it, and files, memory and descriptors must stay level.
//!
//! As root it also fills and remounts the sessions' file system. The samples are written to
//! `soak.csv` beside the program.

mod faults;
mod gauge;
mod run;
mod traffic;
mod troubles;
mod verdict;
mod visitor;

use testkit::prelude::*;

use crate::campaign::{Campaign, Case, Trial};
use run::{Control, Soak};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "soak",
    about: "traffic over nginx and Apache while things break; memory, files and descriptors stay level",
    seconds: 3600,
    is_sampled: false,
    cases,
};

/// Less shows nothing of what rises.
const LEAST: Duration = Duration::from_secs(20);
/// In less what warms up looks as if it rose.
const LEAST_LEVEL: Duration = Duration::from_secs(40);
/// As long as this it is a soak of many clients, and sessions expire in it.
const LONG: Duration = Duration::from_secs(300);

fn cases() -> Vec<Case> {
    let case = |name, control| Case::new("file", name, move |trial| attempt(control, trial));
    vec![
        case("that leaks", Control::Leak).finding(&["memory and descriptors rose"]),
        case("that loses a session", Control::Loss).finding(&["counted 1, expected"]),
        case("", Control::Nothing),
    ]
}

fn attempt(control: Control, trial: &mut Trial) {
    if !is_installed("nginx") || !is_installed("apache2") {
        return trial.skip("nginx or Apache is not installed");
    }
    let duration = match control {
        Control::Nothing => trial.time().max(LEAST_LEVEL),
        Control::Leak | Control::Loss => LEAST,
    };
    let is_long = duration >= LONG;
    let of = |long: u64, short: u64| if is_long { long } else { short };
    let soak = Soak {
        duration,
        threads: of(12, 4),
        pause: Duration::from_millis(of(100, 60)),
        fault_every: Duration::from_secs(of(8, 3)),
        sample_every: (duration / 40).clamp(Duration::from_secs(1), Duration::from_secs(10)),
        // In a short one no client stays away so long, however slow the machine is.
        timeout: if is_long { "2" } else { "10m" },
        control,
        seed: trial.seed,
    };
    let outcome = soak.run();
    trial.count("requests", outcome.requests);
    for (name, number) in &outcome.faults {
        trial.count(name, *number as u64);
    }
    let mut reasons = verdict::judge(&outcome, is_long);
    match control {
        Control::Nothing => {
            let file = testkit::profile_directory().join("soak.csv");
            fs::write(file, gauge::table(&outcome.samples)).unwrap();
            if outcome.requests == 0 || outcome.faults.is_empty() {
                reasons.push("too little was tried".to_owned());
            }
        }
        Control::Leak => {
            let all = reasons.join("\n");
            if all.contains("memory in KiB rose") && all.contains("descriptors rose") {
                reasons.push("memory and descriptors rose".to_owned());
            }
        }
        Control::Loss => {}
    }
    for reason in reasons {
        trial.violation(reason);
    }
}
