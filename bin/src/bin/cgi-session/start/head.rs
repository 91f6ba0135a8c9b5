//! The header block that a CGI program prints before its page (RFC 3875, 6).

use cgi_session::Response;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The longest header block.
const LONGEST: usize = 1 << 16;

/// Takes a program's output apart; the text says what is wrong with it.
pub(super) fn response(mut output: Vec<u8>) -> Result<Response, String> {
    let mut headers = HeaderMap::new();
    let mut status = None;
    let mut rest = output.as_slice();
    loop {
        let line = next_line(&mut rest)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        if name == "status" {
            status = Some(code(&value)?);
        } else {
            headers.append(name, value);
        }
        if output.len() - rest.len() > LONGEST {
            return Err("its header block is longer than 64 KiB".to_owned());
        }
    }
    if status.is_none() && !headers.contains_key(CONTENT_TYPE) && !headers.contains_key(LOCATION) {
        return Err("its header block has no Content-Type, Location or Status".to_owned());
    }
    // Said in full: a bare `Location: /page` makes a server answer with that page itself, and
    // the cookie would be lost.
    let usual = if headers.contains_key(LOCATION) {
        StatusCode::FOUND
    } else {
        StatusCode::OK
    };
    let body = output.len() - rest.len();
    output.drain(..body);
    let mut response = Response::text(output).with_status(status.unwrap_or(usual));
    *response.headers_mut() = headers;
    Ok(response)
}

/// Takes the next line off, without its end.
fn next_line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Err("there is no empty line after its header block".to_owned());
    };
    let (line, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

fn field(line: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let colon = line.iter().position(|byte| *byte == b':');
    let parsed = colon.and_then(|colon| {
        let (name, value) = line.split_at(colon);
        let value = value.get(1..)?.trim_ascii();
        let name = HeaderName::from_bytes(name).ok()?;
        Some((name, HeaderValue::from_bytes(value).ok()?))
    });
    parsed.ok_or_else(|| {
        let line = String::from_utf8_lossy(line.get(..line.len().min(40)).unwrap_or_default());
        format!("{line:?} is no header field, and no empty line comes before it")
    })
}

/// `404 Not Found`: the words are the server's own affair.
fn code(value: &HeaderValue) -> Result<StatusCode, String> {
    let digits = value.as_bytes().split(u8::is_ascii_whitespace).next();
    StatusCode::from_bytes(digits.unwrap_or_default())
        .map_err(|_| format!("{value:?} is no status; it is written as in `Status: 404 Not Found`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Result<Response, String> {
        response(output.as_bytes().to_vec())
    }

    #[test]
    fn lines_may_end_as_in_http_or_as_in_unix() {
        for end in ["\n", "\r\n"] {
            let output =
                format!("Content-Type: text/html{end}Status: 404 Not Found{end}{end}a\n\nb");
            let page = read(&output).unwrap();
            assert_eq!(page.status(), StatusCode::NOT_FOUND);
            assert_eq!(page.headers()[CONTENT_TYPE], "text/html");
            assert_eq!((page.headers().len(), page.body()), (1, &b"a\n\nb"[..]));
        }
    }

    #[test]
    fn several_cookies_of_the_programs_own_are_kept() {
        let page = read("Set-Cookie: a=1\nContent-Type: text/plain\nSet-Cookie: b=2\n\n").unwrap();
        assert_eq!(page.headers().get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn a_bare_location_is_a_redirect_by_the_client() {
        assert_eq!(
            read("Location: /page\n\n").unwrap().status(),
            StatusCode::FOUND
        );
        let other = read("Status: 303 See Other\nLocation: /page\n\n");
        assert_eq!(other.unwrap().status(), StatusCode::SEE_OTHER);
    }

    #[test]
    fn output_without_a_header_block_is_refused() {
        for output in [
            "",
            "\n",
            "<html>a page</html>\n\n",
            "Content-Type: text/html",
            "Content-Type: text/html\npage",
            "HTTP/1.1 200 OK\nContent-Type: text/html\n\n",
            "X-Other: 1\n\n",
            "Status: fine\n\n",
            "Content-Type: text/html\n folded\n\n",
            "Content-Type: a\u{1}b\n\n",
        ] {
            assert!(read(output).is_err(), "{output:?}");
        }
        let long = format!("Content-Type: text/html\nX: {}\n\n", "x".repeat(LONGEST));
        assert!(read(&long).is_err());
    }
}
