//! [`Tally`]: all ledgers together, and whether what is stored at the end agrees with them.

use std::collections::{BTreeMap, BTreeSet};

use cgi_session::SessionDigest;

use super::ledger::{Deed, Line, Step};
use super::violation::{Kind, Violation};

/// What the processes have done, by counter.
#[derive(Default)]
pub(super) struct Tally {
    accounts: BTreeMap<u64, Account>,
    pub(super) acknowledged: u64,
    pub(super) brief: u64,
    pub(super) regenerated: u64,
    pub(super) replaced: u64,
    pub(super) newcomers: u64,
    pub(super) destroyed: u64,
    pub(super) reads: u64,
    pub(super) swept: u64,
}

/// What was done to one counter. Every increment is known by the number that it counted to.
#[derive(Default)]
struct Account {
    has_begun: bool,
    acknowledged: Numbers,
    /// Under way when their processes were killed: they may have taken effect.
    under_way: BTreeSet<u64>,
    /// Of those, the ones that were to end in a session of a new id, which nobody knows then.
    moving: BTreeSet<u64>,
    is_being_destroyed: bool,
    destroyed_at: Option<u64>,
    name: u64,
}

/// A set of numbers that begin at one and have few gaps.
#[derive(Default)]
struct Numbers {
    words: Vec<u64>,
    count: u64,
    greatest: u64,
}

impl Tally {
    /// Takes in the ledger of a process that has ended.
    pub(super) fn add(&mut self, lines: impl Iterator<Item = Option<Line>>) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut under_way: Option<Line> = None;
        for line in lines {
            let Some(line) = line else {
                violations.push(Violation::new(Kind::Failed, "a ledger", "lines", "others"));
                break;
            };
            match line.step {
                Step::Begun => under_way = Some(line),
                Step::Done => {
                    under_way = None;
                    violations.extend(self.done(line));
                }
            }
        }
        if let Some(line) = under_way {
            self.left_undone(line);
        }
        violations
    }

    fn done(&mut self, line: Line) -> Option<Violation> {
        let Line { counter, value, .. } = line;
        match line.deed {
            Deed::Brief => self.brief += 1,
            Deed::Crowd => self.newcomers += 1,
            Deed::Read => self.reads += value,
            Deed::Sweep => self.swept += value,
            Deed::Begin => self.account(counter).has_begun = true,
            Deed::Name => self.account(counter).name = value,
            Deed::Destroy => {
                self.destroyed += 1;
                self.account(counter).destroyed_at = Some(value);
            }
            Deed::Count | Deed::Regenerate | Deed::Replace => {
                self.acknowledged += 1;
                self.regenerated += u64::from(line.deed != Deed::Count);
                self.replaced += u64::from(line.deed == Deed::Replace);
                let account = self.account(counter);
                if !account.acknowledged.insert(value) {
                    let shown = account.shown(counter);
                    let expected = format!("one increment to {value}");
                    let found = "two that were acknowledged";
                    return Some(Violation::new(Kind::Doubled, shown, expected, found));
                }
            }
        }
        None
    }

    fn left_undone(&mut self, line: Line) {
        let account = self.account(line.counter);
        match line.deed {
            Deed::Count | Deed::Regenerate | Deed::Replace => {
                account.under_way.insert(line.value);
                if line.deed != Deed::Count {
                    account.moving.insert(line.value);
                }
            }
            Deed::Destroy => account.is_being_destroyed = true,
            Deed::Begin | Deed::Name | Deed::Brief | Deed::Crowd | Deed::Read | Deed::Sweep => {}
        }
    }

    fn account(&mut self, counter: u64) -> &mut Account {
        self.accounts.entry(counter).or_default()
    }

    /// Compares everything that was done with the sessions that there are, by counter.
    pub(super) fn check(
        &self,
        stored: &BTreeMap<u64, Vec<(SessionDigest, u64)>>,
    ) -> Vec<Violation> {
        let none = Vec::new();
        let known = self.accounts.iter().filter_map(|(counter, account)| {
            account.check(*counter, stored.get(counter).unwrap_or(&none))
        });
        // What nobody noted was under way when its process was killed, and holds nothing.
        let unknown = stored.iter().filter(|(counter, found)| {
            !self.accounts.contains_key(counter) && found.iter().any(|(_, number)| *number > 0)
        });
        let unknown = unknown.map(|(counter, found)| {
            let shown = Account::default().shown(*counter);
            Violation::new(Kind::Doubled, shown, 0, numbers(found))
        });
        known.chain(unknown).collect()
    }
}

impl Account {
    fn shown(&self, counter: u64) -> String {
        if self.name == 0 {
            // Whoever began it is still at work, or was killed at once.
            return format!("the session of counter {counter:x}");
        }
        format!("session {:012x} (counter {counter:x})", self.name >> 16)
    }

