//! A browser without a face: HTTP/1.1 over one connection per request, and a cookie jar.

use cookie::time::Duration;
use cookie::{Cookie, CookieJar};
use http::StatusCode;

use crate::prelude::*;

/// One visitor.
#[derive(Clone)]
pub struct Client {
    port: u16,
    jar: CookieJar,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    headers: Vec<(String, Vec<u8>)>,
    pub body: String,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Client {
            port,
            jar: CookieJar::new(),
        }
    }

    /// The same visitor at another server.
    pub fn at(&self, port: u16) -> Self {
        Client {
            port,
            jar: self.jar.clone(),
        }
    }

    /// The same visitor with this session.
    pub fn with_id(mut self, id: &str) -> Self {
        self.jar
            .add_original(Cookie::new("sessionId", id.to_owned()));
        self
    }

    /// The session's id, if a server gave one.
    pub fn id(&self) -> Option<&str> {
        self.jar.get("sessionId").map(Cookie::value)
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.request(format!("GET {path} HTTP/1.1\r\n"), b"")
    }

    #[track_caller]
    pub fn head(&mut self, path: &str) -> Answer {
        self.request(format!("HEAD {path} HTTP/1.1\r\n"), b"")
    }

    /// Sends a form.
    #[track_caller]
    pub fn post(&mut self, path: &str, form: &str) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n",
            form.len()
        );
        self.request(&head, form.as_bytes())
    }

    /// Sends a request and expects the whole answer.
    #[track_caller]
    pub fn request(&mut self, head: impl AsRef<[u8]>, body: &[u8]) -> Answer {
        self.try_request(head.as_ref(), body)
            .expect("a complete answer")
    }

    /// Sends a request, to which Host, Connection and Cookie are added; an answer that is not
    /// complete is an error.
    pub fn try_request(&mut self, head: &[u8], body: &[u8]) -> io::Result<Answer> {
        let is_head = head.starts_with(b"HEAD ");
        let mut stream = self.try_send(head, body)?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        let answer = Answer::parse(&received, is_head)?;
        self.keep_cookies(&answer);
        Ok(answer)
    }

    /// Sends a request and does not wait for its answer.
    #[track_caller]
    pub fn send(&self, path: &str) -> TcpStream {
        let head = format!("GET {path} HTTP/1.1\r\n");
        self.try_send(head.as_bytes(), b"").expect("a connection")
    }

    /// Sends all but the last byte of a request.
    #[track_caller]
    pub fn hold(&self, path: &str) -> Held {
        let bytes = self.bytes(format!("GET {path} HTTP/1.1\r\n").as_bytes(), b"");
        let (last, most) = bytes.split_last().unwrap();
        let stream = self.connect().and_then(|mut stream| {
            stream.write_all(most)?;
            Ok(stream)
        });
        let stream = stream.expect("a connection");
        Held {
            stream,
            last: *last,
        }
    }

    fn try_send(&self, head: &[u8], body: &[u8]) -> io::Result<TcpStream> {
        let mut stream = self.connect()?;
        stream.write_all(&self.bytes(head, body))?;
        Ok(stream)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(stream)
    }

    fn bytes(&self, head: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(b"Host: localhost\r\nConnection: close\r\n");
        // In one field, as every browser does.
        let cookies: Vec<_> = self
            .jar
            .iter()
            .map(|it| it.stripped().to_string())
            .collect();
        if !cookies.is_empty() {
            bytes.extend_from_slice(format!("Cookie: {}\r\n", cookies.join("; ")).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes
    }

    /// Does with the cookies of an answer what a browser does when it arrives.
    pub fn keep_cookies(&mut self, answer: &Answer) {
        for header in answer.set_cookies() {
            let cookie = Cookie::parse(header).expect("a cookie").into_owned();
            if cookie.max_age() == Some(Duration::ZERO) {
                self.jar.force_remove(cookie.name());
            } else {
                self.jar.add_original(cookie);
            }
        }
    }
}

/// A request on its way, which has shown its cookie and has not arrived.
pub struct Held {
    stream: TcpStream,
    last: u8,
}

impl Held {
    /// Lets the request arrive, and waits for its answer.
    pub fn let_go(mut self) -> io::Result<Answer> {
        self.stream.write_all(&[self.last])?;
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received)?;
        Answer::parse(&received, false)
    }
}

impl Answer {
    fn parse(received: &[u8], is_head: bool) -> io::Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(received).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let status = StatusCode::from_u16(parsed.code.unwrap_or_default());
        let mut answer = Answer {
            status: status.map_err(io::Error::other)?,
            headers: parsed
                .headers
                .iter()
                .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
                .collect(),
            body: String::new(),
        };
        if !is_head {
            let body = answer.whole_body(&received[length..]);
            let body = body.ok_or(io::ErrorKind::UnexpectedEof)?;
            answer.body = String::from_utf8_lossy(&body).into_owned();
        }
        Ok(answer)
    }

    /// The body, if its length or its last chunk shows that nothing was cut off.
    fn whole_body(&self, mut received: &[u8]) -> Option<Vec<u8>> {
        if matches!(self.status.as_u16(), 204 | 304) {
            return received.is_empty().then(Vec::new);
        }
        if let Some(length) = self.header("content-length") {
            let is_whole = length.parse() == Ok(received.len());
            return is_whole.then(|| received.to_vec());
        }
        let mut body = Vec::new();
        // Apache sends a program's page in chunks, whatever length the program says.
        while let httparse::Status::Complete((at, size)) =
            httparse::parse_chunk_size(received).ok()?
        {
            if size == 0 {
                return Some(body);
            }
            let end = at + usize::try_from(size).ok()?;
            body.extend_from_slice(received.get(at..end)?);
            received = received.get(end..)?.strip_prefix(b"\r\n")?;
        }
        None
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let field = self.headers.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    pub fn set_cookies(&self) -> Vec<String> {
        let fields = self.headers.iter().filter(|(name, _)| name == "set-cookie");
        fields
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    #[track_caller]
    pub fn expect(self, status: u16, text: &str) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:#?}");
        assert!(self.body.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// Expects so many Set-Cookie headers.
    #[track_caller]
    pub fn expect_cookies(self, number: usize) -> Self {
        assert_eq!(self.set_cookies().len(), number, "{self:#?}");
        self
    }

    /// The number in the counter's page.
    pub fn count(&self) -> Option<u64> {
        let text = self.body.split_once("you've been here ")?.1;
        text.split_once(" time")?.0.parse().ok()
    }
}
