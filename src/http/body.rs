//! The request's body: a stream that is read no further than the caller asks.

use std::io::{self, Read};

use http::StatusCode;

use crate::error::{Error, Result};

/// Where the bytes of a request's body come from.
pub(crate) struct Body {
    source: Box<dyn Read>,
    /// What `CONTENT_LENGTH` says, if it says a number.
    declared: Option<u64>,
    /// The source itself says where it ends; what comes beyond `declared` belongs to the body.
    has_end: bool,
    taken: u64,
    has_ended: bool,
    /// Why it cannot be read any more: a further look must not take the rest for the whole.
    failure: Option<(io::ErrorKind, String)>,
}

impl Body {
    pub(crate) fn new(source: Box<dyn Read>, content_length: Option<&[u8]>) -> Self {
        let declared = content_length
            .filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit))
            .and_then(|text| std::str::from_utf8(text).ok())
            // More than fit are more than any body has.
            .map(|text| text.parse().unwrap_or(u64::MAX));
        Body {
            source,
            declared,
            has_end: false,
            taken: 0,
            has_ended: false,
            failure: None,
        }
    }

    /// A body whose source ends where it does, as a stream of FastCGI: `CONTENT_LENGTH` may say less.
    #[cfg(all(target_os = "linux", feature = "fastcgi"))]
    pub(crate) fn with_end(source: Box<dyn Read>, content_length: Option<&[u8]>) -> Self {
        Body {
            has_end: true,
            ..Body::new(source, content_length)
        }
    }

    /// The bytes that are still to come, if `CONTENT_LENGTH` says so.
    pub(crate) fn remaining(&self) -> Option<u64> {
        if self.has_ended {
            Some(0)
        } else {
            self.declared
                .map(|length| length.saturating_sub(self.taken))
        }
    }

    /// Notes an error that ends the body, which every further look at it meets again.
    pub(crate) fn fail(&mut self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::Interrupted {
            self.failure = Some((error.kind(), error.to_string()));
        }
        error
    }

    /// The error that ended the body, if one did.
    pub(crate) fn check(&self) -> io::Result<()> {
        let failed = |(kind, reason): &(_, String)| Err(io::Error::new(*kind, reason.clone()));
        self.failure.as_ref().map_or(Ok(()), failed)
    }

    /// Reads the whole body, which may be `limit` bytes long.
    pub(crate) fn read_all(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = BodyReader { body: self, limit }.read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(unusable)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let most = self.remaining().filter(|_| !self.has_end);
        let most = most.and_then(|left| usize::try_from(left).ok());
        let length = buffer.len().min(most.unwrap_or(usize::MAX));
        if length == 0 || self.has_ended {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..length]);
        let read = read.map_err(|error| self.fail(error))?;
        self.taken += read as u64;
        if read == 0 {
            let missing = self.remaining().unwrap_or_default();
            self.has_ended = true;
            if missing > 0 {
                let reason = format!("it ended {missing} bytes before its CONTENT_LENGTH");
                return Err(self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
            }
        }
        Ok(read)
    }
}

/// Reads a request's body up to a limit; reading past it is an error of kind
/// [`FileTooLarge`](io::ErrorKind::FileTooLarge). Get one from [`Request::body`](crate::Request::body).
///
/// Its errors hold an [`Error::Body`]: a handler that returns one is answered with its status.
pub struct BodyReader<'a> {
    pub(crate) body: &'a mut Body,
    pub(crate) limit: u64,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read_some(buffer) {
            // The standard library tries again what a signal has interrupted.
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(io::Error::new(error.kind(), unusable(error)))
            }
            read => read,
        }
    }
}

impl BodyReader<'_> {
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.body.remaining().is_some_and(|left| left > self.limit) {
            return Err(too_large());
        }
        // One byte more than allowed is asked for, to tell the end from the limit.
        let most = usize::try_from(self.limit.saturating_add(1)).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let read = self.body.read(&mut buffer[..length])?;
        match self.limit.checked_sub(read as u64) {
            Some(left) => {
                self.limit = left;
                Ok(read)
            }
            // What was read is lost.
            None => Err(self.body.fail(too_large())),
        }
    }
}

/// What reading a body met, with the status that the client is answered with.
pub(crate) fn unusable(error: io::Error) -> Error {
    let status = match error.kind() {
        io::ErrorKind::FileTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    };
    error.downcast().unwrap_or_else(|error| Error::Body {
        reason: error.to_string(),
        status,
    })
}

pub(crate) fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "it is larger than this program accepts",
    )
}
