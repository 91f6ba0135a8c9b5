//! [`StreamWriter`]: how a response is written that is not in memory.

use std::fmt;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use crate::mutex::lock;

type Producer = Box<dyn FnOnce(&mut StreamWriter<'_>) -> io::Result<()> + Send>;

/// The way to the client for a response of [`Response::stream`](crate::Response::stream).
///
/// Every write goes out at once, as does what `write!` formats in one call, and waits until the client takes it.
/// When the client has left, it is an error, and so is every write after that.
pub struct StreamWriter<'a> {
    /// Fails when the client has left.
    sink: &'a mut dyn Write,
    is_stopping: &'a dyn Fn() -> bool,
    /// What the response has announced and not sent.
    left: Option<u64>,
    has_left: bool,
}

impl StreamWriter<'_> {
    /// Whether the program is to end: a FastCGI responder got SIGTERM, and ends after 10 s at the latest. A stream
    /// that has no end of its own looks at this between its writes.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        (self.is_stopping)()
    }
}

impl Write for StreamWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.has_left {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(bytes.len() as u64);
            *left = rest.ok_or_else(|| io::Error::other("it is longer than its Content-Length"))?;
        }
        let sent = self.sink.write_all(bytes);
        self.has_left = sent.is_err();
        sent.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// In one write, however many parts the text has.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        match text.as_str() {
            Some(text) => self.write_all(text.as_bytes()),
            None => self.write_all(fmt::format(text).as_bytes()),
        }
    }
}

#[derive(Debug)]
pub(crate) enum StreamEnd {
    Whole,
    /// The client is gone, or takes too little.
    ClientLeft,
    /// With the reason, unless the panic hook has said it.
    Failed(Option<String>),
}

/// A body that is written while it is sent. The clones of a response have one together: the first that
/// is sent gets it.
#[derive(Clone)]
pub(crate) struct StreamBody(Arc<Mutex<Option<Producer>>>);

impl StreamBody {
    pub(crate) fn new(
        produce: impl FnOnce(&mut StreamWriter<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        StreamBody(Arc::new(Mutex::new(Some(Box::new(produce)))))
    }

    /// Writes the body, of which so many bytes were announced, until it is complete or the program `is_stopping`.
    pub(crate) fn run(
        &self,
        sink: &mut dyn Write,
        is_stopping: &dyn Fn() -> bool,
        announced: Option<u64>,
    ) -> StreamEnd {
        let produce = lock(&self.0).take();
        let failed = |reason: String| StreamEnd::Failed(Some(reason));
        let Some(produce) = produce else {
            return failed("a copy of the response was sent before".to_owned());
        };
        let mut writer = StreamWriter {
            sink,
            is_stopping,
            left: announced,
            has_left: false,
        };
        let produced = panic::catch_unwind(AssertUnwindSafe(|| produce(&mut writer)));
        match produced {
            _ if writer.has_left => StreamEnd::ClientLeft,
            Err(_) => StreamEnd::Failed(None),
            Ok(Err(error)) => failed(error.to_string()),
            Ok(Ok(())) => match writer.left {
                Some(missing @ 1..) => failed(format!(
                    "it ended {missing} bytes before its Content-Length"
                )),
                _ => StreamEnd::Whole,
            },
        }
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamBody")
    }
}
