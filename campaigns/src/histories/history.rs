//! A history: who asked for what when, and what the answers were; and whether some order of the
//! operations, each at one instant between its question and its answer, explains it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester};

use super::specification::{Answer, Name, Operation, Sessions};

/// A moment, in nanoseconds of the clock that all processes share.
pub(crate) type Moment = u64;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    Asked(Moment, Operation),
    Answered(Moment, Answer),
    /// The process has done all that it was told.
    End,
}

/// The events of each process, in its order. A question without an answer is that of a process that was killed:
/// it may have been done or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    events: BTreeMap<usize, Vec<Event>>,
    has_deaths: bool,
}

impl History {
    pub(crate) fn add(&mut self, process: usize, event: Event) {
        self.events.entry(process).or_default().push(event);
    }

    pub(crate) fn note_death(&mut self) {
        self.has_deaths = true;
    }

    pub(crate) fn operations(&self) -> u64 {
        let all = self.events.values().flatten();
        all.filter(|event| matches!(event, Event::Asked(..)))
            .count() as u64
    }

    /// How many answers were like this.
    pub(crate) fn answers(&self, is_like: impl Fn(&Answer) -> bool) -> u64 {
        let all = self.events.values().flatten();
        all.filter(|event| matches!(event, Event::Answered(_, answer) if is_like(answer)))
            .count() as u64
    }

    /// Whether an error speaks for itself.
    pub(crate) fn has_failures(&self) -> bool {
        self.answers(|answer| matches!(answer, Answer::Failed(_))) > 0
    }

    /// Whether two operations of different processes were under way at one time.
    pub(crate) fn has_overlap(&self) -> bool {
        let mut under_way = 0;
        for (_, event) in self.in_order() {
            match event {
                Event::Asked(..) if under_way > 0 => return true,
                Event::Asked(..) => under_way += 1,
                Event::Answered(..) => under_way -= 1,
                Event::End => {}
            }
        }
        false
    }

    pub(crate) fn is_linearizable(&self) -> bool {
        let mut tester = LinearizabilityTester::new(Sessions::none(self.has_deaths));
        let refused = self.refused();
        for (process, event) in self.in_order() {
            let noted = match event {
                Event::Asked(moment, _) | Event::Answered(moment, _)
                    if refused.contains(&(process, *moment)) =>
                {
                    Ok(())
                }
                Event::Asked(_, operation) => tester.on_invoke(process, *operation).map(drop),
                Event::Answered(_, answer) => tester.on_return(process, answer.clone()).map(drop),
                Event::End => Ok(()),
            };
            noted.expect("a process asks one thing after the other");
        }
        tester.is_consistent()
    }

    /// The questions and answers of those who began a session while another process did, and were told to come
    /// again: they have done nothing, although nobody may see the other's session yet.
    fn refused(&self) -> HashSet<(usize, Moment)> {
        let all = self.beginnings();
        let is_refused = |one: &Beginning| {
            one.is_refused
                && all.iter().any(|other| {
                    other.process != one.process
                        && other.name == one.name
                        && other.asked <= one.answered
                        && one.asked <= other.answered
                })
        };
        let refused = all.iter().filter(|one| is_refused(one));
        refused
            .flat_map(|one| [(one.process, one.asked), (one.process, one.answered)])
            .collect()
    }

    fn beginnings(&self) -> Vec<Beginning> {
        let mut all = Vec::new();
        for (&process, events) in &self.events {
            for (at, event) in events.iter().enumerate() {
                let Event::Asked(asked, Operation::Create(name, _) | Operation::Start(name, _)) =
                    event
                else {
                    continue;
                };
                let (answered, is_refused) = match events.get(at + 1) {
                    Some(Event::Answered(moment, answer)) => {
                        let refusals = [Answer::Busy, Answer::Created(false)];
                        (*moment, refusals.contains(answer))
                    }
                    _ => (Moment::MAX, false),
                };
                all.push(Beginning {
                    process,
                    name: *name,
                    asked: *asked,
                    answered,
                    is_refused,
                });
            }
        }
        all
    }

    /// All events by their time. Of events at one moment, questions come first: they may overlap.
    fn in_order(&self) -> Vec<(usize, &Event)> {
        let all = self.events.iter();
        let mut all: Vec<_> = all
            .flat_map(|(process, events)| events.iter().map(|event| (*process, event)))
            .collect();
        all.sort_by_key(|(_, event)| match event {
            Event::Asked(moment, _) => (*moment, 0),
            Event::Answered(moment, _) => (*moment, 1),
            Event::End => (Moment::MAX, 2),
        });
        all
    }
}

/// An operation that may begin a session.
struct Beginning {
    process: usize,
    name: Name,
    asked: Moment,
    answered: Moment,
    is_refused: bool,
}

/// One line for each operation, with the microseconds of its question and its answer.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.in_order();
        let start = events.first().map_or(0, |(_, event)| match event {
            Event::Asked(moment, _) => *moment,
            Event::Answered(..) | Event::End => 0,
        });
        let since =
            |moment: &Moment| format!("{}.{:03}", (moment - start) / 1000, (moment - start) % 1000);
        for (at, (process, event)) in events.iter().enumerate() {
            let Event::Asked(asked, operation) = event else {
                continue;
            };
            let answer = events[at..].iter().find_map(|(other, event)| match event {
                Event::Answered(moment, answer) if other == process => Some((moment, answer)),
                _ => None,
            });
            let asked = since(asked);
            let (answered, answer) = answer.map_or_else(
                || ("killed".to_owned(), "?".to_owned()),
                |(moment, answer)| (since(moment), answer.to_string()),
            );
            let operation = operation.to_string();
            writeln!(
                f,
                "{asked:>12} {answered:>12}  process {process}  {operation:<32} {answer}"
            )?;
        }
        Ok(())
    }
}
