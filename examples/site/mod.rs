//! The frame around every example's page, so that they look like one site.

use cgi_session::Response;

/// A page of the site. `body` is HTML; what came from a visitor is escaped in it.
pub(crate) fn page(title: &str, body: &str) -> Response {
    Response::html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n\
         <header><a href=\"/\">cgi-session</a></header>\n\
         <main>\n<h1>{title}</h1>\n{body}\n</main>\n</html>\n"
    ))
}
