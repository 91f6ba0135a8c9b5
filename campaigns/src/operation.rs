//! [`Operation`]: what is done to a session while something goes wrong, and what may be found afterwards.

use std::error::Error;

use cgi_session::SetCookie;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};
use testkit::prelude::*;

use crate::process::Task;
use crate::scene::{State, cookie};

pub(crate) const USER: &str = "ada";
/// How long an id that was changed with grace can still be read under.
const GRACE: Duration = Duration::from_secs(120);
/// A text of this many characters needs another file than a small session.
pub(crate) const LARGE: usize = 20_000;

/// What is done to the session `A`, which holds 5, beside `B`, which holds 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    First,
    Save,
    SaveLarge,
    Grow,
    Shrink,
    Touch,
    Look,
    Regenerate,
    Grace,
    /// What the old id shows from then on needs another file.
    GraceAndGrow,
    Destroy,
    Evict,
    Login,
    LogoutEverywhere,
    CleanUp,
    Install,
    /// A request of a session whose file is damaged.
    SetAside,
    /// The counter example as a CGI program, for a client that has no session.
    FirstPage,
    /// The same for one that has.
    Page,
}

/// A process that does one operation under a tracer, and says on stdout that it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Traced {
    pub(crate) operation: Operation,
    /// Of the session `A`.
    pub(crate) id: String,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

impl Traced {
    pub(crate) fn perform(&self, task: &Task) -> Outcome<()> {
        ptrace::traceme()?;
        raise(Signal::SIGSTOP)?;
        let cookie = self.operation.uses_id().then(|| cookie(&self.id));
        let cookie = cookie.unwrap_or_default();
        if self.operation.is_page() {
            return Err(page(task, &cookie).exec().into());
        }
        let manager = task.subject.open(&task.directory)?;
        let set = self.operation.perform(&manager, &cookie)?;
        let id = set.map(|set| id_in(&set.to_string()).to_owned());
        // In one write, so that a line is never cut.
        let line = format!("done {}\n", id.unwrap_or_default());
        Ok(io::stdout().write_all(line.as_bytes())?)
    }
}

/// The counter example as a web server starts it.
fn page(task: &Task, cookie: &str) -> Command {
    let mut command = Command::new(testkit::example("counter"));
    command.env_clear().env("GATEWAY_INTERFACE", "CGI/1.1");
    command
        .env("REQUEST_METHOD", "GET")
        .env("CGI_SESSION_STORAGE_FILE_DIR", &task.directory)
        .env("HTTP_COOKIE", cookie);
    let durability = task.subject.setting("durability");
    command.env("CGI_SESSION_DURABILITY", durability.unwrap_or("none"));
    command
}

/// The id in a Set-Cookie, or nothing.
pub(crate) fn id_in(text: &str) -> &str {
    let value = text.split_once("sessionId=");
    let value = value.and_then(|(_, rest)| rest.split([';', '\r', '\n']).next());
    value.unwrap_or_default()
}

/// A text of a letter that no save before or after has.
pub(crate) fn text(n: u64, length: usize) -> String {
    ["a", "b", "c", "d"][usize::try_from(n % 4).unwrap_or_default()].repeat(length)
}

impl Operation {
    pub(crate) const ALL: [Operation; 19] = [
        Operation::First,
        Operation::Save,
        Operation::SaveLarge,
        Operation::Grow,
        Operation::Shrink,
        Operation::Touch,
        Operation::Look,
        Operation::Regenerate,
        Operation::Grace,
        Operation::GraceAndGrow,
        Operation::Destroy,
        Operation::Evict,
        Operation::Login,
        Operation::LogoutEverywhere,
        Operation::CleanUp,
        Operation::Install,
        Operation::SetAside,
        Operation::FirstPage,
        Operation::Page,
    ];

    pub(crate) fn is_page(self) -> bool {
        matches!(self, Operation::FirstPage | Operation::Page)
    }

    /// Whether it is done with the cookie of `A`.
    fn uses_id(self) -> bool {
        let without = [Operation::First, Operation::Evict, Operation::FirstPage];
        !without.contains(&self)
    }

