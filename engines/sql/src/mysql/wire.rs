//! [`Wire`]: one connection to `MySQL`.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, Value};

use super::failure;
use crate::driver::Driver;
use crate::engine::{Answer, Answers, Connection, Failure, Kind, Row, Script};

/// The servers of a cluster know all of them, others fewer, and answer up to the first one that they do not know.
const QUESTIONS: &str = "SELECT @@max_allowed_packet; SELECT @@wsrep_on; SELECT @@pxc_strict_mode";
/// To say good-bye takes no longer.
const GOOD_BYE: Duration = Duration::from_millis(100);
/// A kept connection that does not answer in this time is given up.
const LIVELY: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Wire {
    driver: Driver,
    /// `None` when it is dropped.
    connection: Option<Conn>,
    longest_script: usize,
    /// Of a Galera cluster.
    is_node: bool,
}

impl Wire {
    pub(super) fn connect(options: &Opts, patience: Duration) -> Result<Self, Failure> {
        let driver = Driver::new().map_err(|error| failure::unreachable(error.into()))?;
        let connected = driver.connect(patience, || Conn::new(options.clone()));
        let connection = connected
            .ok_or_else(failure::late)?
            .map_err(|error| failure::of_login(&error))?;
        let mut wire = Wire {
            driver,
            connection: Some(connection),
            longest_script: usize::MAX,
            is_node: false,
        };
        let mut answers = wire.run(&Script::of(QUESTIONS), patience);
        let failed = answers.failure.take();
        let Some(longest) = answers.row(0) else {
            return Err(failed.unwrap_or_else(failure::late));
        };
        // A server that does not know what is asked refuses it, and has none of it.
        if let Some(failure) =
            failed.filter(|failure| matches!(failure.kind, Kind::Late | Kind::Broken | Kind::Ended))
        {
            return Err(failure);
        }
        // The command's own byte is part of the packet.
        wire.longest_script = longest.size(0).saturating_sub(16);
        wire.is_node = answers.row(1).is_some_and(|row| row.number(0) == 1);
        let mode = answers.row(2).and_then(|row| row.text(0));
        if let Some(mode @ ("ENFORCING" | "MASTER")) = mode {
            let cause = format!("pxc_strict_mode = {mode} forbids the locks of sessions");
            let hint = "set it to PERMISSIVE on every node";
            return Err(Failure::new(Kind::Refused, cause).with_hint(hint));
        }
        if wire.is_node {
            // A request that comes from another node finds here what was committed there.
            let wait = Script::of("SET SESSION wsrep_sync_wait = 1");
            if let Some(failure) = wire.run(&wait, patience).failure {
                return Err(failure);
            }
        }
        Ok(wire)
    }
}

impl Connection for Wire {
    fn run(&mut self, script: &Script, patience: Duration) -> Answers {
        let mut answers = Answers::default();
        let Some(connection) = &mut self.connection else {
            return answers;
        };
        let is_node = self.is_node;
        let asked = self.driver.run(patience, async {
            if !is_node {
                return ask(connection, &script.text(), &mut answers).await;
            }
            // A node can acknowledge a COMMIT that another node's has overruled, if it was sent together
            // with its UPDATE (seen with MariaDB 10.11); sent alone, it fails as it should.
            for statement in &script.statements {
                ask(connection, statement, &mut answers).await?;
            }
            Ok(())
        });
        answers.failure = match asked {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(failure::of_statement(&error)),
            None => Some(failure::late()),
        };
        answers
    }

    fn is_alive(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let answered = self.driver.run(LIVELY, connection.ping());
        answered.is_some_and(|pong| pong.is_ok())
    }

    fn longest_script(&self) -> usize {
        self.longest_script
    }
}

impl Drop for Wire {
    /// The server notes what ends without a word.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.driver.run(GOOD_BYE, connection.disconnect());
        }
    }
}

/// Asks, and notes what is answered statement by statement.
async fn ask(connection: &mut Conn, text: &str, answers: &mut Answers) -> Result<(), Error> {
    let mut results = connection.query_iter(text).await?;
    loop {
        let changed = results.affected_rows();
        let has_rows = !results.columns_ref().is_empty();
        let mut rows = Vec::new();
        // It fails also when the next statement does.
        let read = results.for_each(|row| rows.push(as_text(row))).await;
        if !has_rows || !rows.is_empty() || read.is_ok() {
            answers.done.push(Answer { rows, changed });
        }
        read?;
        if results.is_empty() {
            // Here the error of the next statement may be waiting.
            return results.drop_result().await;
        }
    }
}

fn as_text(row: mysql_async::Row) -> Row {
    let column = |value| match value {
        Value::Bytes(bytes) => Some(bytes),
        // Others are not sent in answer to a text.
        _ => None,
    };
    Row(row.unwrap().into_iter().map(column).collect())
}
