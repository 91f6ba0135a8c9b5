//! What sessions are when one request comes after the other: the specification that every history is held
//! against.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use stateright::semantics::SequentialSpec;

/// A session, by the name that a history gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Name(pub(crate) u64);

/// Whether an operation goes through the session manager or straight to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Door {
    Manager,
    Store,
}

/// What a process does with a session. Every number is given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    Create(Name, u64),
    Start(Name, u64),
    Read(Name, Door),
    Save(Name, u64, Door),
    Destroy(Name, Door),
    /// A new id, and a new number with it.
    Renew(Name, Name, u64),
    Expire(Name),
    CleanUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// What was there before.
    Was(Option<u64>),
    Created(bool),
    /// Another process began the session at the same time.
    Busy,
    /// The session has another id by now.
    Replaced,
    Done,
    /// An error that nothing explains.
    Failed(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    /// No request sees it, but its file may still be there.
    Expired,
    Live(u64),
    /// It has another id by now.
    Marker,
    /// The same, and the session has ended: its marker may still be there.
    LastMarker,
}

/// All sessions of a history.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    states: BTreeMap<Name, State>,
    /// The names that sessions had before.
    before: BTreeMap<Name, Name>,
    /// A process that dies may leave half a session, which takes the name and no request sees.
    has_deaths: bool,
}

impl Sessions {
    pub(crate) fn none(has_deaths: bool) -> Self {
        Sessions {
            states: BTreeMap::new(),
            before: BTreeMap::new(),
            has_deaths,
        }
    }

    fn state(&self, name: Name) -> State {
        self.states.get(&name).copied().unwrap_or_default()
    }

    fn number(&self, name: Name) -> Option<u64> {
        match self.state(name) {
            State::Live(number) => Some(number),
            _ => None,
        }
    }

    fn set(&mut self, name: Name, state: State) {
        self.states.insert(name, state);
    }

    /// Changes a session that is there, and tells what it was.
    fn change(&mut self, name: Name, state: State) -> Answer {
        let before = self.number(name);
        if before.is_some() {
            self.set(name, state);
        }
        Answer::Was(before)
    }

    /// Whether a request for a session to change is turned away.
    fn is_turned_away(&self, name: Name) -> bool {
        matches!(self.state(name), State::Marker | State::LastMarker)
    }

    fn may_be_taken(&self, name: Name) -> bool {
        self.has_deaths || self.state(name) != State::Absent
    }
}

impl SequentialSpec for Sessions {
    type Op = Operation;
    type Ret = Answer;

    fn invoke(&mut self, operation: &Operation) -> Answer {
        match *operation {
            Operation::Create(name, number) => {
                let is_free = !matches!(self.state(name), State::Live(_) | State::Marker);
                if is_free {
                    self.set(name, State::Live(number));
                }
                Answer::Created(is_free)
            }
            Operation::Start(name, number) => {
                let before = self.number(name);
                self.set(name, State::Live(number));
                Answer::Was(before)
            }
            Operation::Read(name, _) => Answer::Was(self.number(name)),
            Operation::Save(name, number, _) => self.change(name, State::Live(number)),
            Operation::Destroy(name, _) => {
                // Through the manager the markers of the names before end, too, a moment later.
                let mut name_then = name;
                while self.number(name).is_some()
                    && let Some(&before) = self.before.get(&name_then)
                    && self.is_turned_away(before)
                {
                    self.set(before, State::LastMarker);
                    name_then = before;
                }
                self.change(name, State::Absent)
            }
            Operation::Renew(name, new, number) => {
                let answer = self.change(name, State::Marker);
                if answer != Answer::Was(None) {
                    self.set(new, State::Live(number));
                    self.before.insert(new, name);
                }
                answer
            }
            Operation::Expire(name) => self.change(name, State::Expired),
            Operation::CleanUp => Answer::Done,
        }
    }

    fn is_valid_step(&mut self, operation: &Operation, answer: &Answer) -> bool {
        match (*operation, answer) {
            // Nothing has happened.
            (Operation::Create(name, _), Answer::Created(false))
            | (Operation::Start(name, _), Answer::Busy) => self.may_be_taken(name),
            (Operation::Start(name, _), Answer::Replaced) => self.is_turned_away(name),
            (Operation::Start(name, _), _) if self.state(name) == State::Marker => false,
            _ => self.invoke(operation) == *answer,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Create(name, number) => write!(f, "create {name}={number} (Store)"),
            Operation::Start(name, number) => write!(f, "start {name}={number} (Manager)"),
            Operation::Read(name, door) => write!(f, "read {name} ({door:?})"),
            Operation::Save(name, number, door) => write!(f, "save {name}={number} ({door:?})"),
            Operation::Destroy(name, door) => write!(f, "destroy {name} ({door:?})"),
            Operation::Renew(name, new, number) => write!(f, "renew {name} as {new}={number}"),
            Operation::Expire(name) => write!(f, "expire {name}"),
            Operation::CleanUp => write!(f, "clean up"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Was(Some(number)) => write!(f, "was {number}"),
            Answer::Was(None) => write!(f, "was not there"),
            Answer::Created(true) => write!(f, "created"),
            Answer::Created(false) => write!(f, "taken"),
            Answer::Busy => write!(f, "busy"),
            Answer::Replaced => write!(f, "turned away"),
            Answer::Done => write!(f, "done"),
            Answer::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}
