//! [`Visitor`]: a client that counts in a session and keeps a ledger of what was acknowledged.

use testkit::client::{Answer, Client};

/// A visitor and the ledger of the session.
pub(crate) struct Visitor {
    pub(crate) client: Client,
    /// The last number that was told.
    last: u64,
    /// Requests since then of which it is not known whether they counted.
    unknown: u64,
}

impl Visitor {
    pub(crate) fn new() -> Self {
        Visitor {
            client: Client::new(0),
            last: 0,
            unknown: 0,
        }
    }

    /// Whether the visitor has a session to come back to.
    pub(crate) fn has_session(&self) -> bool {
        self.client.id().is_some()
    }

    /// Notes an answer; what is wrong with it.
    pub(crate) fn note(&mut self, answer: &Answer) -> Result<(), String> {
        let Some(number) = answer.count() else {
            return Err(format!("no number: {answer:?}"));
        };
        let least = self.last + 1;
        let most = least + self.unknown;
        (self.last, self.unknown) = (number, 0);
        if (least..=most).contains(&number) {
            Ok(())
        } else {
            Err(format!("counted {number}, expected {least} to {most}"))
        }
    }

    /// A request had no answer. One that may have changed the id ends the visit: only the answer
    /// could have told the new one.
    pub(crate) fn note_none(&mut self, may_be_renewed: bool) {
        if may_be_renewed || !self.has_session() {
            *self = Visitor::new();
        } else {
            self.unknown += 1;
        }
    }
}
