//! What must be found when the power is back.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cgi_session::{Config, Error, FileStore, SessionId, SessionManager, Store as _, Stored, Sweep};

use testkit::broken::{BrokenStore, Fault};

/// What a session holds: a number, and a text of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) n: u64,
    pub(crate) length: usize,
}

/// What one operation does to the session of an id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) before: Option<State>,
    pub(crate) after: Option<State>,
    /// The session has another id afterwards.
    pub(crate) moves: bool,
}

const SMALL: Option<State> = Some(State { n: 1, length: 0 });
const LARGE: usize = 20_000;

/// What is no session.
pub(crate) const DAMAGE: [u8; 3000] = [b'?'; 3000];

pub(crate) const OPERATIONS: [Operation; 11] = [
    Operation::new("begin", None, SMALL).moving(),
    Operation::new("save", SMALL, Some(State { n: 2, length: 0 })),
    Operation::new(
        "save large",
        Some(State {
            n: 1,
            length: LARGE,
        }),
        Some(State {
            n: 2,
            length: LARGE,
        }),
    ),
    Operation::new(
        "grow",
        SMALL,
        Some(State {
            n: 2,
            length: LARGE,
        }),
    ),
    Operation::new(
        "shrink",
        Some(State {
            n: 1,
            length: LARGE,
        }),
        Some(State { n: 2, length: 0 }),
    ),
    Operation::new("change id", SMALL, Some(State { n: 2, length: 0 })).moving(),
    Operation::new("log in", SMALL, Some(State { n: 2, length: 0 })).moving(),
    Operation::new("destroy", SMALL, None),
    Operation::new("destroy everywhere", SMALL, None),
    // What is cleaned up has expired, and nobody finds it before or after.
    Operation::new("clean up", None, None),
    // Nobody finds what is damaged, before or after, and a session begins.
    Operation::new("set aside", None, SMALL).moving(),
];

impl Operation {
    const fn new(name: &'static str, before: Option<State>, after: Option<State>) -> Self {
        Operation {
            name,
            before,
            after,
            moves: false,
        }
    }

    const fn moving(mut self) -> Self {
        self.moves = true;
        self
    }

    /// What may be found under the id that the session had before.
    fn allowed(&self, is_durable: bool, is_done: bool) -> Vec<Option<State>> {
        let after = self.after.filter(|_| !self.moves);
        match (is_durable, is_done) {
            (true, true) => vec![after],
            (true, false) => vec![self.before, after],
            // Nothing is promised but that it is one or the other, and whole.
            (false, _) => vec![self.before, after, None],
        }
    }
}

/// A store as the programs of the test use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) durability: &'static str,
    /// What was done must be found again.
    promises_durability: bool,
    fault: Option<Fault>,
}

impl Kind {
    pub(crate) const DURABLE: Kind = Kind {
        durability: "data",
        promises_durability: true,
        fault: None,
    };
    pub(crate) const FAST: Kind = Kind {
        durability: "none",
        promises_durability: false,
        fault: None,
    };
    /// It promises what its setting does not give.
    pub(crate) const PRETENDING: Kind = Kind {
        durability: "none",
        promises_durability: true,
        fault: None,
    };

    pub(crate) const fn broken(fault: Fault) -> Self {
        Kind {
            durability: "data",
            promises_durability: true,
            fault: Some(fault),
        }
    }

    pub(crate) fn store(self) -> String {
        self.fault
            .map_or("file".to_owned(), |fault| format!("{fault:?}"))
    }

    pub(crate) fn config(self, directory: &Path) -> Config {
        let config = Config::new().set("storageFileDir", directory).unwrap();
        config.set("durability", self.durability).unwrap()
    }

    /// A manager that keeps all promises with the same files.
    pub(crate) fn manager(self, directory: &Path) -> SessionManager {
        let config = self.config(directory);
        if self.fault.is_none() {
            return SessionManager::new(config).unwrap();
        }
        let store = BrokenStore::open(Fault::Nothing, directory);
        SessionManager::with_store(config, store).unwrap()
    }
}

pub(crate) fn cookie(id: &SessionId) -> String {
    format!("sessionId={}", id.secret())
}

/// What the next requests find in a directory, and what is wrong with that.
pub(crate) struct Inspection {
    kind: Kind,
    directory: PathBuf,
    manager: SessionManager,
    pub(crate) violations: Vec<String>,
}

impl Inspection {
    pub(crate) fn new(kind: Kind, directory: &Path) -> Self {
        Inspection {
            kind,
            directory: directory.to_owned(),
            manager: kind.manager(directory),
            violations: Vec::new(),
        }
    }

    fn complain(&mut self, what: String) {
        self.violations.push(what);
    }

    /// What a reader and then a writer find, who must agree.
    pub(crate) fn state(&mut self, id: &SessionId) -> Option<State> {
        match find(&self.manager, id) {
            Ok(state) => state,
            Err(what) => {
                self.complain(what);
                None
            }
        }
    }

    pub(crate) fn expect(&mut self, what: &str, id: &SessionId, allowed: &[Option<State>]) {
        let state = self.state(id);
        if !allowed.contains(&state) {
            self.complain(format!("{what}: {state:?} instead of {allowed:?}"));
        }
    }