    fn perform(self, manager: &SessionManager, cookie: &str) -> Outcome<Option<SetCookie>> {
        match self {
            Operation::LogoutEverywhere => {
                manager.destroy_sessions_of(USER, None)?;
                return Ok(None);
            }
            Operation::CleanUp => {
                let report = manager.delete_expired(&Sweep::new())?;
                let failure = report.failures.into_iter().next();
                return failure.map_or(Ok(None), |failure| Err(failure.into()));
            }
            Operation::Install => {
                let problem = manager.install().pop();
                return problem.map_or(Ok(None), |problem| Err(problem.into()));
            }
            Operation::Look => {
                manager.read(cookie)?;
                return Ok(None);
            }
            Operation::Touch => return Ok(manager.start(cookie)?.commit()?),
            _ => {}
        }
        let mut session = manager.start(cookie)?;
        let n = session.get::<u64>("n")?.unwrap_or_default() + 1;
        session.insert("n", n)?;
        match self {
            Operation::SaveLarge | Operation::Grow => session.insert("x", text(n, LARGE))?,
            Operation::Shrink => drop(session.remove("x")),
            Operation::Regenerate => session.regenerate_id(),
            Operation::Grace => session.regenerate_id_with_grace(GRACE),
            Operation::GraceAndGrow => {
                session.insert("x", text(n, LARGE))?;
                session.regenerate_id_with_grace(GRACE);
            }
            Operation::Login => {
                session.set_user(Some(USER))?;
                session.regenerate_id();
            }
            Operation::Destroy => return Ok(session.destroy()?),
            _ => {}
        }
        Ok(session.commit()?)
    }

    /// Whether what its process said on stdout means that it was done.
    pub(crate) fn is_acknowledged(self, said: &str) -> bool {
        if self.is_page() {
            said.starts_with("Status: 200") && said.ends_with("</html>\n")
        } else {
            said.starts_with("done") && said.ends_with('\n')
        }
    }

    /// What may be found when it reported an error.
    pub(crate) fn states_after_error(self) -> Vec<State> {
        let mut states = self.states();
        if matches!(self, Operation::Save | Operation::Grow | Operation::Shrink) {
            // A client that saves once more would have the change twice.
            states.truncate(1);
        }
        states
    }

    /// What may be found besides when something could not be done: a session that cannot be examined is
    /// not evicted, but the next oldest, or none.
    pub(crate) fn states_beside_errors(self) -> Vec<State> {
        match self {
            Operation::Evict => vec![State::new(5, &[1, 2]), State::new(0, &[1, 2])],
            _ => Vec::new(),
        }
    }

    /// All that may be found, from the state before to the one after.
    pub(crate) fn states(self) -> Vec<State> {
        let state = State::new;
        match self {
            Operation::First | Operation::FirstPage => vec![state(5, &[]), state(5, &[1])],
            Operation::Save
            | Operation::SaveLarge
            | Operation::Grow
            | Operation::Shrink
            | Operation::Page => vec![state(5, &[]), state(6, &[])],
            Operation::Touch | Operation::Look | Operation::CleanUp => vec![state(5, &[])],
            // Between creating the new id and ending the old one, no client knows the new one.
            Operation::Regenerate | Operation::Login => {
                let marked = State {
                    is_marked: true,
                    ..state(0, &[6])
                };
                vec![state(5, &[]), state(5, &[6]), marked]
            }
            Operation::Grace | Operation::GraceAndGrow => {
                vec![state(5, &[]), state(5, &[6]), state(6, &[6])]
            }
            Operation::Destroy => vec![state(5, &[]), state(0, &[])],
            Operation::Evict => vec![state(5, &[2]), state(5, &[]), state(5, &[1])],
            Operation::LogoutEverywhere => {
                let some = [&[3, 4][..], &[3], &[4], &[]];
                let [kept, gone] = [5, 0].map(|a| some.map(|others| state(a, others)));
                kept.into_iter().chain(gone).collect()
            }
            Operation::SetAside => vec![state(0, &[]), state(0, &[1])],
            Operation::Install => {
                let empty = state(0, &[]);
                vec![State { b: None, ..empty }]
            }
        }
    }
}
