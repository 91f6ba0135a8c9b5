//! Counts page views in a session of some 500 bytes. The peers' programs beside this one store the
//! same and answer the same.

mod visitor;

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};
use visitor::VISITOR;

fn main() -> ExitCode {
    cgi_session::run(count)
}

fn count(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    if views == 1 {
        for (key, value) in VISITOR {
            session.insert(key, value)?;
        }
    }
    session.insert("pageViews", views)?;
    Ok(Response::html(format!(
        "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here {views} time(s)</p>\n"
    )))
}
