//! Counts page views in a session of some 500 bytes. The peers' programs beside this one store the
//! same and answer the same.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};

const VISITOR: [(&str, &str); 9] = [
    ("name", "Ada Lovelace"),
    ("mail", "ada.lovelace@example.org"),
    ("language", "en-GB,en;q=0.8,fr;q=0.5"),
    (
        "address",
        "12 St James's Square, London SW1Y 4LE, United Kingdom",
    ),
    (
        "basket",
        "4711:1,4712:3,4713:2,4714:1,4715:5,4716:1,4717:2,4718:4",
    ),
    (
        "seen",
        "/,/books,/books/4711,/books/4712,/basket,/books/4713,/basket,/books/4714,/checkout",
    ),
    (
        "agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    ),
    ("theme", "dark"),
    ("note", "Please leave the parcel with the neighbours"),
];

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
