//! A login among other requests of its session (`?do=`), which are told how long to take (`&ms=`).

use std::error::Error;
use std::thread;
use std::time::Duration;

use cgi_session::{Request, Response, Session};

pub(crate) fn race(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let takes = request.query("ms").and_then(|ms| ms.parse().ok());
    let take = || thread::sleep(Duration::from_millis(takes.unwrap_or(0)));
    let user = match &*request.query("do").unwrap_or_default() {
        "login" => {
            let session = request.session()?;
            session.regenerate_id();
            session.insert("user", "ada")?;
            take();
            session.get::<String>("user")?
        }
        "open" => {
            let session = request.session()?;
            count(session)?;
            session.get::<String>("user")?
        }
        // It commits and answers later.
        "early" => {
            let user = request.update_session(|session| {
                count(session)?;
                session.get::<String>("user")
            })?;
            take();
            user
        }
        "existing" => match request.existing_session()? {
            Some(session) => session.get::<String>("user")?,
            None => None,
        },
        "read" => match request.read_session()? {
            Some(session) => session.get::<String>("user")?,
            None => None,
        },
        "destroy" => {
            request.destroy_session()?;
            None
        }
        other => return Err(format!("nobody can do {other}").into()),
    };
    let user = user.unwrap_or_else(|| "nobody".to_owned());
    Ok(Response::text(format!("{user} is here\n")))
}

fn count(session: &mut Session) -> cgi_session::Result<()> {
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    session.insert("pageViews", views)
}
