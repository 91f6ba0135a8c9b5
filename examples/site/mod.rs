//! The frame around every example's page, so that they look like one site.
#![allow(dead_code, reason = "not every example shows pages in frames")]

use cgi_session::Response;

/// A page of the site. `body` is HTML; what came from a visitor is escaped in it.
pub(crate) fn page(title: &str, body: &str) -> Response {
    document(
        title,
        &format!(
            r#"<body>
<header><a href="/"><img src="/icon.svg" alt="">cgi-session</a><a href="/">All examples</a></header>
<main>
<h1>{title}</h1>
{body}
</main>
<footer>cgi-session keeps the sessions of CGI and FastCGI programs in locked files, one for each visitor.</footer>
</body>"#
        ),
    )
}

/// A page that another one shows within itself.
pub(crate) fn frame(title: &str, body: &str) -> Response {
    document(title, &format!("<body class=\"frame\">\n{body}\n</body>"))
}

fn document(title: &str, body: &str) -> Response {
    Response::html(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css">
</head>
{body}
</html>
"#
    ))
}
