//! Counts a visitor's page views: the first example of CherryPy's chapter on sessions.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};

mod site;

fn main() -> ExitCode {
    cgi_session::run(counter)
}

pub(crate) fn counter(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    session.insert("pageViews", views)?;

    let body = format!(
        r#"<p class="answer">Hello, you've been here {views} time(s)</p>
<p class="actions"><a class="button" href="counter">Count again</a></p>
<p class="note">CherryPy's chapter on sessions begins with this page. Reload it in as many tabs as you
like: each view is a process of its own, and each is counted.</p>"#
    );
    Ok(site::page("Counter", &body))
}

#[cfg(test)]
mod tests {
    use cgi_session::Client;

    use super::counter;

    #[test]
    fn each_view_of_a_visitor_counts_one() {
        let client = Client::default();
        for views in 1..=3 {
            let page = client.get("/counter").send(counter);
            let text = page.body_text();
            assert!(text.contains(&format!("here {views} time(s)")), "{text}");
        }
    }
}
