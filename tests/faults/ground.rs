//! [`Ground`]: a directory of sessions as it is before an operation, and what can be found in it after.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, FileStore, Record, SessionId, SessionManager, Store, Sweep};

use crate::operation::Operation;
use testkit::broken::{BrokenStore, Fault};

const HOUR: Duration = Duration::from_secs(3600);
const USER: &str = "ada";
/// What a damaged session holds.
const DAMAGE: [u8; 3000] = [b'?'; 3000];

/// Sessions before an operation. `A` is the one that it is about, with 5 page views; `B`, with 7, is
/// somebody else's, and must never change.
pub(crate) struct Ground {
    pub(crate) place: tempfile::TempDir,
    pub(crate) fault: Option<Fault>,
    /// Under which the program counts.
    key: &'static str,
    pub(crate) a: SessionId,
    b: SessionId,
    /// The file of `A` is damaged, or was.
    is_damaged: bool,
}

/// What anybody finds: the page views of `A`, of `B`, and of all other sessions in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) a: Option<u64>,
    /// A change of id has left its marker under the id of `A`.
    pub(crate) is_marked: bool,
    pub(crate) b: Option<u64>,
    pub(crate) others: Vec<u64>,
}

impl Ground {
    /// The sessions that this operation begins with.
    pub(crate) fn before(operation: Operation, fault: Option<Fault>) -> Self {
        let ground = Ground {
            place: memory(),
            fault,
            key: if operation.is_page() {
                "pageViews"
            } else {
                "n"
            },
            a: SessionId::generate().unwrap(),
            b: SessionId::generate().unwrap(),
            is_damaged: operation == Operation::SetAside,
        };
        if operation == Operation::Install {
            return ground;
        }
        let size = if operation == Operation::Shrink {
            60_000
        } else {
            0
        };
        let now = SystemTime::now();
        ground.put(&ground.a, 5, size, None, now);
        ground.put(&ground.b, 7, 0, None, now);
        let other = || SessionId::generate().unwrap();
        match operation {
            Operation::Touch | Operation::Look => ground.age(&ground.a, HOUR / 2),
            Operation::SetAside => fs::write(ground.file(&ground.a, "json"), DAMAGE).unwrap(),
            Operation::Evict => ground.put(&other(), 2, 0, None, now - HOUR / 2),
            Operation::LogoutEverywhere => {
                ground.put(&ground.a, 5, 0, Some(USER), now);
                ground.put(&other(), 3, 0, Some(USER), now);
                ground.put(&other(), 4, 0, Some(USER), now);
            }
            Operation::CleanUp => {
                for _ in 0..2 {
                    ground.put(&other(), 2, 0, None, now - 2 * HOUR);
                }
                let orphan = ground.sessions().join(".tmp-1-0123456789abcdef");
                fs::write(&orphan, "left behind").unwrap();
                set_age(&orphan, HOUR);
            }
            _ => {}
        }
        ground
    }

    /// A copy for one run.
    pub(crate) fn copy(&self) -> Self {
        let place = memory();
        if self.sessions().exists() {
            // With the times of the files.
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .arg(self.sessions())
                .arg(place.path())
                .status();
            assert!(copied.unwrap().success());
        }
        Ground {
            place,
            fault: self.fault,
            key: self.key,
            a: self.a.clone(),
            b: self.b.clone(),
            is_damaged: self.is_damaged,
        }
    }

    pub(crate) fn sessions(&self) -> PathBuf {
        self.place.path().join("sessions")
    }

    fn config(&self) -> Config {
        let config = Config::new().set("storageFileDir", self.sessions());
        config.unwrap()
    }

    fn store(&self) -> Arc<dyn Store> {
        match self.fault {
            Some(fault) => Arc::new(BrokenStore::open(fault, &self.sessions())),
            None => Arc::new(FileStore::new(&self.config()).unwrap()),
        }
    }

    fn manager(&self) -> SessionManager {
        match self.fault {
            Some(fault) => {
                let store = BrokenStore::open(fault, &self.sessions());
                SessionManager::with_store(self.config(), store).unwrap()
            }
            None => SessionManager::new(self.config()).unwrap(),
        }
    }

