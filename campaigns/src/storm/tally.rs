//! [`Tally`]: all ledgers together, and whether what is stored at the end agrees with them.

use testkit::prelude::*;

use super::ledger::{Line, Operation, Step};
use super::violation::Kind;

/// What the processes have done, by counter.
#[derive(Default)]
pub(super) struct Tally {
    accounts: BTreeMap<u64, Account>,
    done: BTreeMap<Operation, u64>,
}

/// What was done to one counter. Every increment is known by the number that it counted to.
#[derive(Default)]
struct Account {
    has_begun: bool,
    acknowledged: BTreeSet<u64>,
    /// Under way when their processes were killed: they may have taken effect.
    under_way: BTreeSet<u64>,
    /// Of those, the ones that were to end in a session of a new id, which no process knows then.
    moving: BTreeSet<u64>,
    is_being_destroyed: bool,
    destroyed_at: Option<u64>,
    name: u64,
}

impl Tally {
    /// Takes in the ledger of a process that has ended.
    pub(super) fn add(&mut self, lines: impl Iterator<Item = Option<Line>>) -> Vec<String> {
        let mut violations = Vec::new();
        let mut under_way: Option<Line> = None;
        for line in lines {
            let Some(line) = line else {
                violations.push(Kind::Failed.violation("a ledger", "lines", "others"));
                break;
            };
            match line.step {
                Step::Begun => {
                    if let Some(failed) = under_way.replace(line) {
                        self.left_undone(failed);
                    }
                }
                Step::Done => {
                    under_way = under_way.filter(|begun| begun.counter != line.counter);
                    violations.extend(self.note(line));
                }
            }
        }
        if let Some(line) = under_way {
            self.left_undone(line);
        }
        violations
    }

    fn note(&mut self, line: Line) -> Option<String> {
        let Line { counter, value, .. } = line;
        let amount = match line.operation {
            Operation::Read | Operation::Sweep => value,
            _ => 1,
        };
        *self.done.entry(line.operation).or_default() += amount;
        match line.operation {
            Operation::Begin => self.account(counter).has_begun = true,
            Operation::Name => self.account(counter).name = value,
            Operation::Destroy => self.account(counter).destroyed_at = Some(value),
            Operation::Count | Operation::Regenerate | Operation::Replace => {
                let account = self.account(counter);
                if !account.acknowledged.insert(value) {
                    let shown = account.shown(counter);
                    let expected = format!("one increment to {value}");
                    let found = "two that were acknowledged";
                    return Some(Kind::Doubled.violation(shown, expected, found));
                }
            }
            _ => {}
        }
        None
    }

    /// How often this was done and acknowledged.
    pub(super) fn done_of(&self, operation: Operation) -> u64 {
        self.done.get(&operation).copied().unwrap_or_default()
    }

    fn left_undone(&mut self, line: Line) {
        let account = self.account(line.counter);
        match line.operation {
            Operation::Count | Operation::Regenerate | Operation::Replace => {
                account.under_way.insert(line.value);
                if line.operation != Operation::Count {
                    account.moving.insert(line.value);
                }
            }
            Operation::Destroy => account.is_being_destroyed = true,
            _ => {}
        }
    }

    fn account(&mut self, counter: u64) -> &mut Account {
        self.accounts.entry(counter).or_default()
    }

    /// Compares everything that was done with the sessions that there are, by counter.
    pub(super) fn check(&self, stored: &BTreeMap<u64, Vec<(SessionDigest, u64)>>) -> Vec<String> {
        let none = Vec::new();
        let known = self.accounts.iter().filter_map(|(counter, account)| {
            account.check(*counter, stored.get(counter).unwrap_or(&none))
        });
        // What no ledger has was under way when its process was killed, and holds nothing.
        let unknown = stored.iter().filter(|(counter, found)| {
            !self.accounts.contains_key(counter) && found.iter().any(|(_, number)| *number > 0)
        });
        let unknown = unknown.map(|(counter, found)| {
            let shown = Account::default().shown(*counter);
            Kind::Doubled.violation(shown, 0, numbers(found))
        });
        known.chain(unknown).collect()
    }
}

impl Account {
    fn shown(&self, counter: u64) -> String {
        if self.name == 0 {
            // The process that created it is still at work, or was killed at once.
            return format!("the session of counter {counter:x}");
        }
        format!("session {:012x} (counter {counter:x})", self.name >> 16)
    }

    fn greatest(&self) -> u64 {
        self.acknowledged.last().copied().unwrap_or_default()
    }

    fn check(&self, counter: u64, found: &[(SessionDigest, u64)]) -> Option<String> {
        let shown = || self.shown(counter);
        let violation =
            |kind: Kind, expected: String, found: String| kind.violation(shown(), expected, found);
        let greatest = self.greatest();
        let are_forks = |but_for: Option<usize>| {
            let mut others = found.iter().enumerate();
            others
                .all(|(place, (_, number))| Some(place) == but_for || self.moving.contains(number))
        };
        if let Some(end) = self.destroyed_at {
            if greatest > end || !are_forks(None) {
                let went_on = format!("{greatest} and sessions {}", numbers(found));
                let expected = format!("nothing after it was destroyed at {end}");
                return Some(violation(Kind::Resurrected, expected, went_on));
            }
            return self.explain(end).map(|(kind, expected)| {
                violation(kind, expected, format!("{end} when it was destroyed"))
            });
        }
        if self.is_being_destroyed && are_forks(None) {
            return None;
        }
        let reasons = (0..found.len()).filter(|main| are_forks(Some(*main)));
        let reasons: Vec<Option<(Kind, String)>> =
            reasons.map(|main| self.explain(found[main].1)).collect();
        match reasons.first() {
            Some(_) if reasons.iter().any(Option::is_none) => None,
            Some(Some((kind, expected))) => {
                Some(violation(*kind, expected.clone(), numbers(found)))
            }
            _ if found.is_empty() => (self.has_begun || greatest > 0).then(|| {
                let expected = format!("{greatest} or more");
                violation(Kind::Lost, expected, "no session".to_owned())
            }),
            _ => {
                let expected = "one session".to_owned();
                Some(violation(Kind::Doubled, expected, numbers(found)))
            }
        }
    }

