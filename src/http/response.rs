//! [`Response`]: an answer, sent only after the session is committed.

use std::borrow::Cow;

use std::io;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::file::OpenFile;
use super::request::Request;
use super::stream::{StreamBody, StreamWriter};

/// Fields of a handler's that are not sent: status and length have one place, and how the bytes travel to the client
/// is the server's affair (RFC 3875, 6.3.4; RFC 9110, 7.6.1).
const NOT_SENT: [&str; 8] = [
    "status",
    "content-length",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a handler answers: a status, header fields and a body. The body is in memory, unless it is a stream
/// ([`Response::stream`]) or a file ([`Response::file`]).
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
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Memory,
    Stream(StreamBody),
    /// What is sent of it depends on the request.
    File(Arc<OpenFile>),
    /// The body is in memory, and says that the file could not be read; the log says why.
    Unreadable(String),
}

impl Response {
    /// A body of any type.
    #[must_use]
    pub fn new(content_type: HeaderValue, body: impl Into<Vec<u8>>) -> Self {
        // With room for those that a session adds.
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(CONTENT_TYPE, content_type);
        Response {
            status: StatusCode::OK,
            headers,
            body: body.into(),
            source: Source::Memory,
        }
    }

    /// A body that is written while it is sent: an export, server-sent events, a page that appears piece by piece.
    ///
    /// The session is committed and released before `produce` starts, which therefore cannot
    /// change it. Each write is sent at once and waits until the client
    /// takes it; memory stays the same however long the body is. When the client has left, the next
    /// write is an error; return it. An answer to HEAD has the head alone, and `produce` is not called.
    ///
    /// When `produce` fails or panics, the error is logged, and a FastCGI responder breaks off the request, upon which
    /// nginx and Apache's `mod_proxy_fcgi` break off the response, too. Other servers take that for its end: a client
    /// notices it when the response has a Content-Length, which may be set by [`Response::with_header`]. A CGI program
    /// can only end, and Apache passes its Content-Length not on.
    ///
    /// A FastCGI responder runs `produce` in a thread of its own, of which there are
    /// [`Program::streams`](crate::Program::streams); a request beyond is answered 503 and its session is not saved.
    /// A client has to keep to `responseMinRate` only while a write waits for it; `produce` may be silent
    /// for as long as it likes.
    ///
    /// Of several clones only the first that is sent has the stream.
    ///
    /// The response has `X-Accel-Buffering: no`, so that nginx passes each write on. A `content_type` that no
    /// header field may hold is `application/octet-stream`.
    ///
    /// ```no_run
    /// use std::io::Write as _;
    /// use std::time::Duration;
    ///
    /// use cgi_session::{Request, Response, Result};
    ///
    /// fn clock(_: &mut Request) -> Result<Response> {
    ///     Ok(Response::stream("text/event-stream", |out| {
    ///         let mut seconds = 0;
    ///         while !out.is_stopping() {
    ///             write!(out, "data: {seconds}\n\n")?;
    ///             std::thread::sleep(Duration::from_secs(1));
    ///             seconds += 1;
    ///         }
    ///         Ok(())
    ///     }))
    /// }
    /// ```
    #[must_use]
    pub fn stream(
        content_type: impl TryInto<HeaderValue>,
        produce: impl FnOnce(&mut StreamWriter<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let unknown = HeaderValue::from_static("application/octet-stream");
        let response = Response::new(content_type.try_into().unwrap_or(unknown), "");
        let unbuffered = HeaderName::from_static("x-accel-buffering");
        response
            .with_header(unbuffered, HeaderValue::from_static("no"))
            .streamed(produce)
    }

    /// An HTML page in UTF-8. The caller escapes what came from a client.
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
    /// Bytes that no URL may hold are percent-encoded. An address that comes from the client (`?next=…`) can lead to
    /// another site, also `//example.org`: compare it with the site's own.
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

    /// Sets the status. One below 200 announces another response, and is answered 500.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets a header field, in place of any of this name.
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

    /// The header fields, to change them. Several `Set-Cookie` fields of one's own are kept; `Status`, `Connection`,
    /// `Transfer-Encoding` and others that are the server's affair are not sent.
    #[must_use]
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The body, as far as it is in memory: that of a stream or of a file is empty.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn body_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    pub(crate) fn with_body(mut self, body: Vec<u8>) -> Self {
        (self.body, self.source) = (body, Source::Memory);
        self
    }

    pub(crate) fn with_file(mut self, file: Arc<OpenFile>) -> Self {
        self.source = Source::File(file);
        self
    }

    pub(crate) fn streamed(
        mut self,
        produce: impl FnOnce(&mut StreamWriter<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.source = Source::Stream(StreamBody::new(produce));
        self
    }

    /// The response to this request: what is sent of a file depends on it.
    pub(crate) fn resolved_for(mut self, request: &Request) -> Self {
        match std::mem::replace(&mut self.source, Source::Memory) {
            Source::File(file) => self.of_file(file, request),
            source => Response { source, ..self },
        }
    }

    /// The response with its whole body, that of a file read; `None` when it is a stream or cannot be read.
    pub(crate) fn in_memory(mut self) -> Option<Self> {
        match std::mem::replace(&mut self.source, Source::Memory) {
            Source::Memory => Some(self),
            Source::Unreadable(reason) => {
                log::warn!("{reason}");
                Some(self)
            }
            Source::File(file) => file.read().ok().map(|body| self.with_body(body)),
            Source::Stream(_) => None,
        }
    }

    pub(crate) fn of_unreadable(reason: String) -> Self {
        let page = Response::text("The file cannot be read.\n");
        Response {
            source: Source::Unreadable(reason),
            ..page.with_status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }

    pub(crate) fn unreadable(&self) -> Option<&str> {
        match &self.source {
            Source::Unreadable(reason) => Some(reason),
            _ => None,
        }
    }

    /// The body that is written while it is sent, if it is sent at all.
    pub(crate) fn stream_body(&self, head_only: bool) -> Option<&StreamBody> {
        match &self.source {
            Source::Stream(body) if !head_only && self.may_have_content() => Some(body),
            _ => None,
        }
    }

    /// Drops the closure of a stream, run or not, and what it holds.
    pub(crate) fn drop_stream(&mut self) {
        self.source = Source::Memory;
    }

    /// How long a stream says it is.
    pub(crate) fn announced(&self) -> Option<u64> {
        let length = self.headers.get(CONTENT_LENGTH)?;
        length.to_str().ok()?.parse().ok()
    }

    /// The body as it is sent: 1xx, 204, 205 and 304 have none (RFC 9110, 6.4.1 and 15.3.6), and
    /// the answer to HEAD neither.
    pub(crate) fn content(&self, head_only: bool) -> &[u8] {
        if head_only || !self.may_have_content() {
            return &[];
        }
        &self.body
    }

    fn may_have_content(&self) -> bool {
        !self.status.is_informational() && !matches!(self.status.as_u16(), 204 | 205 | 304)
    }

    /// The response as a gateway expects it (RFC 3875, 6), without a body when `head_only`.
    pub(crate) fn to_bytes(&self, head_only: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + self.body.len());
        self.write_head(&mut bytes, head_only);
        bytes.extend_from_slice(self.content(head_only));
        bytes
    }

    /// The response with the header fields that [`Response::write_head`] writes.
    pub(crate) fn with_fields_as_sent(mut self, head_only: bool) -> Self {
        let sent = self.fields(head_only).filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::from_bytes(&value).ok()?))
        });
        self.headers = sent.collect();
        self
    }

    /// The header fields as they are sent, the length of the body among them.
    fn fields(&self, head_only: bool) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
        let is_sent = |(name, _): &(&HeaderName, _)| {
            !NOT_SENT.contains(&name.as_str()) && (*name != CONTENT_TYPE || self.may_have_content())
        };
        let own = self.headers.iter().filter(is_sent);
        let length = self.length(head_only).map(Cow::Owned);
        own.map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_bytes())))
            .chain(length.map(|length| ("content-length", length)))
    }

    /// Appends status and header fields.
    pub(crate) fn write_head(&self, out: &mut Vec<u8>, head_only: bool) {
        out.extend_from_slice(b"Status: ");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(
            self.status
                .canonical_reason()
                .unwrap_or("Unknown")
                .as_bytes(),
        );
        for (name, value) in self.fields(head_only) {
            push_field(out, name, &value);
        }
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// The value of Content-Length, where there may be one (RFC 9110, 8.6).
    fn length(&self, head_only: bool) -> Option<Vec<u8>> {
        if self.status == StatusCode::RESET_CONTENT {
            return Some(b"0".to_vec());
        }
        if !self.may_have_content() {
            return None;
        }
        let is_stream = matches!(self.source, Source::Stream(_));
        if is_stream || head_only && self.body.is_empty() {
            // A handler that knows of HEAD may have left the page out.
            let own = self.headers.get(CONTENT_LENGTH);
            return own.map(|length| length.as_bytes().to_vec());
        }
        Some(self.body.len().to_string().into_bytes())
    }
}

/// Appends a header field, `content-type` as `Content-Type`, for readers who compare case, and an authorizer's
/// `variable-remote_user` as `Variable-REMOTE_USER`.
fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b"\r\n");
    let (mut starts_word, is_variable) = (true, name.starts_with("variable-"));
    for (at, byte) in name.bytes().enumerate() {
        out.push(if starts_word || is_variable && at > "variable-".len() {
            byte.to_ascii_uppercase()
        } else {
            byte
        });
        starts_word = byte == b'-';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}
