//! [`Campaign`]: a name and its cases; how they share the time, and what is said of them at the end.

use std::any::Any;
use std::fmt::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};

use testkit::prelude::*;

/// By then a control has been noticed, however slow the machine is.
const CONTROL_LIMIT: Duration = Duration::from_secs(120);
/// How much longer than its time a case may take until everything in it has been tried.
const EXTENSION: Duration = Duration::from_secs(120);
/// Less shows nothing of one case of many.
const LEAST_SHARE: Duration = Duration::from_secs(1);
/// More violations of one case say nothing new.
const MAX_VIOLATIONS: usize = 10;

pub(crate) struct Campaign {
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) about: &'static str,
    /// How long it runs unless told otherwise.
    pub(crate) seconds: u64,
    /// There are many cases, of which a short run takes some that the seed draws.
    pub(crate) is_sampled: bool,
    pub(crate) cases: fn() -> Vec<Case>,
}

/// One thing that a campaign tries.
pub(crate) struct Case {
    store: String,
    name: String,
    /// Of a control: a violation must be found that has one of these texts in it.
    must_find: &'static [&'static str],
    attempt: Box<dyn Fn(&mut Trial)>,
}

/// How a campaign is run.
pub(crate) struct Run {
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
    pub(crate) store: Option<String>,
}

/// One attempt at a case, and what it has shown so far.
pub(crate) struct Trial {
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
    deadline: Instant,
    must_find: &'static [&'static str],
    counts: Counts,
    violations: Vec<String>,
    skipped: Option<String>,
}

impl Case {
    /// A case in which nothing may be wrong.
    pub(crate) fn new(store: &str, name: &str, attempt: impl Fn(&mut Trial) + 'static) -> Self {
        Case {
            store: store.to_owned(),
            name: name.to_owned(),
            must_find: &[],
            attempt: Box::new(attempt),
        }
    }

    /// A negative control: a violation with one of these texts in it must be found.
    pub(crate) fn finding(mut self, texts: &'static [&'static str]) -> Self {
        self.must_find = texts;
        self
    }

    fn is_control(&self) -> bool {
        !self.must_find.is_empty()
    }

    fn label(&self) -> String {
        format!("{} {}", self.store, self.name)
            .trim_end()
            .to_owned()
    }

    fn attempt(&self, run: &Run, seed: u64, deadline: Instant) -> Trial {
        let mut trial = Trial {
            seed,
            rounds: run.rounds,
            deadline,
            must_find: self.must_find,
            counts: Counts::default(),
            violations: Vec::new(),
            skipped: None,
        };
        let attempted = panic::catch_unwind(AssertUnwindSafe(|| (self.attempt)(&mut trial)));
        if let Err(payload) = attempted {
            trial.violation(format!("panic: {}", words_of(&*payload)));
        }
        trial
    }

    /// Tries until it is noticed.
    fn control(&self, run: &Run) -> Trial {
        let limit = Instant::now() + CONTROL_LIMIT;
        let mut seed = run.seed;
        loop {
            let mut trial = self.attempt(run, seed, limit);
            if trial.skipped.is_some() || trial.has_found() {
                trial.violations.clear();
                return trial;
            }
            if Instant::now() >= limit {
                let wanted = self.must_find.join("\" or \"");
                let found = std::mem::take(&mut trial.violations);
                trial.violation(format!(
                    "not noticed: expected \"{wanted}\", found {found:#?}"
                ));
                return trial;
            }
            seed = seed.wrapping_add(1);
        }
    }
}

impl Trial {
    /// How much time is left.
    pub(crate) fn time(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether there is time left, and a reason to go on.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on_until(true)
    }

    /// The same, and beyond the time while not everything has been tried.
    pub(crate) fn goes_on_until(&self, has_tried_all: bool) -> bool {
        let now = Instant::now();
        let has_time = now < self.deadline || (!has_tried_all && now < self.deadline + EXTENSION);
        let is_enough = if self.must_find.is_empty() {
            self.violations.len() >= MAX_VIOLATIONS
        } else {
            self.has_found()
        };
        has_time && !is_enough
    }

    pub(crate) fn count(&mut self, what: &'static str, number: u64) {
        self.counts.add(what, number);
    }

    /// What was counted elsewhere.
    pub(crate) fn set(&mut self, what: &'static str, number: u64) {
        let so_far = self.counted(what);
        self.counts.add(what, number.saturating_sub(so_far));
    }