    /// What is wrong with a counter that ends at this number.
    fn explain(&self, end: u64) -> Option<(Kind, String)> {
        let greatest = self.greatest();
        if greatest > end {
            return Some((Kind::Lost, format!("{greatest} or more")));
        }
        let is_accounted_for =
            |number: &u64| self.acknowledged.contains(number) || self.under_way.contains(number);
        if (1..=end).all(|number| is_accounted_for(&number)) {
            return None;
        }
        let most = self.acknowledged.len() + self.under_way.len();
        let expected = format!("{most} or less, each number acknowledged or under way");
        Some((Kind::Doubled, expected))
    }
}

fn numbers(found: &[(SessionDigest, u64)]) -> String {
    let each = found.iter().map(|(digest, number)| {
        let short = digest.as_str().get(..12).unwrap_or_default();
        format!("{number} in {short}")
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return "none".to_owned();
    }
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Begin, Count, Destroy, Regenerate};
    use Step::{Begun, Done};

    type Ledger<'a> = &'a [(Step, Operation, u64)];

    /// Compares what is found wrong after these ledgers with these numbers stored.
    #[track_caller]
    fn finds(ledgers: &[Ledger<'_>], stored: &[u64], expected: &str) {
        let mut tally = Tally::default();
        let mut kinds = Vec::new();
        for ledger in ledgers {
            let lines = ledger.iter().map(|(step, operation, value)| {
                Some(Line {
                    step: *step,
                    operation: *operation,
                    counter: 1,
                    value: *value,
                })
            });
            kinds.extend(tally.add(lines));
        }
        let digest = SessionDigest::parse(&[b'a'; SessionDigest::LENGTH]).unwrap();
        let found: Vec<_> = stored.iter().map(|number| (digest, *number)).collect();
        let stored = BTreeMap::from([(1, found)]);
        kinds.extend(tally.check(&stored));
        let kind = |line: &String| line.split(':').next().map(str::to_owned);
        let kinds: Vec<_> = kinds.iter().filter_map(kind).collect();
        assert_eq!(kinds.join(" "), expected, "{stored:?}");
    }

    const TWO: Ledger<'_> = &[(Done, Begin, 0), (Done, Count, 1), (Done, Count, 2)];

    #[test]
    fn a_counter_holds_what_was_acknowledged_and_at_most_what_was_under_way() {
        finds(&[TWO], &[2], "");
        finds(&[TWO], &[1], "lost");
        finds(&[TWO], &[3], "doubled");
        finds(&[TWO], &[], "lost");
        finds(&[TWO, &[(Done, Count, 2)]], &[2], "doubled");
        let killed: &[_] = &[(Begun, Count, 3)];
        finds(&[TWO, killed], &[2], "");
        finds(&[TWO, killed], &[3], "");
        finds(&[TWO, killed], &[4], "doubled");
        finds(&[TWO, killed, &[(Done, Count, 4)]], &[4], "");
        finds(&[TWO, &[(Done, Count, 4)]], &[4], "doubled");
        // What failed may count once, and its process goes on.
        let failed: &[_] = &[(Begun, Count, 3), (Begun, Count, 3), (Done, Count, 3)];
        finds(&[TWO, failed], &[3], "");
        let failed: &[_] = &[(Begun, Count, 3), (Begun, Count, 4), (Done, Count, 4)];
        finds(&[TWO, failed], &[4], "");
        finds(&[TWO, failed], &[3], "lost");
    }

    #[test]
    fn a_destroyed_counter_ends_where_it_was_destroyed() {
        let destroyed: &[_] = &[(Done, Destroy, 2)];
        finds(&[TWO, destroyed], &[], "");
        finds(&[TWO, destroyed], &[2], "resurrected");
        finds(&[TWO, destroyed, &[(Done, Count, 3)]], &[], "resurrected");
        finds(&[TWO, &[(Done, Destroy, 1)]], &[], "resurrected");
        let killed: &[_] = &[(Begun, Destroy, 2)];
        finds(&[TWO, killed], &[], "");
        finds(&[TWO, killed], &[2], "");
        finds(&[TWO, killed], &[1], "lost");
    }

    #[test]
    fn a_change_of_id_that_was_under_way_may_leave_a_session_that_no_process_knows() {
        let killed: &[_] = &[(Begun, Regenerate, 3)];
        for stored in [&[2][..], &[3], &[2, 3]] {
            finds(&[TWO, killed], stored, "");
        }
        let went_on: &[_] = &[(Done, Count, 3), (Done, Count, 4)];
        finds(&[TWO, killed, went_on], &[3, 4], "");
        finds(&[TWO, killed, went_on], &[2, 4], "doubled");
        finds(&[TWO, went_on], &[4, 4], "doubled");
    }
}
