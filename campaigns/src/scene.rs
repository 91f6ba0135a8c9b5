//! [`Scene`]: a directory of sessions as it is before an operation, and what the next requests must find after it.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;

use cgi_session::{Result, Stored};
use testkit::broken::Fault;
use testkit::prelude::*;

use crate::operation::{LARGE, Operation, Traced, USER, id_in, text};
use crate::process::{Role, Task};
use crate::subject::Subject;
use crate::tracer::Tracer;

/// What is wrong is the error.
type Checked = std::result::Result<(), String>;

const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const NOT_IN_INDEX: &str = "a session of the user is not in the index";
/// What `A` holds in the older record of its file.
pub(crate) const SAVED_BEFORE: u64 = 7;
/// What a damaged session holds.
const DAMAGE: [u8; 3000] = [b'?'; 3000];

/// What there is before an operation. `A` is the session that it is about, with 5 page views; `B`, with 7,
/// must never change.
pub(crate) struct Scene {
    pub(crate) operation: Operation,
    pub(crate) subject: Subject,
    pub(crate) a: SessionId,
    b: SessionId,
    has_torn: bool,
    /// The latest saves may be taken back, and `A` lost.
    may_lose: bool,
}

/// What is found: the page views of `A`, of `B`, and of all other sessions in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) a: Option<u64>,
    /// A change of id has left its marker under the id of `A`.
    pub(crate) is_marked: bool,
    pub(crate) b: Option<u64>,
    pub(crate) others: Vec<u64>,
}

impl State {
    /// With `B` as it was; 0 means that there is no session `A`.
    pub(crate) fn new(a: u64, others: &[u64]) -> Self {
        State {
            a: Some(a).filter(|a| *a > 0),
            is_marked: false,
            b: Some(7),
            others: others.to_vec(),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u64>| n.map_or("none".to_owned(), |n| n.to_string());
        let marker = if self.is_marked { " (marker)" } else { "" };
        let (a, b) = (number(self.a), number(self.b));
        write!(f, "A={a}{marker} B={b} others={:?}", self.others)
    }
}

impl Scene {
    /// Fills an empty or missing directory with the sessions that this operation begins with.
    pub(crate) fn set(operation: Operation, subject: &Subject, directory: &Path) -> Self {
        let subject = match operation {
            Operation::Evict => subject
                .clone()
                .with("maxSessions", "3")
                .with("whenFull", "evictOldest"),
            _ => subject.clone(),
        };
        let scene = Scene {
            operation,
            subject,
            a: id(),
            b: id(),
            has_torn: false,
            may_lose: false,
        };
        if operation == Operation::Install {
            return scene;
        }
        let length = match operation {
            Operation::Shrink | Operation::SaveLarge => LARGE,
            _ => 0,
        };
        let manager = scene.sound(directory);
        let store = manager.store();
        let of_user = (operation == Operation::LogoutEverywhere).then_some(USER);
        scene.put(store, &scene.a, 5, length, of_user);
        scene.put(store, &scene.b, 7, 0, None);
        let destroyed = id();
        scene.put(store, &destroyed, 9, 0, None);
        let found = store.lock(&destroyed.digest(), HOUR, SystemTime::now());
        found.unwrap().unwrap().1.destroy().unwrap();
        let other = |n: u64, user: Option<&str>, age: Duration| {
            let other = id();
            scene.put(store, &other, n, 0, user);
            set_age(&file(directory, &other, "json"), age);
        };
        match operation {
            Operation::Touch | Operation::Look => {
                set_age(&file(directory, &scene.a, "json"), HOUR / 2);
            }
            Operation::SetAside => fs::write(file(directory, &scene.a, "json"), DAMAGE).unwrap(),
            Operation::Evict => other(2, None, HOUR / 2),
            Operation::LogoutEverywhere => {
                other(3, Some(USER), Duration::ZERO);
                other(4, Some(USER), Duration::ZERO);
            }
            Operation::CleanUp => {
                other(2, None, 2 * HOUR);
                other(2, None, 2 * HOUR);
                let orphan = directory.join(".tmp-1-0123456789abcdef");
                fs::write(&orphan, "left behind").unwrap();
                set_age(&orphan, 2 * HOUR);
            }
            _ => {}
        }
        scene
    }

