//! [`Operation`]: what may die or fail, and what may be found when it has.

use std::path::PathBuf;
use std::process::Command;

use crate::ground::{Ground, State};
use testkit::example;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    First,
    Save,
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
    /// The counter example as a CGI program, for a visitor who has no session.
    FirstPage,
    /// The same for one who has.
    Page,
}

impl Operation {
    pub(crate) const ALL: [Operation; 18] = [
        Operation::First,
        Operation::Save,
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

    fn name(self) -> &'static str {
        match self {
            Operation::First => "begin",
            Operation::Save | Operation::SetAside => "save",
            Operation::Grow => "grow",
            Operation::Shrink => "shrink",
            Operation::Touch => "touch",
            Operation::Look => "look",
            Operation::Regenerate => "change id",
            Operation::Grace => "change id with grace",
            Operation::GraceAndGrow => "change id with grace, large",
            Operation::Destroy => "destroy",
            Operation::Evict => "begin at the cap",
            Operation::Login => "log in",
            Operation::LogoutEverywhere => "destroy everywhere",
            Operation::CleanUp => "clean up",
            Operation::Install => "install",
            Operation::FirstPage | Operation::Page => "page",
        }
    }

    pub(crate) fn is_page(self) -> bool {
        matches!(self, Operation::FirstPage | Operation::Page)
    }

    /// What runs the operation.
    pub(crate) fn program(self) -> PathBuf {
        example(if self.is_page() {
            "counter"
        } else {
            "operation"
        })
    }

    /// Gives the program's command what it needs on this ground.
    pub(crate) fn prepare(self, command: &mut Command, ground: &Ground, durability: &str) {
        command.env_clear();
        if !self.is_page() {
            command.arg(self.name()).arg(ground.sessions());
            let fault = ground.fault.map(|fault| format!("{fault:?}"));
            command.args([durability, fault.as_deref().unwrap_or("file")]);
            if self != Operation::First && self != Operation::Evict {
                command.arg(ground.a.secret());
            }
            return;
        }
        command
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("REQUEST_METHOD", "GET")
            .env("CGI_SESSION_STORAGE_FILE_DIR", ground.sessions())
            .env("CGI_SESSION_DURABILITY", durability);
        if self == Operation::Page {
            command.env("HTTP_COOKIE", format!("sessionId={}", ground.a.secret()));
        }
    }

    /// Whether the program has told anybody that it was done.
    pub(crate) fn is_acknowledged(self, said: &str) -> bool {
        if self.is_page() {
            said.starts_with("Status: 200") && said.ends_with("</html>\n")
        } else {
            said.starts_with("done") && said.ends_with('\n')
        }
    }

    /// What must be found when it was acknowledged.
    pub(crate) fn after(self) -> State {
        let [.., after] = &*self.states() else {
            unreachable!("each operation has a state after it")
        };
        after.clone()
    }

    /// What may be found when it reported an error.
    pub(crate) fn states_after_error(self) -> Vec<State> {
        let mut states = self.states();
        if matches!(self, Operation::Save | Operation::Grow | Operation::Shrink) {
            // Whoever saves once more would have the change twice.
            states.truncate(1);
        }
        states
    }

    /// What may be found besides when something could not be done: a session that cannot be examined is
    /// not evicted, but the next oldest, or none.
    pub(crate) fn states_beside_errors(self) -> Vec<State> {
        let Operation::Evict = self else {
            return Vec::new();
        };
        let state = |a: Option<u64>| State {
            a,
            is_marked: false,
            b: Some(7),
            others: vec![1, 2],
        };
        vec![state(Some(5)), state(None)]
    }

    /// All that may be found, from the state before to the one after.
    pub(crate) fn states(self) -> Vec<State> {
        let state = |a: u64, others: &[u64]| State {
            a: Some(a).filter(|a| *a > 0),
            is_marked: false,
            b: Some(7),
            others: others.to_vec(),
        };
        match self {
            Operation::First | Operation::FirstPage => vec![state(5, &[]), state(5, &[1])],
            Operation::Save | Operation::Grow | Operation::Shrink | Operation::Page => {
                vec![state(5, &[]), state(6, &[])]
            }
            Operation::Touch | Operation::Look | Operation::CleanUp => vec![state(5, &[])],
            // Between creating the new id and ending the old one, nobody knows the new one.
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
                let kept = some.map(|others| state(5, others));
                kept.into_iter()
                    .chain(some.map(|others| state(0, others)))
                    .collect()
            }
            Operation::SetAside => vec![state(0, &[]), state(0, &[1])],
            Operation::Install => vec![State {
                a: None,
                is_marked: false,
                b: None,
                others: Vec::new(),
            }],
        }
    }
}
