//! [`Wire`]: one connection to `PostgreSQL`.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures_util::Stream as _;
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Socket};

use super::failure;
use crate::driver::Driver;
use crate::engine::{Answer, Answers, Connection, Failure, Row, Script};

/// A message to the server has at most so many bytes.
const LONGEST: usize = (1 << 30) - (1 << 16);

/// A kept connection that does not answer in this time is given up.
const LIVELY: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Wire {
    driver: Driver,
    client: Client,
    /// Moves what is asked and answered. It ends with the connection, and knows why; `None` once it has said so.
    work: Option<JoinHandle<Result<(), Error>>>,
}

impl Wire {
    pub(super) fn connect<T>(
        login: &tokio_postgres::Config,
        tls: &T,
        patience: Duration,
    ) -> Result<Self, Failure>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    {
        let driver = Driver::new().map_err(|error| failure::unreachable(error.into()))?;
        let connected = driver.connect(patience, || login.connect(tls.clone()));
        let (client, work) = connected
            .ok_or_else(failure::late)?
            .map_err(|error| failure::of_login(&error))?;
        let work = Some(driver.spawn(work).ok_or_else(failure::late)?);
        Ok(Wire {
            driver,
            client,
            work,
        })
    }
}

impl Connection for Wire {
    fn run(&mut self, script: &Script, patience: Duration) -> Answers {
        let mut answers = Answers::default();
        let text = script.text();
        let asking = ask(&self.client, &text, &mut answers);
        answers.failure = match self.driver.run(patience, asking) {
            Some(Ok(())) => None,
            Some(Err(error)) if error.is_closed() => {
                // That the connection has ended is all that is heard there.
                let work = self.work.take();
                let end = work.and_then(|work| self.driver.run(patience, work));
                let end = end.and_then(Result::ok).and_then(Result::err);
                Some(failure::of_statement(&end.unwrap_or(error)))
            }
            Some(Err(error)) => Some(failure::of_statement(&error)),
            None => Some(failure::late()),
        };
        answers
    }

    /// A server's process that stands still has not ended.
    fn is_alive(&mut self) -> bool {
        self.run(&Script::of("SELECT 1"), LIVELY).failure.is_none()
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
