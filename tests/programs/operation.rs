//! Does one thing to a session, and says on stdout what is done: `OPERATION DIRECTORY DURABILITY STORE [ID]`.
//! `STORE` is `file`, or how the store is broken.

use std::env;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use cgi_session::{Config, SessionManager};
use testkit::broken::{BrokenStore, Fault};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    let [_, operation, directory, durability, store, ids @ ..] = &arguments[..] else {
        return Err("usage: OPERATION DIRECTORY DURABILITY STORE [ID]".into());
    };
    let config = Config::new().set("storageFileDir", directory)?;
    let config = config.set("durability", durability)?;
    let manager = match Fault::parse(store) {
        Some(fault) => {
            let store = BrokenStore::open(fault, Path::new(directory));
            SessionManager::with_store(config, store)?
        }
        None => SessionManager::new(config)?,
    };
    let id = ids.first().map_or("", String::as_str);
    let mut session = manager.start(format!("sessionId={id}"))?;
    if operation == "show" {
        let text: String = session.get("x")?.unwrap_or_default();
        return say(&format!(
            "{} of {}",
            session.require::<u64>("n")?,
            text.len()
        ));
    }
    let n = session.get::<u64>("n")?.unwrap_or_default() + 1;
    session.insert("n", n)?;
    match operation.as_str() {
        "begin" | "save" => {}
        // What needs another file than a small session.
        "grow" => session.insert("x", "b".repeat(20_000))?,
        "stay" => session.set_timeout(Some(Duration::from_secs(2 * 24 * 3600))),
        unknown => return Err(format!("no operation {unknown}").into()),
    }
    let cookie = session.commit()?.map(|cookie| cookie.to_string());
    let id = cookie.as_deref();
    let id = id.and_then(|cookie| cookie.split(['=', ';']).nth(1));
    say(&format!("done {}", id.unwrap_or_default()))
}

/// In one write, so that a line is never cut.
fn say(line: &str) -> Result<(), Box<dyn Error>> {
    Ok(std::io::stdout().write_all(format!("{line}\n").as_bytes())?)
}
