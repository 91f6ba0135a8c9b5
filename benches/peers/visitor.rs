//! One page view of a visitor.

use std::io;

use testkit::client::Client;

/// What came back.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) cookie: Option<String>,
    /// How often the visitor has been here, if the page says so as it should.
    pub(crate) views: Option<u64>,
}

pub(crate) fn visit(port: u16, method: &str, path: &str, cookie: Option<&str>) -> io::Result<Page> {
    let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    let head = format!("{method} {path} HTTP/1.1\r\nContent-Length: 0\r\n{cookie}");
    let answer = Client::new(port).try_request(head.as_bytes(), b"")?;
    let pair = |cookie: &String| cookie.split(';').next().unwrap_or_default().to_owned();
    Ok(Page {
        status: answer.status.as_u16(),
        cookie: answer.set_cookies().first().map(pair),
        views: answer.count(),
    })
}
