//! [`Responders`]: the examples as FastCGI programs, each one process that stays.
//!
//! A responder is started when it is first asked, with a listening socket as descriptor 0, as
//! FastCGI 1.0 wants it (2.2), and again when it has ended. A request is a connection of its own.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use cgi_session_tools::serve::{Failure, Head, Reply};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// No answer takes longer than this.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(60);
/// The types of record that a server sends or receives (FastCGI 1.0, 8).
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
/// Role Responder; the connection is closed after the request.
const BEGIN: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
/// The most that one record holds, as a multiple of eight.
const LARGEST: usize = 65_528;

/// What a responder is asked.
pub(crate) struct Request<'a> {
    pub(crate) name: &'a str,
    pub(crate) variables: &'a [(OsString, OsString)],
    pub(crate) head_only: bool,
}

/// The responders that have been started.
pub(crate) struct Responders {
    sockets: tempfile::TempDir,
    running: Mutex<HashMap<String, Child>>,
}

impl Responders {
    pub(crate) fn new() -> Result<Self, String> {
        let sockets = tempfile::tempdir();
        let sockets =
            sockets.map_err(|error| format!("cannot make a directory for sockets: {error}"))?;
        let running = Mutex::default();
        Ok(Responders { sockets, running })
    }

    /// Lets a responder answer. `command` starts it if it does not run.
    pub(crate) async fn ask(
        &self,
        command: Command,
        request: Request<'_>,
        body: Incoming,
    ) -> Result<Reply, Failure> {
        let socket = self
            .socket(request.name, command)
            .await
            .map_err(Failure::bad_gateway)?;
        let stream = UnixStream::connect(&socket).await;
        let (read, write) = stream
            .map_err(|error| Failure::bad_gateway(format!("it does not listen: {error}")))?
            .into_split();
        let sending = send(write, request.variables, body);
        let answering = async {
            // What of the request it does not want is its own affair.
            let (answer, _) = tokio::join!(receive(read), sending);
            answer
        };
        let answer = timeout(MAX_ANSWER_TIME, answering).await.map_err(|_| {
            let reason = format!("it did not answer within {} s", MAX_ANSWER_TIME.as_secs());
            Failure::new(StatusCode::GATEWAY_TIMEOUT, reason)
        })?;
        reply(&answer.map_err(Failure::bad_gateway)?, request.head_only)
            .map_err(Failure::bad_gateway)
    }

    /// The socket of a responder that runs.
    async fn socket(&self, name: &str, mut command: Command) -> Result<PathBuf, String> {
        let mut running = self.running.lock().await;
        let path = self.sockets.path().join(name);
        let is_running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        if running.get_mut(name).is_some_and(is_running) {
            return Ok(path);
        }
        // One that has ended has left its socket behind, or there is none yet.
        let _ = std::fs::remove_file(&path);
        let listener =
            UnixListener::bind(&path).map_err(|error| format!("no socket for it: {error}"))?;
        let child = command
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("it cannot be started: {error}"))?;
        running.insert(name.to_owned(), child);
        Ok(path)
    }
}

/// Sends a request: its variables, then its body as it comes.
async fn send(
    mut write: OwnedWriteHalf,
    variables: &[(OsString, OsString)],
    mut body: Incoming,
) -> std::io::Result<()> {
    let mut start = record(BEGIN_REQUEST, &BEGIN);
    let mut params = Vec::new();
    for (name, value) in variables {
        for part in [name, value] {
            push_length(&mut params, part.len());
        }
        params.extend_from_slice(name.as_bytes());
        params.extend_from_slice(value.as_bytes());
    }
    for part in params.chunks(LARGEST) {
        start.extend(record(PARAMS, part));
    }
    start.extend(record(PARAMS, &[]));
    write.write_all(&start).await?;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        for part in bytes.chunks(LARGEST) {
            write.write_all(&record(STDIN, part)).await?;
        }
    }
    write.write_all(&record(STDIN, &[])).await
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let mut record = vec![1, kind, 0, 1, high, low, 0, 0];
    record.extend_from_slice(content);
    record
}

/// A length in one byte, or in four with the highest bit set (FastCGI 1.0, 3.4).
fn push_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..=127) => out.push(short),
        _ => out.extend((u32::try_from(length).unwrap_or(u32::MAX) | 1 << 31).to_be_bytes()),
    }
}

/// Takes the answer out of its records.
async fn receive(mut read: OwnedReadHalf) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    loop {
        let mut header = [0; 8];
        let ended = |error| format!("it ended before it answered: {error}");
        read.read_exact(&mut header).await.map_err(ended)?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = vec![0; length + usize::from(header[6])];
        read.read_exact(&mut content).await.map_err(ended)?;
        match header[1] {
            STDOUT => answer.extend_from_slice(&content[..length]),
            END_REQUEST => return Ok(answer),
            _ => {}
        }
    }
}

fn reply(answer: &[u8], head_only: bool) -> Result<Reply, String> {
    let (head, length) = Head::parse(answer)?.ok_or("its answer has no end of the head")?;
    let body = if head_only {
        Vec::new()
    } else {
        answer[length..].to_vec()
    };
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = head.status;
    *reply.headers_mut() = head.headers;
    Ok(reply)
}
