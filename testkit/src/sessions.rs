//! A manager in a directory of its own, and a visitor with a cookie.

use std::thread::{Scope, ScopedJoinHandle};

use crate::prelude::*;
use cgi_session::SetCookie;

/// A site: one directory, and as many managers as there are programs.
pub struct Site {
    config: Config,
    directory: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        Site::with(&[])
    }

    pub fn with(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sessions = directory.path().join("sessions");
        let config = Config::new().set("storageFileDir", sessions).unwrap();
        Site {
            config: set(config, settings),
            directory,
        }
    }

    /// A program of the site.
    pub fn manager(&self) -> SessionManager {
        SessionManager::new(self.config.clone()).unwrap()
    }

    /// A program with settings of its own.
    pub fn manager_with(&self, settings: &[(&str, &str)]) -> SessionManager {
        SessionManager::new(set(self.config.clone(), settings)).unwrap()
    }

    pub fn path(&self, id: &SessionId) -> PathBuf {
        FileStore::new(&self.config).unwrap().path(id)
    }

    /// The number of files but markers of a changed id; 0 when the directory was never made.
    pub fn sessions(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.directory.path().join("sessions")) else {
            return 0;
        };
        let files = entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let is_marker = |text: &String| text.contains(r#""replaced":"marker""#);
        files.filter(|text| !is_marker(text)).count()
    }

    /// Whether anything was ever stored.
    pub fn is_untouched(&self) -> bool {
        fs::read_dir(self.directory.path()).unwrap().count() == 0
    }

    /// A visitor who has been here: the session holds `pageViews` 1.
    pub fn visitor(&self) -> SessionId {
        let mut session = self.manager().start(b"").unwrap();
        session.insert("pageViews", 1).unwrap();
        session.save().unwrap();
        session.id().unwrap().clone()
    }

    /// A site and the session of a request without a cookie.
    pub fn begun() -> (Self, Session) {
        let site = Site::new();
        let session = site.manager().start("").unwrap();
        (site, session)
    }

    /// A site with one visitor, whose session a request has open.
    #[track_caller]
    pub fn opened() -> (Self, SessionId, Session) {
        let site = Site::new();
        let id = site.visitor();
        let session = site.open(&id);
        (site, id, session)
    }

    /// The session of a visitor, open in a request.
    #[track_caller]
    pub fn open(&self, id: &SessionId) -> Session {
        self.manager().start(cookie(id)).unwrap()
    }

    /// A request of a visitor that changes the session; the cookie that it is given.
    #[track_caller]
    pub fn change(&self, id: &SessionId, change: impl FnOnce(&mut Session)) -> Option<SetCookie> {
        self::change(&self.manager(), cookie(id), change)
    }

    /// The values as a reader finds them.
    pub fn views(&self, id: &SessionId) -> Option<u64> {
        let snapshot = self.manager().read(cookie(id)).unwrap();
        snapshot.and_then(|snapshot| snapshot.get("pageViews").unwrap())
    }

    pub fn set_modified(&self, id: &SessionId, time: SystemTime) {
        let file = fs::File::options().write(true).open(self.path(id));
        file.unwrap().set_modified(time).unwrap();
    }
}

/// A configuration with these settings, too.
#[track_caller]
pub fn set(config: Config, settings: &[(&str, &str)]) -> Config {
    settings.iter().fold(config, |config, (key, value)| {
        config.set(key, value).unwrap()
    })
}

/// A manager of sessions in memory, with these settings.
#[track_caller]
pub fn in_memory(settings: &[(&str, &str)]) -> SessionManager {
    let config = set(Config::new(), &[("storageType", "ram")]);
    SessionManager::new(set(config, settings)).unwrap()
}

/// A request with this Cookie header that changes its session; the cookie that it is given.
#[track_caller]
pub fn change(
    manager: &SessionManager,
    cookie: impl AsRef<[u8]>,
    change: impl FnOnce(&mut Session),
) -> Option<SetCookie> {
    let mut session = manager.start(cookie).unwrap();
    change(&mut session);
    session.commit().unwrap()
}

/// The Cookie header of a visitor.
pub fn cookie(id: &SessionId) -> String {
    format!("other=1; sessionId={}", id.secret())
}

/// The Cookie header of a client that was given this.
#[track_caller]
pub fn header_of(set_cookie: Option<SetCookie>) -> String {
    let text = set_cookie.expect("a cookie").to_string();
    text.split(';').next().unwrap().to_owned()
}

/// The id that a Set-Cookie header gives.
#[track_caller]
pub fn given_id(set_cookie: Option<SetCookie>) -> SessionId {
    let header = header_of(set_cookie);
    let value = header.strip_prefix("sessionId=").unwrap();
    SessionId::parse(value.as_bytes()).expect("an id")
}

/// Counts one page view.
#[track_caller]
pub fn count(session: &mut Session) -> u64 {
    let views = session.get::<u64>("pageViews").unwrap().unwrap_or(0) + 1;
    session.insert("pageViews", views).unwrap();
    views
}

/// Logs in as a new visitor.
///
/// # Errors
///
/// When the login fails.
pub fn login(manager: &SessionManager, user: &str) -> Result<SessionId, Error> {
    enter(manager.start("")?, user)
}

fn enter(mut session: Session, user: &str) -> Result<SessionId, Error> {
    count(&mut session);
    session.set_user(Some(user))?;
    session.regenerate_id();
    session.commit().map(given_id)
}

/// Lets eight threads log in at once, of which every other one has a session already, where a user may have three
/// sessions. The managers are those of two programs.
pub fn log_in_at_once(managers: [&SessionManager; 2], is_refused: bool) {
    let (barrier, is_over) = (Barrier::new(8), AtomicBool::new(false));
    let most = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(managers[0].sessions_of("ada").unwrap().len());
            }
            most
        });
        let enter_often = |number: usize| {
            let manager = managers[number % 2];
            let begin = || {
                let mut guest = manager.start("").unwrap();
                if number < 4 {
                    count(&mut guest);
                    let guest = given_id(guest.commit().unwrap());
                    return manager.start(cookie(&guest)).unwrap();
                }
                guest
            };
            barrier.wait();
            let refused = (0..5).filter(|_| match enter(begin(), "ada") {
                Ok(_) => false,
                Err(Error::UserFull { .. }) => true,
                Err(error) => panic!("{error}"),
            });
            refused.count()
        };
        let threads = (0..8).map(|it| scope.spawn(move || enter_often(it)));
        let threads: Vec<_> = threads.collect();
        let refused: usize = threads.into_iter().map(|it| it.join().unwrap()).sum();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(refused, if is_refused { 37 } else { 0 });
        watch.join().unwrap()
    });
    assert!(most <= 3, "{most} at once");
    assert_eq!(managers[0].sessions_of("ada").unwrap().len(), 3);
}

/// The name of a thread that is to wait for a session that another thread of this process holds.
pub const WAITER: &str = "waiter";

/// Starts a thread that will wait.
pub fn spawn_waiter<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let waiter = thread::Builder::new().name(WAITER.to_owned());
    waiter.spawn_scoped(scope, work).unwrap()
}

/// Whether a thread of [`spawn_waiter`] waits.
pub fn is_waiting() -> bool {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut states = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    states.any(|stat| stat.contains(&format!("({WAITER}) S")))
}
