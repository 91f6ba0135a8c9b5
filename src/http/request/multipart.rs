//! Forms with files, `multipart/form-data` (RFC 7578): fields in memory, files as streams.
//!
//! The parser is made for a stream that wakes a task. Here it asks for more by being pending, and gets what
//! the body has next; so nothing is read that was not asked for.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use http::StatusCode;
use http::header::CONTENT_DISPOSITION;
use multer::Field;

use super::Request;
use super::fields::MAX_FORM;
use crate::error::{Error, Result};
use crate::http::body::{Body, too_large, unusable};
use crate::mutex::lock;

/// How much is asked of the body at once.
const CHUNK: usize = 16 << 10;
/// The most bytes in which the parser must find the next part: what comes before the first, or the head of one.
const MAX_HEAD: usize = 64 << 10;

pub(super) struct Multipart {
    parser: multer::Multipart<'static>,
    fed: Arc<Mutex<Fed>>,
    /// The file that comes next, or is being read.
    file: Option<Field<'static>>,
    has_begun_file: bool,
    /// How many bytes of fields there were, and how many parts.
    in_memory: u64,
    parts: usize,
    /// Reading on has not ended in order.
    has_failed: bool,
}

/// What the body had, and the parser has not taken.
#[derive(Default)]
struct Fed {
    chunks: VecDeque<Vec<u8>>,
    has_ended: bool,
}

/// The parser's end of it.
struct Feed(Arc<Mutex<Fed>>);

impl Stream for Feed {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut fed = lock(&self.0);
        match fed.chunks.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(chunk))),
            None if fed.has_ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A file of a form, as a stream of its bytes. Get one from [`Request::next_file`].
///
/// Its errors hold an [`Error::Body`]: a handler that returns one is answered with its status.
pub struct FilePart<'a> {
    body: &'a mut Body,
    form: &'a mut Multipart,
    name: String,
    file_name: String,
    content_type: Option<String>,
    /// None: there was more.
    limit: Option<u64>,
    chunk: Vec<u8>,
    used: usize,
}

impl FilePart<'_> {
    /// The name of the form's input.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that the client says the file has. It is any text: neither a path to write to nor HTML.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The type that the client says the file has.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }
}

impl Read for FilePart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.used == self.chunk.len() {
            // A further read must not take the rest for the whole.
            let failed = |error| to_io(unusable(error));
            self.body.check().map_err(failed)?;
            let limit = self.limit.ok_or_else(|| failed(too_large()))?;
            let chunk = self.form.chunk(self.body).map_err(to_io)?;
            let Some(chunk) = chunk else { return Ok(0) };
            self.limit = limit.checked_sub(chunk.len() as u64);
            if self.limit.is_some() {
                (self.chunk, self.used) = (chunk, 0);
            }
        }
        let rest = &self.chunk[self.used..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.used += length;
        Ok(length)
    }
}

