//! A program that takes large bodies and remembers how many bytes came.
//!
//! The session is opened and changed before the body is read, so that a body that breaks off finds
//! something that must not be saved. `?ignore=1` leaves the body unread.

use std::error::Error;
use std::io;

use cgi_session::{Request, Response};

/// More than any test sends.
const LIMIT: u64 = 1 << 30;

pub(crate) fn upload(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let is_ignored = request.query("ignore").is_some_and(|ignore| ignore == "1");
    let session = request.session()?;
    let uploads = session.get::<u64>("uploads")?.unwrap_or(0) + 1;
    session.insert("uploads", uploads)?;

    let bytes = if is_ignored {
        0
    } else {
        io::copy(&mut request.body(LIMIT), &mut io::sink())?
    };
    request.session()?.insert("received", bytes)?;
    Ok(Response::text(format!(
        "upload {uploads}, {bytes} bytes received\n"
    )))
}
