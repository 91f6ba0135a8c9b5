//! [`Troubles`]: when something was broken on purpose, and what went wrong besides.

use testkit::prelude::*;

/// After a fault the servers need a moment to be themselves again.
const AFTERMATH: Duration = Duration::from_secs(5);
/// More of them say nothing new.
const MOST_TOLD: usize = 20;

#[derive(Default)]
pub(crate) struct Troubles {
    faults: Mutex<Vec<Fault>>,
    found: Mutex<Found>,
}

struct Fault {
    name: &'static str,
    ended: Option<Instant>,
}

#[derive(Default)]
struct Found {
    number: usize,
    told: Vec<String>,
}

impl Troubles {
    /// Does something that requests may fail of meanwhile and shortly after.
    pub(crate) fn during<T>(&self, name: &'static str, fault: impl FnOnce() -> T) -> T {
        let at = {
            let mut faults = self.faults.lock().unwrap();
            faults.push(Fault { name, ended: None });
            faults.len() - 1
        };
        let result = fault();
        self.faults.lock().unwrap()[at].ended = Some(Instant::now());
        result
    }

    /// Whether a request of this time may have failed because of a fault.
    pub(crate) fn excuse(&self, began: Instant) -> bool {
        let faults = self.faults.lock().unwrap();
        let is_over = |fault: &Fault| fault.ended.is_some_and(|ended| ended + AFTERMATH < began);
        !faults.iter().rev().take(10).all(is_over)
    }

    /// How often each fault was made.
    pub(crate) fn made(&self) -> Vec<(&'static str, usize)> {
        let mut made: Vec<(&'static str, usize)> = Vec::new();
        for fault in self.faults.lock().unwrap().iter() {
            match made.iter_mut().find(|(name, _)| *name == fault.name) {
                Some((_, number)) => *number += 1,
                None => made.push((fault.name, 1)),
            }
        }
        made
    }

    /// Something is wrong that no fault excuses.
    pub(crate) fn report(&self, what: String) {
        let mut found = self.found.lock().unwrap();
        found.number += 1;
        if found.told.len() < MOST_TOLD {
            eprintln!("soak: {what}");
            found.told.push(what);
        }
    }

    /// How much was reported, and the first of it.
    pub(crate) fn found(&self) -> (usize, Vec<String>) {
        let found = self.found.lock().unwrap();
        (found.number, found.told.clone())
    }
}
