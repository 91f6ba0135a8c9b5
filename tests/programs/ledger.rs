//! A program that counts, and on request makes its session larger or smaller (`?bytes=`) or gives it
//! a new id (`?renew=1`).

use std::error::Error;

use cgi_session::{Request, Response};

pub(crate) fn ledger(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let bytes: Option<usize> = request.query("bytes").and_then(|bytes| bytes.parse().ok());
    let is_renewed = request.query("renew").is_some_and(|renew| renew == "1");
    let session = request.session()?;
    let padding: String = session.get("padding")?.unwrap_or_default();
    if padding.len() != session.get::<usize>("bytes")?.unwrap_or_default() {
        return Err("the session holds parts of two commits".into());
    }
    if let Some(bytes) = bytes {
        session.insert("bytes", bytes)?;
        session.insert("padding", "x".repeat(bytes))?;
    }
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    session.insert("pageViews", views)?;
    if is_renewed {
        session.regenerate_id();
    }
    Ok(Response::text(format!(
        "Hello, you've been here {views} time(s)\n"
    )))
}