    pub(crate) fn counted(&self, what: &str) -> u64 {
        let found = self.counts.0.iter().find(|(known, _)| *known == what);
        found.map_or(0, |(_, number)| *number)
    }

    pub(crate) fn is_control(&self) -> bool {
        !self.must_find.is_empty()
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    pub(crate) fn violations(&mut self, texts: impl IntoIterator<Item = String>) {
        self.violations.extend(texts);
    }

    /// What cannot be tried here.
    pub(crate) fn skip(&mut self, reason: &str) {
        self.skipped = Some(reason.to_owned());
    }

    fn has_found(&self) -> bool {
        let is_it = |text: &String| self.must_find.iter().any(|words| text.contains(words));
        self.violations.iter().any(is_it)
    }
}

/// How often what was done, in the order of its first time.
#[derive(Default)]
struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    fn add(&mut self, what: &'static str, number: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, sum)) => *sum += number,
            None => self.0.push((what, number)),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(what, number): &(_, _)| format!("{number} {what}");
        let counts: Vec<String> = self.0.iter().map(shown).collect();
        f.write_str(&counts.join(", "))
    }
}

/// What all trials of a campaign have shown.
#[derive(Default)]
struct Summary {
    counts: Counts,
    wrong: usize,
    noticed: usize,
    left_out: usize,
}

impl Summary {
    /// Prints what a trial has shown, and adds it.
    fn add(&mut self, campaign: &Campaign, case: &Case, trial: &Trial) {
        let what = format!("{}, {}", campaign.name, case.label());
        if let Some(reason) = &trial.skipped {
            println!("{what}: left out: {reason}");
            self.left_out += 1;
        } else if case.is_control() && trial.violations.is_empty() {
            self.noticed += 1;
        } else {
            println!("{what}: {}", trial.counts);
        }
        for text in &trial.violations {
            println!("{what}: VIOLATION (seed {}): {text}", trial.seed);
        }
        self.wrong += trial.violations.len();
        for (what, number) in trial.counts.0.iter().filter(|_| !case.is_control()) {
            self.counts.add(what, *number);
        }
    }
}

impl Campaign {
    /// Runs the controls and the cases, and prints what they have shown. Whether nothing is wrong.
    pub(crate) fn run(&self, run: &Run) -> bool {
        let started = Instant::now();
        let mut cases = (self.cases)();
        if let Some(store) = &run.store {
            cases.retain(|case| case.store == *store);
        }
        let (controls, mut cases): (Vec<Case>, Vec<Case>) =
            cases.into_iter().partition(Case::is_control);
        if self.is_sampled {
            fastrand::Rng::with_seed(run.seed).shuffle(&mut cases);
        }
        if controls.len() + cases.len() == 0 {
            println!("{}: no such store: see --list", self.name);
            return false;
        }
        let mut summary = Summary::default();
        for case in &controls {
            summary.add(self, case, &case.control(run));
        }
        let deadline = Instant::now() + run.time;
        let mut tried = 0;
        for case in &cases {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if self.is_sampled && left.is_zero() {
                break;
            }
            let others = u32::try_from(cases.len() - tried).unwrap_or(u32::MAX);
            let least = LEAST_SHARE * u32::from(self.is_sampled);
            let share = least.max(left / others);
            summary.add(self, case, &case.attempt(run, run.seed, now + share));
            tried += 1;
        }
        let Summary {
            counts,
            wrong,
            noticed,
            left_out,
        } = summary;
        let store = run.store.as_ref();
        let store = store.map_or(String::new(), |store| format!(" --store {store}"));
        let verdict = match wrong {
            0 => "no violation".to_owned(),
            _ => format!(
                "{wrong} VIOLATIONS; to repeat: campaigns {}{store} --seed {} --seconds {}",
                self.name,
                run.seed,
                run.time.as_secs()
            ),
        };
        println!(
            "{}: {counts}; {tried} of {} cases, {noticed} of {} controls noticed, {left_out} left out; \
             seed {}, {} s: {verdict}",
            self.name,
            cases.len(),
            controls.len(),
            run.seed,
            started.elapsed().as_secs()
        );
        wrong == 0
    }

    /// The cases and controls, one a line.
    pub(crate) fn listing(&self) -> String {
        let mut text = String::new();
        for case in (self.cases)() {
            let kind = if case.is_control() { "control" } else { "case" };
            let _ = writeln!(text, "{kind:<8} {}", case.label());
        }
        text
    }
}

fn words_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or_default().to_owned()
}
