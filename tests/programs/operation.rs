//! Does one thing to a session, or one thing after another for ever, and says on stdout what is done:
//! `OPERATION DIRECTORY DURABILITY STORE [ID…]`. `STORE` is `file`, or how the store is broken.
//!
//! With `OPERATION_STOPS` in its environment it lets its parent trace it, and stops before it begins.

use std::env;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use cgi_session::{Config, SessionManager, SetCookie, Sweep};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

use testkit::broken::{BrokenStore, Fault};

/// How long an id that was changed with grace can still be read under.
const GRACE: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What a session of this many characters needs is another file than that of a small one.
const LARGE: usize = 20_000;

fn main() -> Outcome<()> {
    let arguments: Vec<_> = env::args().collect();
    let [_, operation, directory, durability, store, ids @ ..] = &arguments[..] else {
        return Err("usage: OPERATION DIRECTORY DURABILITY STORE [ID…]".into());
    };
    let mut config = Config::new()
        .set("storageFileDir", directory)?
        .set("durability", durability)?;
    if operation == "begin at the cap" {
        config = config.set("maxSessions", "3")?;
        config = config.set("whenFull", "evictOldest")?;
    }
    let manager = match Fault::parse(store) {
        Some(fault) => {
            let store = BrokenStore::open(fault, Path::new(directory));
            SessionManager::with_store(config, store)?
        }
        None => SessionManager::new(config)?,
    };
    if operation == "crowd" {
        return crowd(&manager, ids);
    }
    let cookie = ids.first().map(|id| format!("sessionId={id}"));
    if env::var_os("OPERATION_STOPS").is_some() {
        ptrace::traceme()?;
        raise(Signal::SIGSTOP)?;
    }
    let cookie = one(&manager, operation, &cookie.unwrap_or_default())?;
    say(&format!(
        "done {}",
        cookie.as_ref().map(id).unwrap_or_default()
    ))
}

fn one(manager: &SessionManager, operation: &str, cookie: &str) -> Outcome<Option<SetCookie>> {
    match operation {
        "destroy everywhere" => {
            manager.destroy_sessions_of("ada", None)?;
            return Ok(None);
        }
        "show" => {
            let session = manager.existing(cookie)?.ok_or("no session")?;
            let text: String = session.get("x")?.unwrap_or_default();
            say(&format!(
                "{} of {}",
                session.require::<u64>("n")?,
                text.len()
            ))?;
            std::process::exit(0);
        }
        "clean up" => {
            let report = manager.delete_expired(&Sweep::new())?;
            let failure = report.failures.into_iter().next();
            return failure.map_or(Ok(None), |failure| Err(failure.into()));
        }
        "install" => {
            let problem = manager.install().pop();
            return problem.map_or(Ok(None), |problem| Err(problem.into()));
        }
        "look" => {
            manager.read(cookie)?;
            return Ok(None);
        }
        "touch" => return Ok(manager.start(cookie)?.commit()?),
        _ => {}
    }
    let mut session = manager.start(cookie)?;
    let n = session.get::<u64>("n")?.unwrap_or_default() + 1;
    session.insert("n", n)?;
    match operation {
        "begin" | "begin at the cap" | "save" | "set aside" => {}
        "grow" | "save large" => session.insert("x", text(n, LARGE))?,
        "shrink" => drop(session.remove("x")),
        "change id" => session.regenerate_id(),
        "change id with grace" => session.regenerate_id_with_grace(GRACE),
        "change id with grace, large" => {
            session.insert("x", text(n, LARGE))?;
            session.regenerate_id_with_grace(GRACE);
        }
        "log in" => {
            session.set_user(Some("ada"))?;
            session.regenerate_id();
        }
        "stay" => session.set_timeout(Some(Duration::from_secs(2 * 24 * 3600))),
        "destroy" => return Ok(session.destroy()?),
        unknown => return Err(format!("no operation {unknown}").into()),
    }
    Ok(session.commit()?)
}

/// Saves these sessions, and begins and destroys others, until the power is cut.
fn crowd(manager: &SessionManager, ids: &[String]) -> Outcome<()> {
    let mut chance = u64::from(std::process::id()) | 1;
    let mut own = Vec::new();
    loop {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let turn = usize::try_from(chance >> 8)?;
        match chance % 8 {
            0 => {
                let cookie = one(manager, "save", "")?;
                let new = cookie.as_ref().map(id).ok_or("no cookie")?;
                say(&format!("saved {new} 1"))?;
                own.push(new);
            }
            1 if !own.is_empty() => {
                let gone = own.swap_remove(turn % own.len());
                say(&format!("ending {gone} 0"))?;
                one(manager, "destroy", &format!("sessionId={gone}"))?;
                say(&format!("ended {gone} 0"))?;
            }
            _ => {
                let id = &ids[turn % ids.len()];
                let mut session = manager.start(format!("sessionId={id}"))?;
                let n = session.require::<u64>("n")? + 1;
                session.insert("n", n)?;
                session.insert("x", text(n, turn % LARGE))?;
                session.commit()?;
                say(&format!("saved {id} {n}"))?;
            }
        }
    }
}

/// A text of a letter that no save before or after has.
fn text(n: u64, length: usize) -> String {
    ["a", "b", "c", "d"][usize::try_from(n % 4).unwrap_or_default()].repeat(length)
}

/// In one write, so that a line is never cut.
fn say(line: &str) -> Outcome<()> {
    Ok(std::io::stdout().write_all(format!("{line}\n").as_bytes())?)
}

fn id(cookie: &SetCookie) -> String {
    let text = cookie.to_string();
    let value = text.split(['=', ';']).nth(1);
    value.unwrap_or_default().to_owned()
}