    /// Puts a session there that was last used at this time.
    fn put(&self, id: &SessionId, views: u64, size: usize, user: Option<&str>, at: SystemTime) {
        let (padding, key) = ("x".repeat(size), self.key);
        let values = format!(r#"{{"":{{"{key}":{views},"x":"{padding}"}}}}"#);
        let record = Record::new(at).with_values(values.into_bytes());
        let (store, now) = (self.store(), SystemTime::now());
        let digest = id.digest();
        if let Some((stored, mut lease)) = store.lock(&digest, HOUR, now).unwrap() {
            lease.commit(&stored.record.with_user(user), now).unwrap();
        } else {
            let created = store.create(&digest, &record.with_user(user), now);
            drop(created.unwrap().expect("a new id"));
        }
        let age = now.duration_since(at).unwrap_or_default();
        if age > Duration::from_secs(60) {
            self.age(id, age);
        }
    }

    fn age(&self, id: &SessionId, age: Duration) {
        set_age(&self.file(id, "json"), age);
    }

    fn file(&self, id: &SessionId, ending: &str) -> PathBuf {
        self.sessions().join(format!("{}.{ending}", id.digest()))
    }

    /// What the next requests find. An error is what is wrong with it.
    pub(crate) fn state(&self) -> Result<State, String> {
        let (store, now) = (self.store(), SystemTime::now());
        let told = |error: cgi_session::Error| error.one_line();
        let (a, b) = (self.a.digest(), self.b.digest());
        let find = |digest| store.read(digest, now).map_err(told);
        let found = if self.is_damaged { None } else { find(&a)? };
        let is_marked = found.as_ref().is_some_and(|found| found.record.is_marker());
        let found = found.filter(|_| !is_marked);
        let views = |found: cgi_session::Stored| self.views(&found.record);
        let mut state = State {
            a: found.map(views),
            is_marked,
            b: find(&b)?.map(views),
            others: Vec::new(),
        };
        let mut wrong = None;
        let listed = store.for_each(
            &mut |digest, stored| {
                match stored {
                    Err(_) if self.is_damaged && *digest == a => {}
                    Err(error) => wrong = Some(error.one_line()),
                    Ok(_) if *digest == a || *digest == b => {}
                    Ok(stored) => state.others.push(self.views(&stored.record)),
                }
                ControlFlow::Continue(())
            },
            now,
        );
        listed.map_err(told)?;
        state.others.sort_unstable();
        wrong.map_or(Ok(state), Err)
    }

    fn views(&self, record: &Record) -> u64 {
        let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
        values[""][self.key].as_u64().unwrap()
    }

    /// Whether the index knows every session of the user.
    pub(crate) fn check_index(&self) -> Result<(), String> {
        let (store, now) = (self.store(), SystemTime::now());
        let mut theirs = Vec::new();
        let mut visit = |digest: &_, stored: cgi_session::Result<cgi_session::Stored>| {
            if stored.is_ok_and(|stored| stored.record.user() == Some(USER)) {
                theirs.push(*digest);
            }
            ControlFlow::Continue(())
        };
        store.for_each(&mut visit, now).map_err(|e| e.one_line())?;
        let known = store.sessions_of(USER, now).map_err(|e| e.one_line())?;
        match theirs.iter().find(|session| !known.contains(session)) {
            Some(_) => Err("a session of the user is not in the index".to_owned()),
            None => Ok(()),
        }
    }

    /// The next request of `A` and of `B`: both go on from what was found, and a new visitor gets a
    /// session, too. What was damaged is kept.
    pub(crate) fn check_next_requests(&self, found: &State) -> Result<(), String> {
        let manager = self.manager();
        let a = (&self.a, found.a, found.is_marked);
        for (id, before, is_marked) in [a, (&self.b, found.b, false)] {
            let cookie = format!("sessionId={}", id.secret());
            let counted = manager.update(cookie, |session| {
                if session.is_replaced() {
                    return Ok(None);
                }
                let views = session.get::<u64>(self.key)?.unwrap_or(0) + 1;
                session.insert(self.key, views)?;
                Ok(Some(views))
            });
            if is_marked {
                match counted {
                    Err(cgi_session::Error::Replaced) => continue,
                    other => return Err(format!("the marker was followed by {other:?}")),
                }
            }
            let (counted, _) = counted.map_err(|error| error.one_line())?;
            if counted.is_some_and(|counted| counted != before.unwrap_or(0) + 1) {
                return Err(format!("{before:?} was followed by {counted:?}"));
            }
        }
        let kept = fs::read(self.file(&self.a, "corrupt"));
        match kept {
            Ok(kept) if kept == DAMAGE => Ok(()),
            Ok(kept) => Err(format!("{} bytes of the damaged file are kept", kept.len())),
            Err(error) if self.is_damaged => Err(format!("the damaged file is gone: {error}")),
            Err(_) => Ok(()),
        }
    }

    /// When all sessions have expired, a clean-up leaves nothing but what belongs to the directory; the
    /// index of a user goes with the next one.
    pub(crate) fn check_nothing_is_left(&self) -> Result<(), String> {
        for hours in [25, 50] {
            let later = SystemTime::now() + hours * HOUR;
            let report = self.store().delete_expired(&Sweep::new(), later);
            let report = report.map_err(|error| error.one_line())?;
            if let Some(failure) = report.failures.first() {
                return Err(format!("the clean-up failed: {failure}"));
            }
        }
        for entry in fs::read_dir(self.sessions()).unwrap() {
            let name = entry.unwrap().file_name();
            let is_kept = self.is_damaged && name.to_string_lossy().ends_with(".corrupt");
            if name != ".gc" && name != ".count" && !is_kept {
                return Err(format!("{} is left behind", name.display()));
            }
        }
        Ok(())
    }
}

fn set_age(file: &Path, age: Duration) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

/// In memory where that is possible: there are thousands of runs.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}