    /// After a power cut: a session that was about to be created, and whose id no client has, may be damaged.
    /// Without durability `A` may be, which no request reads then, and what is kept aside or in the index of a
    /// user may be missing.
    pub(crate) fn after_power_cut(mut self, is_durable: bool) -> Self {
        (self.has_torn, self.may_lose) = (true, !is_durable);
        self
    }

    /// Stores a session whose file holds an older record beside this one.
    fn put(&self, store: &dyn Store, id: &SessionId, n: u64, length: usize, user: Option<&str>) {
        let (now, key) = (SystemTime::now(), self.key());
        let record = |n: u64| {
            let text = text(n, length);
            let values = format!(r#"{{"":{{"{key}":{n},"x":"{text}"}}}}"#);
            let record = Record::new(now).with_values(values.into_bytes());
            record.with_user(user)
        };
        let created = store.create(&id.digest(), &record(n + 2), now).unwrap();
        let mut lease = created.expect("a new id");
        lease.commit(&record(n), now).unwrap();
    }

    /// A manager that keeps all promises with the files of the subject.
    fn sound(&self, directory: &Path) -> SessionManager {
        let fault = self.subject.fault();
        // Of one that leaves files behind, these are what is looked for.
        let is_sound = fault.is_none_or(|fault| fault == Fault::LeaveTemporary);
        let mut subject = self.subject.clone();
        if !is_sound {
            subject.name = format!("{:?}", Fault::Nothing);
        }
        subject.open(directory).unwrap()
    }

    /// Under which the program counts.
    fn key(&self) -> &'static str {
        if self.operation.is_page() {
            "pageViews"
        } else {
            "n"
        }
    }

    /// Starts the operation, which stops before its first call on the directory.
    pub(crate) fn start(&self, directory: &Path) -> Tracer {
        let role = Role::Traced(Traced {
            operation: self.operation,
            id: self.a.secret().to_owned(),
        });
        let command = Task::new(&self.subject, directory, role).command();
        Tracer::start(command, directory)
    }

    /// What is wrong with what is found after an operation whose process said this.
    pub(crate) fn check(
        &self,
        directory: &Path,
        is_allowed: impl Fn(&State) -> bool,
        said: &str,
    ) -> Checked {
        let manager = self.sound(directory);
        let found = self.state(manager.store());
        let found = found.map_err(|error| format!("cannot be read: {}", error.one_line()))?;
        if !is_allowed(&found) {
            let is_acknowledged = self.operation.is_acknowledged(said);
            let told = if is_acknowledged { "" } else { "not " };
            return Err(format!("{told}acknowledged, and found {found}"));
        }
        Scene::check_new_id(&manager, said)?;
        if !self.may_lose {
            check_index(manager.store())?;
        }
        self.check_next_requests(&manager, &found)?;
        self.check_damage(directory)?;
        self.check_nothing_is_left(manager.store(), directory)
    }

    fn state(&self, store: &dyn Store) -> Result<State> {
        let now = SystemTime::now();
        let (a, b) = (self.a.digest(), self.b.digest());
        let is_damaged = self.operation == Operation::SetAside;
        let found = if is_damaged {
            None
        } else {
            store.read(&a, now)?
        };
        let is_marked = found.as_ref().is_some_and(|found| found.record.is_marker());
        let found = found.filter(|_| !is_marked);
        let views = |found: Stored| self.views(&found.record);
        let mut state = State {
            a: found.map(views),
            is_marked,
            b: store.read(&b, now)?.map(views),
            others: Vec::new(),
        };
        let mut wrong = None;
        store.for_each(
            &mut |digest, stored| {
                match stored {
                    Err(_) if (is_damaged || self.may_lose) && *digest == a => {}
                    Err(_) if self.has_torn && *digest != a && *digest != b => {}
                    Err(error) => wrong = Some(error),
                    Ok(_) if *digest == a || *digest == b => {}
                    Ok(stored) => state.others.push(self.views(&stored.record)),
                }
                ControlFlow::Continue(())
            },
            now,
        )?;
        state.others.sort_unstable();
        wrong.map_or(Ok(state), Err)
    }

    fn views(&self, record: &Record) -> u64 {
        let values: Value = serde_json::from_slice(record.values()).unwrap();
        let n = values[""][self.key()].as_u64().unwrap();
        let x = values[""]["x"].as_str().unwrap_or_default();
        assert!(x == text(n, x.len()), "its text is that of another save");
        n
    }