    fn check(&self, counter: u64, found: &[(SessionDigest, u64)]) -> Option<Violation> {
        let shown = || self.shown(counter);
        let violation =
            |kind, expected: String, found: String| Violation::new(kind, shown(), expected, found);
        let are_forks = |but_for: Option<usize>| {
            let mut others = found.iter().enumerate();
            others
                .all(|(place, (_, number))| Some(place) == but_for || self.moving.contains(number))
        };
        if let Some(end) = self.destroyed_at {
            if self.acknowledged.greatest > end || !are_forks(None) {
                let went_on = format!(
                    "{} and sessions {}",
                    self.acknowledged.greatest,
                    numbers(found)
                );
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
        let reasons: Vec<Option<(Kind, String)>> = (0..found.len())
            .filter(|main| are_forks(Some(*main)))
            .map(|main| self.explain(found[main].1))
            .collect();
        match reasons.first() {
            Some(_) if reasons.iter().any(Option::is_none) => None,
            Some(Some((kind, expected))) => {
                Some(violation(*kind, expected.clone(), numbers(found)))
            }
            _ if found.is_empty() => (self.has_begun || self.acknowledged.count > 0).then(|| {
                let expected = format!("{} or more", self.acknowledged.greatest);
                violation(Kind::Lost, expected, "no session".to_owned())
            }),
            _ => Some(violation(
                Kind::Doubled,
                "one session".to_owned(),
                numbers(found),
            )),
        }
    }

    /// What is wrong with a counter that ends at this number.
    fn explain(&self, end: u64) -> Option<(Kind, String)> {
        let greatest = self.acknowledged.greatest;
        if greatest > end {
            return Some((Kind::Lost, format!("{greatest} or more")));
        }
        let is_accounted_for =
            |number: &u64| self.acknowledged.contains(*number) || self.under_way.contains(number);
        if (1..=end).all(|number| is_accounted_for(&number)) {
            return None;
        }
        let most = self.acknowledged.count + self.under_way.len() as u64;
        Some((
            Kind::Doubled,
            format!("{most} or less, each number acknowledged or under way"),
        ))
    }
}

impl Numbers {
    /// Adds a number; `false` when it is there already.
    fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = Numbers::place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(is_new);
        self.greatest = self.greatest.max(number);
        is_new
    }

    fn contains(&self, number: u64) -> bool {
        let (word, bit) = Numbers::place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(number: u64) -> (usize, u64) {
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
        (word, 1 << (number % 64))
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
    use Deed::{Begin, Count, Destroy, Regenerate};
    use Step::{Begun, Done};

    /// What is found wrong after these ledgers with these numbers stored.
    fn wrong(ledgers: &[&[(Step, Deed, u64)]], stored: &[u64]) -> Vec<Kind> {
        let mut tally = Tally::default();
        let mut kinds = Vec::new();
        for ledger in ledgers {
            let lines = ledger.iter().map(|(step, deed, value)| {
                Some(Line {
                    step: *step,
                    deed: *deed,
                    counter: 1,
                    value: *value,
                })
            });
            kinds.extend(tally.add(lines).iter().map(|violation| violation.kind));
        }
        let digest = SessionDigest::parse(&[b'a'; SessionDigest::LENGTH]).unwrap();
        let found: Vec<_> = stored.iter().map(|number| (digest, *number)).collect();
        let stored = BTreeMap::from([(1, found)]);
        let checked = tally.check(&stored);
        kinds.extend(checked.iter().map(|violation| violation.kind));
        kinds
    }

    const TWO: &[(Step, Deed, u64)] = &[(Done, Begin, 0), (Done, Count, 1), (Done, Count, 2)];

    #[test]
    fn a_counter_holds_what_was_acknowledged() {
        assert_eq!(wrong(&[TWO], &[2]), []);
        assert_eq!(wrong(&[TWO], &[1]), [Kind::Lost]);
        assert_eq!(wrong(&[TWO], &[3]), [Kind::Doubled]);
        assert_eq!(wrong(&[TWO], &[]), [Kind::Lost]);
        assert_eq!(wrong(&[TWO, &[(Done, Count, 2)]], &[2]), [Kind::Doubled]);
    }

    #[test]
    fn what_was_under_way_may_count_once() {
        let killed: &[_] = &[(Begun, Count, 3)];
        assert_eq!(wrong(&[TWO, killed], &[2]), []);
        assert_eq!(wrong(&[TWO, killed], &[3]), []);
        assert_eq!(wrong(&[TWO, killed], &[4]), [Kind::Doubled]);
        assert_eq!(wrong(&[TWO, killed, &[(Done, Count, 4)]], &[4]), []);
        assert_eq!(wrong(&[TWO, &[(Done, Count, 4)]], &[4]), [Kind::Doubled]);
    }

    #[test]
    fn a_destroyed_counter_ends_where_it_was_destroyed() {
        let destroyed: &[_] = &[(Done, Destroy, 2)];
        assert_eq!(wrong(&[TWO, destroyed], &[]), []);
        assert_eq!(wrong(&[TWO, destroyed], &[2]), [Kind::Resurrected]);
        assert_eq!(
            wrong(&[TWO, destroyed, &[(Done, Count, 3)]], &[]),
            [Kind::Resurrected]
        );
        assert_eq!(
            wrong(&[TWO, &[(Done, Destroy, 1)]], &[]),
            [Kind::Resurrected]
        );
        let killed: &[_] = &[(Begun, Destroy, 2)];
        assert_eq!(wrong(&[TWO, killed], &[]), []);
        assert_eq!(wrong(&[TWO, killed], &[2]), []);
        assert_eq!(wrong(&[TWO, killed], &[1]), [Kind::Lost]);
    }

    #[test]
    fn a_change_of_id_that_was_under_way_may_leave_a_session_that_nobody_knows() {
        let killed: &[_] = &[(Begun, Regenerate, 3)];
        for stored in [&[2][..], &[3], &[2, 3]] {
            assert_eq!(wrong(&[TWO, killed], stored), []);
        }
        let went_on: &[_] = &[(Done, Count, 3), (Done, Count, 4)];
        assert_eq!(wrong(&[TWO, killed, went_on], &[3, 4]), []);
        assert_eq!(wrong(&[TWO, killed, went_on], &[2, 4]), [Kind::Doubled]);
        assert_eq!(wrong(&[TWO, went_on], &[4, 4]), [Kind::Doubled]);
    }
}
