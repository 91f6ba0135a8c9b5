//! Does one thing with sessions and says `done` when that was acknowledged: for tests that have it die
//! or fail on the way.
//!
//! `operate OPERATION DIRECTORY ID DURABILITY [FAULT]`; a fault is one of a store that is broken on purpose.

use std::env;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cgi_session::{Config, Error, Result, Session, SessionManager, Sweep};

#[path = "../support/broken.rs"]
mod broken;

use broken::{BrokenStore, Fault};

const USER: &str = "ada";
const GRACE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match operate() {
        Ok(()) => match std::io::stdout().write_all(b"done\n") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("operate: {}", error.one_line());
            ExitCode::FAILURE
        }
    }
}

fn operate() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [operation, directory, id, durability, fault @ ..] = &*arguments else {
        return Err(Error::Config("operate: arguments are missing".to_owned()));
    };
    let manager = manager(operation, Path::new(directory), durability, fault.first())?;
    let cookie = format!("sessionId={id}");
    match &**operation {
        "first" | "evict" => {
            let mut session = manager.start("")?;
            session.insert("pageViews", 100)?;
            session.commit().map(drop)
        }
        "save" => count(manager.start(&cookie)?, None),
        "grow" => count(manager.start(&cookie)?, Some(20_000)),
        "shrink" => count(manager.start(&cookie)?, Some(0)),
        "touch" => manager.start(&cookie)?.commit().map(drop),
        "look" => manager.read(&cookie).map(drop),
        "regenerate" => {
            let mut session = manager.start(&cookie)?;
            session.regenerate_id();
            count(session, None)
        }
        "grace" => {
            let mut session = manager.start(&cookie)?;
            session.regenerate_id_with_grace(GRACE);
            count(session, None)
        }
        "destroy" => manager.start(&cookie)?.destroy().map(drop),
        "login" => {
            let mut session = manager.start(&cookie)?;
            session.set_user(Some(USER))?;
            session.regenerate_id();
            count(session, None)
        }
        "logout everywhere" => manager.destroy_sessions_of(USER, None).map(drop),
        "clean-up" => {
            let report = manager.delete_expired(&Sweep::new())?;
            match report.failures.first() {
                Some(failure) => Err(Error::store("cannot clean up", failure.clone())),
                None => Ok(()),
            }
        }
        "install" => match manager.install().pop() {
            Some(error) => Err(error),
            None => Ok(()),
        },
        other => Err(Error::Config(format!("no operation {other}"))),
    }
}

fn manager(
    operation: &str,
    directory: &Path,
    durability: &str,
    fault: Option<&String>,
) -> Result<SessionManager> {
    let mut config = Config::new()
        .set("storageFileDir", directory)?
        .set("durability", durability)?;
    if operation == "evict" {
        config = config
            .set("maxSessions", "3")?
            .set("whenFull", "evictOldest")?;
    }
    match fault.and_then(|name| Fault::parse(name)) {
        None => SessionManager::new(config),
        Some(fault) => {
            let store = BrokenStore::open(fault, directory);
            SessionManager::with_store(config, store)
        }
    }
}

/// Counts one, in a session that holds so many bytes more from then on.
fn count(mut session: Session, bytes: Option<usize>) -> Result<()> {
    let views: u64 = session.require("pageViews")?;
    session.insert("pageViews", views + 1)?;
    if let Some(bytes) = bytes {
        session.insert("padding", "x".repeat(bytes))?;
    }
    session.commit().map(drop)
}