    /// An id that was told is that of a session.
    fn check_new_id(manager: &SessionManager, said: &str) -> Checked {
        let id = match said.strip_prefix("done ") {
            Some(id) => id.trim_end(),
            None => id_in(said),
        };
        let Some(id) = SessionId::parse(id.as_bytes()) else {
            return Ok(());
        };
        match manager.read(cookie(id.secret())) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("a cookie for a session that was not stored".to_owned()),
            Err(error) => Err(error.one_line()),
        }
    }

    /// The next request of `A` and of `B`: both go on from what was found, and a client without a session gets
    /// one.
    fn check_next_requests(&self, manager: &SessionManager, found: &State) -> Checked {
        for (cookie, before, is_marked) in [
            (cookie(self.a.secret()), found.a, found.is_marked),
            (cookie(self.b.secret()), found.b, false),
            (String::new(), None, false),
        ] {
            let counted = manager.update(cookie, |session| {
                if session.is_replaced() {
                    return Ok(None);
                }
                let views = session.get::<u64>(self.key())?.unwrap_or(0) + 1;
                session.insert(self.key(), views)?;
                Ok(Some(views))
            });
            match counted {
                Err(Error::Replaced) if is_marked => {}
                Ok((Some(views), _)) if !is_marked && views == before.unwrap_or(0) + 1 => {}
                Ok((None, _)) if self.operation.states().iter().any(|it| it.a == before) => {}
                other => return Err(format!("{before:?} was followed by {other:?}")),
            }
        }
        Ok(())
    }

    /// What is damaged is kept, under its name or aside.
    fn check_damage(&self, directory: &Path) -> Checked {
        let is_kept = |ending: &str| {
            fs::read(file(directory, &self.a, ending)).is_ok_and(|bytes| bytes == DAMAGE)
        };
        let is_needed = self.operation == Operation::SetAside && !self.may_lose;
        if is_needed && !is_kept("json") && !is_kept("corrupt") {
            return Err("the damaged session is kept nowhere".to_owned());
        }
        Ok(())
    }

    /// When all sessions have expired, a clean-up leaves nothing but what belongs to the directory; the
    /// index of a user goes with the next one.
    fn check_nothing_is_left(&self, store: &dyn Store, directory: &Path) -> Checked {
        for days in [40, 80] {
            let later = SystemTime::now() + days * 24 * HOUR;
            let report = store.delete_expired(&Sweep::new(), later);
            let report = report.map_err(|error| error.one_line())?;
            if let Some(failure) = report.failures.first() {
                return Err(format!("the clean-up failed: {failure}"));
            }
        }
        for entry in fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name();
            let is_damage = self.operation == Operation::SetAside;
            let is_kept = is_damage && name.to_string_lossy().ends_with(".corrupt");
            if name != ".gc" && name != ".count" && !is_kept {
                return Err(format!("{} is left behind", name.display()));
            }
        }
        Ok(())
    }
}

/// The index knows every session of the user.
fn check_index(store: &dyn Store) -> Checked {
    let now = SystemTime::now();
    let mut of_user = Vec::new();
    let mut note = |digest: &SessionDigest, stored: Result<Stored>| {
        if stored.is_ok_and(|stored| stored.record.user() == Some(USER)) {
            of_user.push(*digest);
        }
        ControlFlow::Continue(())
    };
    let told = |error: Error| error.one_line();
    store.for_each(&mut note, now).map_err(told)?;
    let known = store.sessions_of(USER, now).map_err(told)?;
    match of_user.iter().find(|session| !known.contains(session)) {
        Some(_) => Err(NOT_IN_INDEX.to_owned()),
        None => Ok(()),
    }
}

pub(crate) fn cookie(id: &str) -> String {
    format!("sessionId={id}")
}

fn id() -> SessionId {
    SessionId::generate().unwrap()
}

fn file(directory: &Path, id: &SessionId, ending: &str) -> PathBuf {
    directory.join(format!("{}.{ending}", id.digest()))
}

fn set_age(file: &Path, age: Duration) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

/// Copies a directory of sessions, if it is there, with the times of its files.
pub(crate) fn copy(from: &Path, to: &Path) {
    if !from.exists() {
        return;
    }
    DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(std::result::Result::unwrap) {
        let copy = to.join(entry.file_name());
        fs::copy(entry.path(), &copy).unwrap();
        let file = File::options().write(true).open(&copy).unwrap();
        let modified = entry.metadata().unwrap().modified().unwrap();
        file.set_modified(modified).unwrap();
    }
}
