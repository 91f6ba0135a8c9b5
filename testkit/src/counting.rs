//! Numbers that many clients got at once, and what must be true of them.

use crate::client::Client;
use crate::prelude::*;

/// An answered request: when it began and ended, and the number it got in its session.
pub struct Count {
    session: usize,
    began: Instant,
    ended: Instant,
    number: u64,
}

/// What became of the requests of some clients.
#[derive(Default)]
pub struct Tally {
    counts: Vec<Count>,
    /// Requests without a number by session: nobody knows whether they were counted.
    unanswered: BTreeMap<usize, u64>,
}

impl Tally {
    /// Sends one request that counts, by POST: no server sends that a second time by itself. Returns
    /// the number it got, if it was answered.
    pub fn count(&mut self, session: usize, client: &mut Client, path: &str) -> Option<u64> {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: 0\r\n");
        let began = Instant::now();
        let answer = client.try_request(head.as_bytes(), b"");
        let number = answer.ok().and_then(|answer| answer.count());
        match number {
            Some(number) => self.counts.push(Count {
                session,
                began,
                ended: Instant::now(),
                number,
            }),
            None => *self.unanswered.entry(session).or_default() += 1,
        }
        number
    }

    pub fn add(&mut self, other: Tally) {
        self.counts.extend(other.counts);
        for (session, number) in other.unanswered {
            *self.unanswered.entry(session).or_default() += number;
        }
    }

    pub fn answered(&self) -> usize {
        self.counts.len()
    }

    pub fn unanswered(&self) -> u64 {
        self.unanswered.values().sum()
    }

    /// Every answered request of a session got a number of its own, and one that began after
    /// another had ended got the greater one. `last` tells the number that a session has reached:
    /// that of the answered requests, and of at most so many more as had no answer.
    #[track_caller]
    pub fn expect_each_counted_once(self, last: impl Fn(usize) -> u64) {
        let mut sessions = BTreeMap::<usize, Vec<Count>>::new();
        for count in self.counts {
            sessions.entry(count.session).or_default().push(count);
        }
        for (session, mut counts) in sessions {
            expect_order(&mut counts);
            let mut numbers: Vec<_> = counts.iter().map(|count| count.number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), counts.len(), "a number was given twice");
            let answered = u64::try_from(counts.len()).unwrap();
            let unanswered = self.unanswered.get(&session).copied().unwrap_or_default();
            let last = last(session);
            assert!(
                (answered..=answered + unanswered).contains(&last),
                "{answered} answered, {unanswered} unanswered, {last} counted"
            );
        }
    }
}

#[track_caller]
fn expect_order(counts: &mut [Count]) {
    let ended = counts.iter().map(|count| (count.ended, count.number));
    let mut ended: Vec<_> = ended.collect();
    ended.sort_unstable();
    counts.sort_unstable_by_key(|count| count.began);
    let mut ended = ended.into_iter().peekable();
    let mut greatest = 0;
    for count in counts {
        while let Some((_, number)) = ended.next_if(|(end, _)| *end < count.began) {
            greatest = greatest.max(number);
        }
        assert!(count.number > greatest, "{} after {greatest}", count.number);
    }
}
