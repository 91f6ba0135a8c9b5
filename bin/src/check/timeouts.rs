//! How long the sessions live unused, as their records say.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use cgi_session::Config;

use super::finding::{Finding, Findings};
use crate::report::{counted, rough};

/// So many sessions are looked into.
const MOST: u64 = 10_000;

/// What keeps a store from being listed has been found elsewhere.
pub(super) fn check(config: &Config, found: &mut Findings) {
    let (mut times, mut sessions, mut unreadable) = (BTreeMap::new(), 0, 0);
    let listed = crate::stores::manager(config.clone()).and_then(|manager| {
        manager.for_each(|_, stored| {
            sessions += 1;
            match stored {
                Ok(stored) => {
                    let idle = stored.record.idle().unwrap_or(config.timeout());
                    *times.entry(idle).or_insert(0) += 1;
                }
                Err(_) => unreadable += 1,
            }
            if sessions < MOST {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    });
    if listed.is_err() || sessions == 0 {
        return;
    }
    let shown: Vec<_> = times
        .iter()
        .map(|(idle, number)| format!("{} ({})", rough(*idle), counted(*number, "session")))
        .collect();
    if !shown.is_empty() {
        let (shown, own) = (shown.join(", "), rough(config.timeout()));
        let text = format!("sessions live unused for {shown}; timeout is {own} here");
        found.add(Finding::fine("timeouts", text));
    }
    if unreadable > 0 {
        let text = format!("{} cannot be read", counted(unreadable, "session"));
        let finding = Finding::warning("unreadable", text);
        found.add(finding.remedy("cgi-session list says why".to_owned()));
    }
}