impl Request {
    /// The next file of a form that was sent as `multipart/form-data`, of which at most `limit` bytes are accepted;
    /// `None` after the last. What is left unread of one is passed over. Needs the feature `multipart`.
    ///
    /// Files are read as they come, in constant memory. The form's other fields are in [`Request::form`] once they
    /// have come: those before the first file at once, and so are the token of
    /// [`Request::check_csrf_token`] and the id of [`Request::id_field`], which belong at the beginning of a form; those after a file once that
    /// has been read to its end. An input without a file is passed over.
    ///
    /// ```
    /// use std::error::Error;
    /// use std::io;
    ///
    /// use cgi_session::{Client, Request, Response};
    ///
    /// fn upload(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    ///     let mut sizes = Vec::new();
    ///     while let Some(mut file) = request.next_file(10 << 20)? {
    ///         let size = io::copy(&mut file, &mut io::sink())?;
    ///         sizes.push(format!("{}: {size} bytes", file.file_name()));
    ///     }
    ///     Ok(Response::text(sizes.join(", ")))
    /// }
    ///
    /// let form = "--x\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\n\r\nPNG\r\n--x--\r\n";
    /// let request = Client::default().post("/").header("content-type", "multipart/form-data; boundary=x");
    /// assert_eq!(request.body(form).send(upload).body_text(), "a.png: 3 bytes");
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Body`] when the request is no such form (415), its fields are longer than 1 MiB (413), or it was cut off
    /// or makes no sense (400); [`Error::TooManyFields`] (400) when it has more parts than `maxFormFields` says. Reading a
    /// file that is longer than `limit` is an error of kind [`FileTooLarge`](io::ErrorKind::FileTooLarge) (413).
    pub fn next_file(&mut self, limit: u64) -> Result<Option<FilePart<'_>>> {
        if !self.is_multipart() {
            let reason = "a form with files must be sent as multipart/form-data".to_owned();
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Error::Body { reason, status });
        }
        // The fields before the first file, and with them the parser.
        self.form("")?;
        if self
            .multipart
            .as_ref()
            .is_some_and(|form| form.has_begun_file)
        {
            self.read_parts()?;
        }
        let (Some(form), body) = (self.multipart.as_deref_mut(), &mut self.body) else {
            return Ok(None);
        };
        let Some(file) = &form.file else {
            return Ok(None);
        };
        form.has_begun_file = true;
        Ok(Some(FilePart {
            name: parameter(file, "name").unwrap_or_default(),
            file_name: file_name(file).unwrap_or_default(),
            content_type: file.content_type().map(ToString::to_string),
            body,
            form,
            limit: Some(limit),
            chunk: Vec::new(),
            used: 0,
        }))
    }

    /// Whether the body is a form with files, as far as its type tells.
    pub(super) fn is_multipart(&self) -> bool {
        self.essence().eq_ignore_ascii_case(b"multipart/form-data")
    }

    /// Begins to read a form with files, up to the first of these, unless it has begun.
    pub(super) fn begin_multipart(&mut self) -> Result<()> {
        if let Some(form) = &self.multipart {
            if !form.has_failed {
                // Behind a file that was read to its end there may be fields.
                let may_continue = form.has_begun_file && form.file.is_none();
                return if may_continue {
                    self.read_parts()
                } else {
                    Ok(())
                };
            }
            let parts = form.parts;
            self.body.check().map_err(unusable)?;
            self.check_fields(parts)?;
            return Err(unusable(malformed("it could not be read")));
        }
        let content_type = self.param("CONTENT_TYPE").unwrap_or_default();
        let content_type = content_type.to_string_lossy();
        // The parser knows no blanks before the semicolon, nor at the end (RFC 9110, 5.6.6).
        let parts = content_type.split(';').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        let boundary = multer::parse_boundary(parts.collect::<Vec<_>>().join("; "))
            .map_err(|error| unusable(malformed(&error)))?;
        let fed = Arc::default();
        let parser = multer::Multipart::new(Feed(Arc::clone(&fed)), boundary);
        self.form = Some(Vec::new());
        self.multipart = Some(Box::new(Multipart {
            parser,
            fed,
            file: None,
            has_begun_file: false,
            in_memory: 0,
            parts: 0,
            has_failed: true,
        }));
        self.read_parts()
    }

    /// Reads fields up to the next file.
    fn read_parts(&mut self) -> Result<()> {
        let limit = self.visit.max_form_fields();
        let (Some(form), Some(fields)) = (self.multipart.as_deref_mut(), self.form.as_mut()) else {
            return Ok(());
        };
        form.has_failed = true;
        // What is left of the file before.
        while form.file.is_some() && form.chunk(&mut self.body)?.is_some() {}
        form.has_begun_file = false;
        loop {
            let part = drive(
                &mut self.body,
                &form.fed,
                MAX_HEAD,
                form.parser.next_field(),
            )?;
            let Some(part) = part else {
                form.has_failed = false;
                return Ok(());
            };
            form.parts += 1;
            if form.parts > limit {
                let count = form.parts;
                return Err(Error::TooManyFields { count, limit });
            }
            let is_file = file_name(&part).map(|name| !name.is_empty());
            let name = parameter(&part, "name").unwrap_or_default();
            form.file = Some(part);
            if is_file == Some(true) {
                form.has_failed = false;
                return Ok(());
            }
            let (mut text, mut length) = (Vec::new(), name.len());
            loop {
                form.in_memory += length as u64;
                if form.in_memory > MAX_FORM {
                    return Err(unusable(self.body.fail(too_large())));
                }
                let Some(chunk) = form.chunk(&mut self.body)? else {
                    break;
                };
                length = chunk.len();
                text.extend_from_slice(&chunk);
            }
            if is_file.is_none() {
                fields.push((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
    }
}

impl Multipart {
    /// The next bytes of the part that is being read; `None` at its end.
    fn chunk(&mut self, body: &mut Body) -> Result<Option<Vec<u8>>> {
        let Some(part) = &mut self.file else {
            return Ok(None);
        };
        let chunk = drive(body, &self.fed, MAX_HEAD, part.chunk());
        // After an error nothing more can be made of it.
        let chunk = chunk.inspect_err(|_| self.file = None)?;
        if chunk.is_none() {
            self.file = None;
        }
        Ok(chunk.map(Into::into))
    }
}

/// The name of a part's file, if it is one. Some clients send a name that is not ASCII in the extended form
/// (RFC 8187) alone, against RFC 7578, 4.2.
fn file_name(part: &Field<'_>) -> Option<String> {
    parameter(part, "filename").or_else(|| {
        let extended = parameter(part, "filename*")?;
        // Behind the character set, which is UTF-8, and the language.
        let encoded = extended.rsplit('\'').next().unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(encoded);
        Some(decoded.decode_utf8_lossy().into_owned())
    })
}

/// What the head of a part says by this parameter, as browsers and others write it: a backslash stands for itself unless
/// a quotation mark of the value or another backslash follows, and bytes of any character set may come.
fn parameter(part: &Field<'_>, wanted: &str) -> Option<String> {
    let disposition = part.headers().get(CONTENT_DISPOSITION)?.as_bytes();
    let disposition = String::from_utf8_lossy(disposition);
    let (_, mut rest) = disposition.split_once(';')?;
    loop {
        let (before, value) = rest.split_once('=')?;
        let name = before.rsplit(';').next().unwrap_or_default().trim();
        let value = value.trim_start();
        let (value, behind) = if let Some(quoted) = value.strip_prefix('"') {
            let mut quotes = quoted.match_indices('"').map(|(place, _)| place);
            let is_end = |place: &usize| {
                let before = &quoted[..*place];
                (place - before.trim_end_matches('\\').len()).is_multiple_of(2)
            };
            // Browsers write a backslash at the end of a name as it is; nothing of a name is another parameter.
            let last = quoted.trim_end_matches('"').len();
            quoted.split_at(quotes.find(is_end).unwrap_or(last))
        } else {
            value.split_at(value.find(';').unwrap_or(value.len()))
        };
        if name.eq_ignore_ascii_case(wanted) {
            let value = value.trim_end().replace("\\\\", "\\");
            return Some(value.replace("\\\"", "\""));
        }
        rest = behind;
    }
}

/// Lets the parser work until it has something, on no more than `limit` further bytes of the body.
fn drive<T>(
    body: &mut Body,
    fed: &Mutex<Fed>,
    limit: usize,
    work: impl Future<Output = multer::Result<T>>,
) -> Result<T> {
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    let mut left = limit;
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return done.map_err(|error| unusable(body.fail(malformed(&error))));
        }
        if left == 0 {
            return Err(unusable(
                body.fail(malformed("the head of a part is too long")),
            ));
        }
        let mut chunk = vec![0; CHUNK.min(left)];
        let read = loop {
            match body.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(unusable)?,
            }
        };
        left -= read;
        let mut fed = lock(fed);
        if read == 0 {
            fed.has_ended = true;
        } else {
            chunk.truncate(read);
            fed.chunks.push_back(chunk);
        }
    }
}

fn malformed(error: &(impl fmt::Display + ?Sized)) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it is no form: {error}"),
    )
}

fn to_io(error: Error) -> io::Error {
    let kind = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => io::ErrorKind::FileTooLarge,
        StatusCode::REQUEST_TIMEOUT => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
