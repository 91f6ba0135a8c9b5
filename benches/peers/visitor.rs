//! One page view of a visitor.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) cookie: Option<String>,
    /// How often the visitor has been here, if the page says so as it should.
    pub(crate) views: Option<u64>,
}

pub(crate) fn visit(port: u16, method: &str, path: &str, cookie: Option<&str>) -> io::Result<Page> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    // An answer in HTTP/1.0 comes in one piece.
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n{cookie}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(page(&String::from_utf8_lossy(&answer)))
}

fn page(answer: &str) -> Page {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let cookie = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then_some(value)
    });
    let views = body
        .split_once("<p>Hello, you've been here ")
        .and_then(|(_, rest)| rest.split_once(" time(s)</p>"));
    Page {
        status: status.unwrap_or(0),
        cookie: cookie
            .and_then(|cookie| cookie.split(';').next())
            .map(str::to_owned),
        views: views.and_then(|(number, _)| number.parse().ok()),
    }
}
