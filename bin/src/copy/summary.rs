//! What a copy reports when it is over: a line for people, or an object for programs.

use std::time::Duration;

use serde_json::json;

use super::Arguments;
use super::pass::Outcome;
use super::stores::Stores;
use crate::report::counted;

pub(super) struct Summary<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) stores: &'a Stores,
    pub(super) outcome: &'a Outcome,
    pub(super) elapsed: Duration,
}

impl Summary<'_> {
    /// `A -> B: 12 sessions copied, 3 updated, 40 as before; left out: 2 busy; 0.31 s`
    pub(super) fn text(&self) -> String {
        let outcome = self.outcome;
        let mut done = vec![format!("{} copied", counted(outcome.copied, "session"))];
        done.extend(numbers(&[
            (outcome.updated, "updated"),
            (outcome.renewed, "used since"),
            (outcome.unchanged, "as before"),
            (outcome.newer, "newer there"),
            (outcome.expired, "too old for it"),
            (outcome.moved, "ended here"),
            (outcome.gone_deleted, "deleted there"),
        ]));
        let left = numbers(&[
            (outcome.problems_of("busy"), "busy"),
            (outcome.problems_of("unreadable"), "unreadable"),
            (outcome.problems_of("conflict"), "in conflict"),
            (outcome.problems_of("failed"), "failed"),
        ]);
        let mut parts = vec![done.join(", ")];
        if !left.is_empty() {
            parts.push(format!("left out: {}", left.join(", ")));
        }
        if self.arguments.dry_run {
            parts.push("nothing was done, this was a dry run".to_owned());
        }
        parts.push(format!("{:.2} s", self.elapsed.as_secs_f64()));
        let line = format!("{}: {}\n", self.stores, parts.join("; "));
        match outcome.gone - outcome.gone_deleted {
            0 => line,
            still => format!(
                "{line}copied before and now in {} alone: {}; only if no program uses it yet, --delete-gone deletes them\n",
                self.stores.new,
                counted(still, "session")
            ),
        }
    }

    pub(super) fn json(&self) -> String {
        let outcome = self.outcome;
        let problems = outcome.problems.iter();
        let problems: Vec<_> = problems
            .map(
                |it| json!({ "digest": it.session.as_str(), "reason": it.reason, "text": it.text }),
            )
            .collect();
        let object = json!({
            "from": self.stores.old.to_string(),
            "to": self.stores.new.to_string(),
            "dryRun": self.arguments.dry_run,
            "move": self.arguments.is_move,
            "examined": outcome.examined,
            "copied": outcome.copied,
            "updated": outcome.updated,
            "renewed": outcome.renewed,
            "unchanged": outcome.unchanged,
            "newerThere": outcome.newer,
            "expired": outcome.expired,
            "moved": outcome.moved,
            "gone": outcome.gone,
            "goneDeleted": outcome.gone_deleted,
            "busy": outcome.problems_of("busy"),
            "unreadable": outcome.problems_of("unreadable"),
            "conflicts": outcome.problems_of("conflict"),
            "failed": outcome.problems_of("failed"),
            "isComplete": outcome.stopped.is_none() && outcome.signal == 0,
            "problems": problems,
            "seconds": self.elapsed.as_secs_f64(),
        });
        format!("{object}\n")
    }
}

fn numbers(counts: &[(u64, &str)]) -> Vec<String> {
    let shown = counts.iter().filter(|(number, _)| *number > 0);
    shown
        .map(|(number, what)| format!("{number} {what}"))
        .collect()
}
