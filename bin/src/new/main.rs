//! A page with a session for each visitor.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result, Session};

fn main() -> ExitCode {
    cgi_session::run(page)
}

fn page(request: &mut Request) -> Result<Response> {
    // Opened or new; locked until the response is ready, and saved before it goes out.
    let views = count(request.session()?)?;
    Ok(Response::html(format!(
        "<!doctype html>\n<title>Hello</title>\n<p>Hello, you've been here {views} time(s)\n"
    )))
}

/// Counts a view of the page, and returns how many there were.
fn count(session: &mut Session) -> Result<u64> {
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    session.insert("pageViews", views)?;
    Ok(views)
}

#[cfg(test)]
mod tests {
    use cgi_session::{Config, SessionManager};

    use super::*;

    #[test]
    fn each_view_of_a_visitor_counts_one() -> Result<()> {
        // Sessions in memory: the test leaves nothing behind.
        let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
        let mut session = manager.start("")?;
        assert_eq!(count(&mut session)?, 1);
        let cookie = session.commit()?.map(|cookie| cookie.to_string());
        let mut session = manager.start(cookie.unwrap_or_default())?;
        assert_eq!(count(&mut session)?, 2);
        Ok(())
    }
}
