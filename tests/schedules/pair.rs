//! Two tasks at once, what there is before, and what may come of it.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::task::{Task, USER, id};
use testkit::subject::{SHARDED, Subject};

/// What there is before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before {
    Nothing,
    /// The first session, with the number 1.
    First,
    /// The same, and its time has come.
    FirstExpired,
    Both,
    FirstOfUser,
    /// The first session, of nobody, and the second, of the user.
    SecondOfUser,
    BothOfUser,
    /// The second session, which was the first until its id was changed.
    SecondAfterFirst,
}

#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) before: Before,
    pub(crate) tasks: [Task; 2],
}

impl Pair {
    pub(crate) fn prepare(&self, store: &str, directory: &Path) {
        let subject = Subject::open(store, directory, || ());
        let draws_an_id = |task: &Task| matches!(task, Task::Renew(_) | Task::Replace(_));
        if store == SHARDED && self.tasks.iter().any(draws_an_id) {
            // As the id is drawn, its shard would have to be made or be that of the other.
            let mut shards = DirBuilder::new();
            shards.recursive(true).mode(0o700);
            for shard in 0..=u8::MAX {
                let shard = directory.join(format!("{shard:02x}"));
                shards.create(shard).unwrap();
            }
        }
        let create = |number, user: Option<&str>| {
            let created = match user {
                Some(user) => subject.create_of(&id(number), number + 1, user),
                None => subject.create(&id(number), number + 1),
            };
            assert!(created.unwrap());
        };
        match self.before {
            Before::Nothing => std::fs::create_dir_all(directory).unwrap(),
            Before::First => create(0, None),
            Before::FirstExpired => {
                create(0, None);
                subject.expire(&id(0)).unwrap();
            }
            Before::Both => {
                create(0, None);
                create(1, None);
            }
            Before::FirstOfUser => create(0, Some(USER)),
            Before::SecondOfUser => {
                create(0, None);
                create(1, Some(USER));
            }
            Before::BothOfUser => {
                create(0, Some(USER));
                create(1, Some(USER));
            }
            Before::SecondAfterFirst => {
                create(0, None);
                subject.renew_as(&id(0), &id(1), 2).unwrap();
            }
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.tasks;
        write!(f, "{one:?} and {other:?}, before: {:?}", self.before)
    }
}
