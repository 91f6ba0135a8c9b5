//! [`Wire`]: one connection to `PostgreSQL`.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use cgi_session_kit::table::Row;
use futures_util::Stream as _;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::failure;
use crate::dialect::{Answer, Answers, Connection};
use crate::driver::Driver;

/// A message to the server has at most so many bytes.
const LONGEST: usize = (1 << 30) - (1 << 16);

/// One connection.
pub(super) struct Wire {
    pub(super) driver: Driver,
    pub(super) client: Client,
    /// Moves what is asked and answered. It ends with the connection, and knows why; `None` once it has said so.
    pub(super) work: Option<JoinHandle<Result<(), Error>>>,
}

impl Connection for Wire {
    fn run(&mut self, script: &[String], patience: Duration) -> Answers {
        let mut answers = Answers::default();
        let (client, work) = (&self.client, &mut self.work);
        let question = async {
            match ask(client, &script.join("; "), &mut answers).await {
                // That the connection has ended is all that is heard there.
                Err(error) if error.is_closed() => match work.take() {
                    Some(work) => Err(work.await.ok().and_then(Result::err).unwrap_or(error)),
                    None => Err(error),
                },
                asked => asked,
            }
        };
        let asked = (self.driver).run(patience, question, failure::of_statement);
        answers.failure = asked.err();
        answers
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
