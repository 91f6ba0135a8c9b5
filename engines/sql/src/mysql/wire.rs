//! [`Wire`]: one connection to `MySQL`.

use std::time::Duration;

use cgi_session_kit::table::Row;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, Value};

use super::failure;
use crate::dialect::{Answer, Answers, Connection, Failure, Kind};
use crate::driver::Driver;

/// The servers of a cluster know all of them, others fewer, and answer up to the first one that they do not know.
const QUESTIONS: &str = "SELECT @@max_allowed_packet; SELECT @@wsrep_on; SELECT @@pxc_strict_mode";
/// To say good-bye takes no longer.
const GOOD_BYE: Duration = Duration::from_millis(100);

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
    pub(super) fn connect(
        options: &Opts,
        patience: Duration,
    ) -> Result<Box<dyn Connection>, Failure> {
        let connect = || Conn::new(options.clone());
        let (driver, connection) = Driver::connect(patience, connect, failure::of_login)?;
        let mut wire = Box::new(Wire {
            driver,
            connection: Some(connection),
            longest_script: usize::MAX,
            is_node: false,
        });
        let mut answers = wire.run(&[QUESTIONS.to_owned()], patience);
        // A server that does not know what is asked refuses it, and has none of it.
        let is_refused = answers.has(0) && answers.kind() == Some(Kind::Refused);
        if let Some(failure) = answers.failure.take_if(|_| !is_refused) {
            return Err(failure);
        }
        // The command's own byte is part of the packet.
        let longest = answers.number(0).saturating_sub(16);
        wire.longest_script = usize::try_from(longest).unwrap_or(usize::MAX);
        wire.is_node = answers.number(1) == 1;
        let mode = answers.row(2).and_then(|row| row.text(0));
        if let Some(mode @ ("ENFORCING" | "MASTER")) = mode {
            let cause = format!("pxc_strict_mode = {mode} forbids the locks of sessions");
            let hint = "set it to PERMISSIVE on every node";
            return Err(Failure::new(Kind::Refused, cause).with_hint(hint));
        }
        if wire.is_node {
            // A request that comes from another node finds here what was committed there.
            let wait = "SET SESSION wsrep_sync_wait = 1".to_owned();
            wire.run(&[wait], patience).whole()?;
        }
        Ok(wire)
    }
}

impl Connection for Wire {
    fn run(&mut self, script: &[String], patience: Duration) -> Answers {
        let mut answers = Answers::default();
        let Some(connection) = &mut self.connection else {
            return answers;
        };
        let is_node = self.is_node;
        let work = async {
            if !is_node {
                return ask(connection, &script.join("; "), &mut answers).await;
            }
            // A node can acknowledge a COMMIT that another node's has overruled, if it was sent together
            // with its UPDATE (seen with MariaDB 10.11); sent alone, it fails as it should.
            for statement in script {
                ask(connection, statement, &mut answers).await?;
            }
            Ok(())
        };
        let asked = self.driver.run(patience, work, failure::of_statement);
        answers.failure = asked.err();
        answers
    }

    /// A node answers a question when it has what the others have committed, and a ping at once.
    fn is_alive(&mut self, patience: Duration) -> bool {
        self.connection.as_mut().is_some_and(|connection| {
            let pinged = (self.driver).run(patience, connection.ping(), failure::of_statement);
            pinged.is_ok()
        })
    }

    fn longest_script(&self) -> usize {
        self.longest_script
    }
}

impl Drop for Wire {
    /// The server notes what ends without a word.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let said = connection.disconnect();
            // It ends also if the server does not hear it.
            let _ = self.driver.run(GOOD_BYE, said, failure::of_statement);
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
