//! [`Gateway`]: one process for one request, RFC 3875.
//!
//! A program belongs to the request that it was started for: when the client goes away, or after
//! [`MAX_RUN`], it is killed. When the client has all of the answer, the program may finish
//! what it does afterwards, such as a clean-up. Its stderr is this program's own or, where the command says that
//! it is a pipe, copied to it and shown on the page of a failure.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::reply::{Failure, Reply};
use crate::head::{BODILESS, Head};
use crate::report;

/// How many programs run at once; further requests wait.
const MAX_PROGRAMS: usize = 64;
/// No program runs longer than this.
const MAX_RUN: Duration = Duration::from_secs(60);
/// How much of a program's stderr a page shows, and how long it is waited for when the program has ended.
const MAX_ERRORS: usize = 16 << 10;
const MAX_ERRORS_WAIT: Duration = Duration::from_secs(1);
/// How much of a program's output is passed on at a time.
const CHUNK: usize = 16 << 10;

/// Starts programs, not too many at once.
pub struct Gateway {
    places: Arc<Semaphore>,
}

impl Default for Gateway {
    /// A gateway to programs, of which none runs.
    fn default() -> Self {
        Gateway {
            places: Arc::new(Semaphore::new(MAX_PROGRAMS)),
        }
    }
}

impl Gateway {
    /// Runs a program whose environment is complete, and returns its answer as soon as its head
    /// is there; the body follows as the program writes it.
    ///
    /// # Errors
    ///
    /// When the program gives no answer.
    pub async fn run(
        &self,
        mut command: Command,
        method: &Method,
        body: Incoming,
    ) -> Result<Reply, Failure> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|closed| Failure::bad_gateway(closed.to_string()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::bad_gateway(format!("it cannot be started: {error}")))?;
        if let Some(stdin) = child.stdin.take() {
            // A task of its own: a program may answer before it has read everything.
            tokio::spawn(timeout(MAX_RUN, feed(stdin, body)));
        }
        let errors = Arc::new(Mutex::new(Vec::new()));
        let copied = child.stderr.take();
        let copied = copied.map(|it| tokio::spawn(copy_errors(it, Arc::clone(&errors))));
        let (head_sender, head) = oneshot::channel();
        let (output_sender, output) = mpsc::channel(1);
        let head_only = method == Method::HEAD;
        tokio::spawn(async move {
            supervise(child, head_sender, output_sender, head_only).await;
            drop(place);
        });
        // A client who goes away now drops this future and `output` with it, which ends the run.
        let head = head.await.unwrap_or_else(|_| {
            let reason = format!("it did not answer within {} s", MAX_RUN.as_secs());
            Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, reason))
        });
        let head = match (head, copied) {
            (Err(mut failure), Some(copied)) => {
                // Another process that it started may have it open still.
                let _ = timeout(MAX_ERRORS_WAIT, copied).await;
                let errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
                failure.errors = String::from_utf8_lossy(&errors).into_owned();
                return Err(failure);
            }
            (head, _) => head?,
        };
        let mut reply = Response::new(Output(output).boxed());
        *reply.status_mut() = head.status;
        *reply.headers_mut() = head.headers;
        Ok(reply)
    }
}

/// Copies a program's stderr to that of this program, and keeps its beginning.
async fn copy_errors(mut stderr: ChildStderr, begin: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = Vec::with_capacity(CHUNK);
    while matches!(stderr.read_buf(&mut chunk).await, Ok(1..)) {
        // Without a reader it is lost.
        let _ = io::stderr().write_all(&chunk);
        let mut begin = begin.lock().unwrap_or_else(PoisonError::into_inner);
        chunk.truncate(MAX_ERRORS.saturating_sub(begin.len()));
        begin.append(&mut chunk);
        chunk.clear();
    }
}

