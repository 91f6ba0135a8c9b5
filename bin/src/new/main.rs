//! A page with a session for each visitor.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};

fn main() -> ExitCode {
    cgi_session::run(page)
}

fn page(request: &mut Request) -> Result<Response> {
    // Opened or new; locked until the response is ready, and saved before it goes out.
    let session = request.session()?;
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    session.insert("pageViews", views)?;
    Ok(Response::html(format!(
        "<!doctype html>\n<title>Hello</title>\n<p>Hello, you've been here {views} time(s)\n"
    )))
}

#[cfg(test)]
mod tests {
    use cgi_session::Client;

    use super::*;

    #[test]
    fn each_view_of_a_visitor_counts_one() {
        // A client with cookies, and sessions in memory: the test leaves nothing behind.
        let client = Client::default();
        for views in 1..=2 {
            let response = client.get("/").send(page);
            let text = response.body_text();
            assert!(text.contains(&format!("here {views} time(s)")), "{text}");
        }
    }
}