    /// The session of an operation: under the id that it had, and under that which the operation
    /// said at its end, if it came so far.
    pub(crate) fn expect_operation(
        &mut self,
        operation: &Operation,
        old: &SessionId,
        said: Option<&str>,
    ) {
        let is_durable = self.kind.promises_durability;
        let allowed = operation.allowed(is_durable, said.is_some());
        self.expect(operation.name, old, &allowed);
        if let Some(said) = said.filter(|_| operation.moves) {
            let new = said.strip_prefix("done ").map(str::trim_end);
            let new = new.and_then(|id| SessionId::parse(id.as_bytes()));
            let allowed = [operation.after, None];
            let possible = if is_durable { 1 } else { 2 };
            self.expect("the new id", &new.expect("an id"), &allowed[..possible]);
        }
        if is_durable && operation.before.is_some() && operation.after.is_some() {
            self.expect_nothing_lost(operation);
        }
    }

    /// What is damaged is kept until somebody has looked at it, under its name or aside.
    pub(crate) fn expect_damage_kept(&mut self, id: &SessionId) {
        if !self.kind.promises_durability {
            return;
        }
        let kept = ["json", "corrupt"].into_iter().any(|end| {
            let path = self.directory.join(format!("{}.{end}", id.digest()));
            fs::read(path).is_ok_and(|bytes| bytes == DAMAGE)
        });
        if !kept {
            self.complain("the damaged session is kept nowhere".to_owned());
        }
    }

    /// Whatever its id is now, the session is there.
    fn expect_nothing_lost(&mut self, operation: &Operation) {
        let store = FileStore::new(&self.kind.config(&self.directory)).unwrap();
        if self.kind.fault.is_some() {
            return;
        }
        let (mut digests, mut of_user) = (Vec::new(), Vec::new());
        let listed = store.for_each(
            &mut |digest, stored| {
                let is_of_user = |stored: &Stored| stored.record.user() == Some("ada");
                let place = if stored.is_ok_and(|stored| is_of_user(&stored)) {
                    &mut of_user
                } else {
                    &mut digests
                };
                place.push(*digest);
                ControlFlow::Continue(())
            },
            SystemTime::now(),
        );
        listed.unwrap();
        // The other one is the bystander.
        if digests.len() + of_user.len() < 2 {
            self.complain(format!("{}: the session is nowhere", operation.name));
        }
        let found = store.sessions_of("ada", SystemTime::now()).unwrap();
        if of_user.iter().any(|digest| !found.contains(digest)) {
            self.complain(format!(
                "{}: the user's index lacks a session",
                operation.name
            ));
        }
    }

    /// Requests go on: this session's, if it is there, and a new one's.
    pub(crate) fn expect_use(&mut self, id: &SessionId) {
        let before = self.state(id);
        for (cookie, expected) in [
            (cookie(id), before.map_or(1, |state| state.n + 1)),
            (String::new(), 1),
        ] {
            let used = self.manager.update(cookie, |session| {
                let n = session.get::<u64>("n")?.unwrap_or_default() + 1;
                session.insert("n", n)?;
                Ok(n)
            });
            match used {
                Ok((n, _)) if n == expected => {}
                // The marker of a change of id.
                Err(Error::Replaced) if before.is_none() => {}
                other => self.complain(format!("the next request gets {other:?}, not {expected}")),
            }
        }
    }

    /// When everything has expired, the clean-up leaves nothing.
    pub(crate) fn expect_clean_up(&mut self) {
        if self.kind.fault.is_some() {
            return;
        }
        let store = FileStore::new(&self.kind.config(&self.directory)).unwrap();
        let later = SystemTime::now() + Duration::from_secs(40 * 24 * 3600);
        // The second sees that the sessions of a user are gone.
        for _ in 0..2 {
            match store.delete_expired(&Sweep::new(), later) {
                Ok(report) if report.failures.is_empty() => {}
                other => self.complain(format!("clean-up: {other:?}")),
            }
        }
        let entries = self.directory.read_dir().unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name != ".gc").collect();
        if !left.is_empty() {
            self.complain(format!("clean-up leaves {left:?}"));
        }
    }
}

/// What the text of a session consists of that holds this number.
pub(crate) fn letter(n: u64) -> &'static str {
    ["a", "b", "c", "d"][usize::try_from(n % 4).unwrap()]
}

fn find(manager: &SessionManager, id: &SessionId) -> Result<Option<State>, String> {
    let failed = |error: cgi_session::Error| format!("cannot be read: {}", error.one_line());
    let read = manager.read(cookie(id)).map_err(failed)?;
    let read = read.map(|snapshot| state(&snapshot)).transpose()?;
    let locked = manager.existing(cookie(id)).map_err(failed)?;
    let locked = locked.map(|session| state(&session)).transpose()?;
    if read != locked {
        return Err(format!("a reader finds {read:?}, a writer {locked:?}"));
    }
    Ok(locked)
}

fn state(values: &cgi_session::Values) -> Result<State, String> {
    let text = values
        .get::<String>("x")
        .map_err(|error| error.to_string())?;
    let text = text.unwrap_or_default();
    let n = values.require("n").map_err(|error| error.to_string())?;
    if text != letter(n).repeat(text.len()) {
        return Err("its text is another save's".to_owned());
    }
    Ok(State {
        n,
        length: text.len(),
    })
}
