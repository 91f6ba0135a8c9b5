//! A configuration in code: what the program sets comes before the file and the environment.

use std::process::ExitCode;

use cgi_session::{Config, Program, Request, Response, Result, SessionManager};

fn main() -> ExitCode {
    Program::new().manager(manager).run(basket)
}

fn manager() -> Result<SessionManager> {
    // `Config::new()` reads neither; then `storageFileDir` must be set here, too.
    let config = Config::find()?
        .set("cookieName", "shop")?
        .set("cookieSameSite", "Strict")?
        .set("timeout", "7d")?;
    SessionManager::new(config)
}

fn basket(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let articles = session.get::<u64>("articles")?.unwrap_or(0) + 1;
    session.insert("articles", articles)?;
    Ok(Response::text(format!("{articles} in your basket\n")))
}
