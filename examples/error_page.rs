//! Error pages of your own, for what the handler does not answer itself: its errors, a busy session, a full disk.

use std::error::Error;
use std::process::ExitCode;

use cgi_session::{ErrorPage, Program, Request, Response};

fn main() -> ExitCode {
    Program::new().error_page(error_page).run(order)
}

fn error_page(error: &ErrorPage) -> Response {
    let text = match error.status().as_u16() {
        503 => "This takes longer than it should. Please try again in a moment.",
        500.. => "This is our fault. The log says what happened, and nothing was ordered.",
        _ => error.text(), // the library's own sentence
    };
    Response::html(format!(
        r#"<!doctype html><title>{0}</title>
<h1>{0}</h1> <p>{text}</p> <p><a href="/">Home</a></p>"#,
        error.status()
    ))
}

/// An error of any type saves nothing, and its text goes to the log alone.
fn order(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let number: u32 = request.query("number").unwrap_or_default().parse()?;
    request.session()?.insert("ordered", number)?;
    Ok(Response::text(format!("You ordered {number}.\n")))
}
