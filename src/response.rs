//! [`Response`]: a complete answer, sent only after the session is committed.

use std::io::Write as _;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// What a handler answers: a status, header fields and a body, all of it in memory.
///
/// ```
/// use cgi_session::Response;
/// use http::{HeaderValue, StatusCode, header};
///
/// let page = Response::html("<p>Not here.</p>")
///     .with_status(StatusCode::NOT_FOUND)
///     .with_header(header::CONTENT_LANGUAGE, HeaderValue::from_static("en"));
/// assert_eq!(page.status(), StatusCode::NOT_FOUND);
/// ```
#[derive(Clone, Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Response {
    /// A body of any type.
    #[must_use]
    pub fn new(content_type: HeaderValue, body: impl Into<Vec<u8>>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Response {
            status: StatusCode::OK,
            headers,
            body: body.into(),
        }
    }

    /// An HTML page in UTF-8. What came from a client must be escaped by whoever puts it in.
    #[must_use]
    pub fn html(body: impl Into<Vec<u8>>) -> Self {
        Response::new(HeaderValue::from_static("text/html; charset=utf-8"), body)
    }

    /// Plain text in UTF-8.
    #[must_use]
    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Response::new(HeaderValue::from_static("text/plain; charset=utf-8"), body)
    }

    /// Sends the client elsewhere with GET (303 See Other).
    ///
    /// The status is always said: a bare `Location: /page` makes Apache answer with that page
    /// itself, at this address. Bytes that no URL may hold are percent-encoded.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        let mut url = String::with_capacity(location.len());
        for byte in location.bytes() {
            match byte {
                0x21..=0x7e if !b"\"<>\\^`{|}".contains(&byte) => url.push(char::from(byte)),
                _ => url.push_str(percent_encoding::percent_encode_byte(byte)),
            }
        }
        let page = Response::text(format!("See {url}\n")).with_status(StatusCode::SEE_OTHER);
        // What was left unencoded is visible ASCII, which every header value may hold.
        match HeaderValue::try_from(url) {
            Ok(url) => page.with_header(LOCATION, url),
            Err(_) => page,
        }
    }

    /// The same response with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same response with this header field, in place of any of the same name.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The header fields, to change them. Several `Set-Cookie` fields of one's own are kept.
    #[must_use]
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The response as a gateway expects it (RFC 3875, 6), without a body when `head_only`.
    pub(crate) fn to_bytes(&self, head_only: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + self.body.len());
        self.write_head(&mut bytes);
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    /// Appends status and header fields, the length of the body among them.
    pub(crate) fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Status: ");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(
            self.status
                .canonical_reason()
                .unwrap_or("Unknown")
                .as_bytes(),
        );
        for (name, value) in self
            .headers
            .iter()
            .filter(|(name, _)| *name != CONTENT_LENGTH)
        {
            out.extend_from_slice(b"\r\n");
            push_name(out, name.as_str());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        // A Vec takes every write.
        let _ = write!(out, "\r\nContent-Length: {}\r\n\r\n", self.body.len());
    }
}

/// `content-type` as `Content-Type`, for readers who compare case.
fn push_name(bytes: &mut Vec<u8>, name: &str) {
    let mut starts_word = true;
    for byte in name.bytes() {
        bytes.push(if starts_word {
            byte.to_ascii_uppercase()
        } else {
            byte
        });
        starts_word = byte == b'-';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_its_status_and_length_and_head_leaves_the_body_out() {
        let page = Response::text("four").with_status(StatusCode::NOT_FOUND);
        let head = "Status: 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(String::from_utf8(page.to_bytes(true)).unwrap(), head);
        assert_eq!(
            String::from_utf8(page.to_bytes(false)).unwrap(),
            format!("{head}four")
        );
    }

    #[test]
    fn a_redirect_cannot_smuggle_a_header() {
        let redirect = Response::redirect("/a b\r\nSet-Cookie: x=1?\u{e9}");
        assert_eq!(
            redirect.headers()[LOCATION],
            "/a%20b%0D%0ASet-Cookie:%20x=1?%C3%A9"
        );
        assert_eq!(redirect.status(), StatusCode::SEE_OTHER);
    }
}
