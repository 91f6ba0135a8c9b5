//! [`Wire`]: one connection, which does its work while somebody waits for an answer, on his thread and within
//! his patience. There is no other thread, and no runtime that another one could be in the way of.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::Stream as _;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::failure;
use super::socket::Socket;
use crate::engine::{Answer, Answers, Connection, Failure, Row, Script};

/// A message to the server has at most so many bytes.
const LONGEST: usize = (1 << 30) - (1 << 16);

/// A kept connection that does not answer in this time is given up.
const LIVELY: Duration = Duration::from_secs(1);

/// Moves what is asked and answered. It is ready when the connection has ended.
type Work = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// One connection.
pub(super) struct Wire {
    socket: Socket,
    client: Client,
    /// None when it has ended: whoever waits for it hears of that when it is gone.
    work: Option<Work>,
    /// Why it has ended.
    end: Option<Error>,
}

impl Wire {
    pub(super) fn connect<T>(
        socket: Socket,
        login: &tokio_postgres::Config,
        tls: T,
        deadline: Instant,
    ) -> Result<Self, Failure>
    where
        T: TlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let mut connecting = pin!(login.connect_raw(socket.clone(), tls));
        let connected = socket.drive(deadline, |context| connecting.as_mut().poll(context));
        match connected {
            Ok(Some(Ok((client, work)))) => Ok(Wire {
                socket,
                client,
                work: Some(Box::pin(work)),
                end: None,
            }),
            Ok(Some(Err(error))) => Err(failure::of_login(&error)),
            Ok(None) => Err(failure::late()),
            Err(error) => Err(failure::unreachable(error.into())),
        }
    }

    /// Lets the connection work until a script is answered; `None` when it is not by the deadline.
    fn wait(
        &mut self,
        script: &Script,
        deadline: Instant,
        answers: &mut Answers,
    ) -> io::Result<Option<Result<(), Error>>> {
        let Wire {
            socket,
            client,
            work,
            end,
        } = self;
        let mut asking = pin!(ask(client, script.text(), answers));
        socket.drive(deadline, |context| {
            advance(work, end, context);
            asking.as_mut().poll(context)
        })
    }
}

/// Lets a connection do what it can, and notes its end.
fn advance(work: &mut Option<Work>, end: &mut Option<Error>, context: &mut Context<'_>) {
    if let Some(working) = work
        && let Poll::Ready(ended) = working.as_mut().poll(context)
    {
        (*work, *end) = (None, ended.err());
    }
}

impl Connection for Wire {
    fn run(&mut self, script: &Script, patience: Duration) -> Answers {
        let Some(deadline) = Instant::now().checked_add(patience) else {
            return Answers::failed(failure::late());
        };
        let mut answers = Answers::default();
        let asked = self.wait(script, deadline, &mut answers);
        answers.failure = match asked {
            Ok(Some(Ok(()))) => None,
            // That the connection has ended is all that is heard here; it knows why.
            Ok(Some(Err(error))) => Some(failure::of_statement(error, self.end.take())),
            Ok(None) => Some(failure::late()),
            Err(error) => Some(failure::broken(error.into())),
        };
        answers
    }

    fn has_ended(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        advance(&mut self.work, &mut self.end, &mut context);
        self.work.is_none()
    }

    /// A server's process that stands still has not ended.
    fn is_alive(&mut self) -> bool {
        !self.has_ended() && self.run(&Script::of("SELECT 1"), LIVELY).failure.is_none()
    }

    fn longest_script(&self) -> usize {
        LONGEST
    }
}

/// Asks, and notes what is answered statement by statement.
async fn ask(client: &Client, script: &str, answers: &mut Answers) -> Result<(), Error> {
    let mut messages = pin!(client.simple_query_raw(script).await?);
    let mut rows = Vec::new();
    while let Some(message) = poll_fn(|context| messages.as_mut().poll_next(context)).await {
        match message? {
            SimpleQueryMessage::Row(row) => {
                let column = |at| row.get(at).map(|text| text.as_bytes().to_vec());
                rows.push(Row((0..row.len()).map(column).collect()));
            }
            SimpleQueryMessage::CommandComplete(changed) => answers.done.push(Answer {
                rows: std::mem::take(&mut rows),
                changed,
            }),
            _ => {}
        }
    }
    Ok(())
}
