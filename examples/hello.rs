//! Counts a visitor's page views: a whole program.
use cgi_session::{Request, Response, Result};
fn main() -> std::process::ExitCode {
    cgi_session::run(hello)
}
fn hello(request: &mut Request) -> Result<Response> {
    let views = request.session()?.get("pageViews")?.unwrap_or(0_u64) + 1;
    request.session()?.insert("pageViews", views)?;
    Ok(Response::text(format!("Hello, visit {views}\n")))
}
