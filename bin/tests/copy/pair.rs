//! [`Pair`]: two stores of a test's own, and the tool that copies between them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, Record, SessionDigest, SessionId, SessionManager, Stored};
use tempfile::TempDir;

use testkit::engines;
use testkit::tools::{Finished, set_mode, tool};

pub(crate) const WAIT: Duration = Duration::from_secs(60);
/// What lies in the directory of a pair.
const FILES: [&str; 2] = ["file", "sqlite"];
const MINUTE: Duration = Duration::from_secs(60);

/// Two stores and their configuration files.
pub(crate) struct Pair {
    place: TempDir,
}

/// A session of a visitor who is known to the test.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) digest: SessionDigest,
    pub(crate) cookie: String,
}

impl Pair {
    /// Two stores of these types, and what else each is configured with.
    pub(crate) fn new(old: &str, new: &str) -> Self {
        let pair = Pair {
            place: tempfile::tempdir().unwrap(),
        };
        set_mode(pair.path(), 0o711);
        pair.configure("old", old, "");
        pair.configure("new", new, "");
        for (name, kind, other) in [("old", old, new), ("new", new, old)] {
            // Where root is to make files, and nobody's are beside those that were, it does not.
            if kind != "file" && ![kind, other].iter().all(|kind| FILES.contains(kind)) {
                assert!(pair.manager(name).install().is_empty());
            }
        }
        pair
    }

    /// Writes the configuration of one of the stores anew.
    pub(crate) fn configure(&self, name: &str, kind: &str, more: &str) {
        let directory = self.directory(name);
        let shown = directory.display();
        let place = match kind {
            "file" => format!("storageFileDir = {shown}"),
            "sqlite" => format!("database = {shown}/sessions.db"),
            engine => {
                let url = engines::url(engine).expect("a server");
                format!("database = {url}\ntable = {}", self.table(name))
            }
        };
        if !directory.exists() {
            fs::create_dir(&directory).unwrap();
            set_mode(&directory, 0o700);
        }
        let text = format!("[session]\nstorageType = {kind}\n{place}\n{more}\n");
        fs::write(self.configuration(name), text).unwrap();
    }

    /// A name that no other pair has.
    fn table(&self, name: &str) -> String {
        let place = self.path().file_name().unwrap().to_str().unwrap();
        format!(
            "{}_{name}",
            place.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        )
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn configuration(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.ini"))
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path().join("new.ini.journal")
    }

    pub(crate) fn config(&self, name: &str) -> Config {
        Config::load(&self.configuration(name)).unwrap()
    }

    pub(crate) fn manager(&self, name: &str) -> SessionManager {
        cgi_session_tools::stores::manager(self.config(name)).unwrap()
    }

    pub(crate) fn old(&self) -> SessionManager {
        self.manager("old")
    }

    pub(crate) fn new_one(&self) -> SessionManager {
        self.manager("new")
    }

    /// The tool, from one store to the other.
    pub(crate) fn command(&self, from: &str, to: &str) -> Command {
        let mut command = tool("copy");
        command.arg("--from").arg(self.configuration(from));
        command.arg("--to").arg(self.configuration(to));
        command
    }

    #[track_caller]
    pub(crate) fn copy(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.command("old", "new").args(arguments))
    }

    /// The same, as JSON; and the numbers that are not zero.
    #[track_caller]
    pub(crate) fn counts(&self, arguments: &[&str], status: i32) -> BTreeMap<String, u64> {
        let finished = self.copy(&[arguments, &["--json"]].concat());
        let object = finished.exits_with(status).json();
        let members = object.as_object().unwrap().iter();
        let numbers = members.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
        numbers.filter(|(_, number)| *number > 0).collect()
    }
}

/// Every pair of stores that programs of several processes can share, as far as their engines are
/// installed.
pub(crate) fn pairs() -> Vec<(&'static str, &'static str)> {
    let mut pairs = vec![("file", "sqlite"), ("sqlite", "file")];
    pairs.extend(engines::installed().flat_map(|engine| [("file", engine), (engine, "sqlite")]));
    pairs
}

/// What [`Pair::counts`] should be, `examined` being the first number.
pub(crate) fn counts(examined: u64, others: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let all = [("examined", examined)];
    let all = all.iter().chain(others);
    all.filter(|(_, number)| *number > 0)
        .map(|(name, number)| ((*name).to_owned(), *number))
        .collect()
}

/// A visitor of a site, whose session counts from zero.
pub(crate) fn visitor(manager: &SessionManager) -> Visitor {
    let mut session = manager.start("").unwrap();
    session.insert("count", 0).unwrap();
    let cookie = session.commit().unwrap().unwrap().to_string();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let digest = manager.session_id(&cookie).unwrap().digest();
    Visitor { digest, cookie }
}

impl Visitor {
    /// Counts on, if there is a session; tells whether there was.
    pub(crate) fn counts(&self, manager: &SessionManager) -> cgi_session::Result<bool> {
        let Some(mut session) = manager.existing(&self.cookie)? else {
            return Ok(false);
        };
        let count = session.get::<u64>("count")?.unwrap_or_default();
        session.insert("count", count + 1)?;
        session.commit()?;
        Ok(true)
    }

    /// The same of a session that is there.
    #[track_caller]
    pub(crate) fn count(&self, manager: &SessionManager) {
        assert!(self.counts(manager).unwrap(), "the session is not there");
    }

    pub(crate) fn counted(&self, manager: &SessionManager) -> Option<u64> {
        let stored = manager.peek(&self.digest).unwrap()?;
        let values: serde_json::Value = serde_json::from_slice(stored.record.values()).unwrap();
        values[""]["count"].as_u64()
    }
}

/// Stores a record under a new id, last used so many minutes ago.
pub(crate) fn store(manager: &SessionManager, record: &Record, minutes: u32) -> SessionDigest {
    let (digest, now) = (SessionId::generate().unwrap().digest(), SystemTime::now());
    let lease = manager.store().create(&digest, record, now).unwrap();
    lease.unwrap().touch(now - minutes * MINUTE).unwrap();
    digest
}

/// Every live session.
pub(crate) fn all(manager: &SessionManager) -> BTreeMap<String, Stored> {
    let mut found = BTreeMap::new();
    let listed = manager.for_each(|session, stored| {
        found.insert(session.to_string(), stored.unwrap());
        ControlFlow::Continue(())
    });
    listed.unwrap();
    found
}

/// The records of all sessions, byte for byte.
pub(crate) fn records(manager: &SessionManager) -> BTreeMap<String, String> {
    let text = |stored: Stored| String::from_utf8(stored.record.to_json()).unwrap();
    let all = all(manager).into_iter();
    all.map(|(session, stored)| (session, text(stored)))
        .collect()
}