/// Passes the client's body on. What the program does not want is read all the same: a connection
/// that is closed over unread bytes loses the answer.
async fn feed(stdin: ChildStdin, mut body: Incoming) {
    let mut stdin = Some(stdin);
    while let Some(Ok(frame)) = body.frame().await {
        let (Some(pipe), Ok(bytes)) = (&mut stdin, frame.into_data()) else {
            continue;
        };
        if pipe.write_all(&bytes).await.is_err() {
            stdin = None;
        }
    }
}

/// A part of a body, or its end.
type Part = Option<Bytes>;

/// Passes the answer of a running program on to the channels of its client, and sees the program end.
async fn supervise(
    mut child: Child,
    head: oneshot::Sender<Result<Head, Failure>>,
    output: mpsc::Sender<Part>,
    head_only: bool,
) {
    let Some(mut stdout) = child.stdout.take() else {
        return;
    };
    let process = child.id().unwrap_or_default();
    let end = Instant::now() + MAX_RUN;
    let has_answered = tokio::select! {
        // In this order: a client who has everything does not count as one who went away.
        biased;
        has_answered = relay(&mut child, &mut stdout, head, &output, head_only) => has_answered,
        () = output.closed() => false,
        () = sleep_until(end) => {
            let limit = MAX_RUN.as_secs();
            report::error(&format!("process {process} has not answered within {limit} s and is killed"));
            false
        }
    };
    drop(output);
    if has_answered {
        // Whether it ends in time or not, it has ended after the next line.
        let _ = timeout_at(end, finish(&mut child, &mut stdout)).await;
    }
    // Fails for a program that has ended, which is as well.
    let _ = child.kill().await;
}

/// Passes a program's answer on, and returns whether all of it was.
async fn relay(
    child: &mut Child,
    stdout: &mut ChildStdout,
    head_sender: oneshot::Sender<Result<Head, Failure>>,
    output: &mpsc::Sender<Part>,
    head_only: bool,
) -> bool {
    let (mut head, mut chunk) = match read_head(child, stdout).await {
        Ok(found) => found,
        Err(reason) => {
            // A client who went away misses nothing.
            let _ = head_sender.send(Err(Failure::bad_gateway(reason)));
            return false;
        }
    };
    let is_bodiless = BODILESS.contains(&head.status);
    if is_bodiless {
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(CONTENT_TYPE);
    }
    let has_no_body = head_only || is_bodiless;
    let mut left = has_no_body.then_some(0).or(head.content_length());
    if head_sender.send(Ok(head)).is_err() {
        return false;
    }
    loop {
        if let Some(left) = &mut left {
            chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= chunk.len() as u64;
        }
        if !chunk.is_empty() && output.send(Some(chunk.into())).await.is_err() {
            return left == Some(0);
        }
        chunk = Vec::with_capacity(CHUNK);
        if left == Some(0) || !matches!(stdout.read_buf(&mut chunk).await, Ok(1..)) {
            break;
        }
    }
    // The server closes this end by itself when it has as much as was announced.
    let _ = output.send(None).await;
    true
}

/// Reads the head and what came with it of the body.
async fn read_head(child: &mut Child, stdout: &mut ChildStdout) -> Result<(Head, Vec<u8>), String> {
    let mut bytes = Vec::with_capacity(CHUNK);
    loop {
        if let Some((head, length)) = Head::parse(&bytes)? {
            return Ok((head, bytes.split_off(length)));
        }
        let read = stdout.read_buf(&mut bytes).await;
        if read.map_err(|error| format!("its output cannot be read: {error}"))? == 0 {
            let ended = child.wait().await.map_err(|error| error.to_string())?;
            return Err(format!("it ended before it answered ({ended})"));
        }
    }
}

/// Waits until the program has ended by itself.
async fn finish(child: &mut Child, stdout: &mut ChildStdout) -> io::Result<()> {
    tokio::io::copy(stdout, &mut tokio::io::sink()).await?;
    child.wait().await.map(drop)
}

/// A program's body on its way to the client.
struct Output(mpsc::Receiver<Part>);

impl Body for Output {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|received| {
            // What breaks off must not pass for what has ended.
            let part = received.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
            part.transpose().map(|part| part.map(Frame::data))
        })
    }
}
