//! [`Connector`]: connections to tables of this version, kept in the pool, and what their failures mean.

use std::sync::OnceLock;
use std::time::Duration;

use cgi_session::{Error, Result};
use cgi_session_kit::pool::{self, Pool};
use cgi_session_kit::table::Row;

use super::address::Address;
use super::dialect::{Answers, Connect, Connection, Dialect, Failure, Kind};

/// An answer may take so long, however short `lockTimeout` is, and no longer, however long it is.
const PATIENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(10)];
/// Rows are locked for the time of a short statement, unless another program holds them.
pub(super) const ROW_WAIT: Duration = Duration::from_secs(1);
/// A kept connection that does not answer in this time is given up. A server's process that stands still has not ended.
const LIVELY: Duration = Duration::from_secs(1);

/// The version of the tables that this release knows.
pub(super) const VERSION: u64 = 1;
/// The row of the table of states that holds it.
pub(super) const SCHEMA: &str = "schema";

/// Connects to one server.
pub(super) struct Connector {
    pub(super) address: Address,
    pub(super) dialect: &'static Dialect,
    pub(super) connect: Box<Connect>,
    /// Where the tables are among those of the server, as it says itself.
    pub(super) schema: OnceLock<String>,
}

/// What the store, its leases and its clean-up have in common.
pub(super) struct Database {
    pub(super) pool: Pool<Connector>,
}

/// A connection that the pool may keep.
pub(super) struct Link {
    connection: Box<dyn Connection>,
    patience: Duration,
    /// Whether it lay in the pool, where the server may have ended it.
    is_kept: bool,
    /// The pool's; none of one that is not for the pool.
    generation: Option<u64>,
}

impl Connector {
    /// A connection on which no answer may take longer than `patience`, and which may be silent for as long as `lease`.
    /// Its tables may be of any version, or missing. With what it is asked first.
    pub(super) fn open(
        &self,
        patience: Duration,
        lease: Duration,
        action: &str,
        question: String,
    ) -> Result<(Link, Vec<Row>)> {
        let connection = (self.connect)(&self.address, patience);
        let mut link = Link {
            connection: connection.map_err(|failure| self.explain("connect to", failure))?,
            patience,
            is_kept: false,
            generation: None,
        };
        let mut script = (self.dialect.settings)(lease, patience);
        script.push(question);
        let answers = link.run(&script);
        if answers.number(0) == 1 {
            let action = format!("cannot keep sessions in {}", self.address);
            let cause = "a proxy passes connections on from program to program without resetting them, \
                         so that the locks of sessions do not hold";
            let hint = "have it keep a connection for each client (PgBouncer: pool_mode = session), or leave it out";
            return Err(Error::store(action, cause).with_hint(hint));
        }
        let answers = answers.whole();
        let mut answers = answers.map_err(|failure| self.explain(action, failure))?;
        let schema = answers.row(0).and_then(|row| row.text(1));
        self.schema
            .get_or_init(|| schema.unwrap_or_default().to_owned());
        Ok((link, answers.take_rows(script.len() - 1)))
    }

    /// The same, with tables of this version.
    pub(super) fn open_checked(&self, patience: Duration, lease: Duration) -> Result<Link> {
        let action = "use the sessions in";
        let (link, rows) = self.open(patience, lease, action, self.selection_of_schema())?;
        self.check_schema(rows.first().map(|row| row.number(0)))?;
        Ok(link)
    }

    /// Asks for the version of the tables.
    pub(super) fn selection_of_schema(&self) -> String {
        let table = self.address.config.table();
        format!("SELECT value FROM \"{table}_state\" WHERE name = '{SCHEMA}'")
    }

    /// Whether tables of the version that was found can be used.
    pub(super) fn check_schema(&self, found: Option<u64>) -> Result<()> {
        let (table, address) = (self.address.config.table(), &self.address);
        let (cause, hint) = match found {
            Some(VERSION) => return Ok(()),
            Some(later) if later > VERSION => (
                format!(
                    "a later release of cgi-session has made the table {table} (version {later})"
                ),
                "it was left as it is; use that release here, too, or another table",
            ),
            _ => (
                format!("the table {table} is not complete"),
                "run `cgi-session init`",
            ),
        };
        Err(Error::store(format!("cannot use the sessions in {address}"), cause).with_hint(hint))
    }

    /// A failure as an error, with what to do about it.
    fn explain(&self, action: &str, failure: Failure) -> Error {
        let address = &self.address;
        let action = format!("cannot {action} {address}");
        let hint = match failure.kind {
            Kind::NoTable => "the table is missing or not complete; run `cgi-session init`",
            Kind::Late | Kind::Unavailable if failure.hint.is_empty() => self.dialect.advice,
            _ => failure.hint,
        };
        let error = match failure.kind {
            Kind::Locked | Kind::Conflict => {
                return Error::Busy {
                    waited: Duration::ZERO,
                    holder: Some(format!("another program that changes {address}")),
                };
            }
            Kind::NoTable | Kind::Duplicate | Kind::Refused => Error::store(action, failure.cause),
            _ => Error::unavailable(action, failure.cause),
        };
        error.with_hint(hint)
    }
}

impl pool::Connect for Connector {
    type Connection = Link;

    fn connect(&self) -> Result<Link> {
        let (config, [shortest, longest]) = (&self.address.config, PATIENCE);
        let patience = config.lock_timeout().clamp(shortest, longest);
        self.open_checked(patience, config.lock_lease())
    }

    fn is_alive(&self, link: &mut Link) -> bool {
        link.connection.is_alive(LIVELY)
    }
}

impl Link {
    pub(super) fn run(&mut self, script: &[String]) -> Answers {
        self.run_within(script, Duration::ZERO)
    }

    /// Runs a script whose answers may take so much longer. What the server would not take is not sent.
    pub(super) fn run_within(&mut self, script: &[String], wait: Duration) -> Answers {
        let longest = self.connection.longest_script();
        let length: usize = script.iter().map(|statement| statement.len() + 2).sum();
        if length > longest {
            let cause = format!("the server takes no statement of more than {longest} bytes");
            let hint = "nothing was stored; lower maxRecordBytes, or raise the server's max_allowed_packet";
            let failure = Some(Failure::new(Kind::Refused, cause).with_hint(hint));
            return Answers {
                failure,
                ..Answers::default()
            };
        }
        let patience = self.patience.saturating_add(wait);
        self.connection.run(script, patience)
    }
}

impl Database {
    pub(super) fn server(&self) -> &Connector {
        self.pool.engine()
    }

    /// A connection that worked when it was last asked.
    pub(super) fn take(&self) -> Result<Link> {
        let (mut link, generation) = self.pool.take()?;
        link.generation = Some(generation);
        Ok(link)
    }

    /// A connection that works now, for what cannot be run twice.
    pub(super) fn take_alive(&self) -> Result<Link> {
        let mut link = self.take()?;
        if !link.is_kept || pool::Connect::is_alive(self.server(), &mut link) {
            return Ok(link);
        }
        self.reconnect()
    }

    /// A connection to wherever the address leads now, when one has failed: then so do all that were made
    /// before.
    fn reconnect(&self) -> Result<Link> {
        self.pool.close();
        let (mut link, generation) = self.pool.connect()?;
        link.generation = Some(generation);
        Ok(link)
    }

    /// Gives a connection back on which no transaction is open and that has no lock.
    pub(super) fn keep(&self, mut link: Link) {
        link.is_kept = true;
        if let Some(generation) = link.generation {
            self.pool.keep(link, generation);
        }
    }

    /// Runs a script that may be run twice: one that fails because the server has ended a kept connection
    /// meanwhile, or may only read by now, is run once more on a new one.
    pub(super) fn run(&self, script: &[String], wait: Duration) -> Result<(Link, Answers)> {
        let mut link = self.take()?;
        let mut answers = link.run_within(script, wait);
        if let Some(Kind::Ended | Kind::Broken | Kind::ReadOnly) = answers.kind()
            && link.is_kept
        {
            link = self.reconnect()?;
            answers = link.run_within(script, wait);
        }
        Ok((link, answers))
    }

    /// The same, to its end.
    pub(super) fn complete(
        &self,
        action: &str,
        script: &[String],
        wait: Duration,
    ) -> Result<Answers> {
        let (link, answers) = self.run(script, wait)?;
        let answers = answers.whole();
        let answers = answers.map_err(|failure| self.explain(action, failure))?;
        self.keep(link);
        Ok(answers)
    }

    /// A failure as an error. The other connections lead to the same server.
    pub(super) fn explain(&self, action: &str, failure: Failure) -> Error {
        self.give_up(Some(failure.kind));
        self.server().explain(action, failure)
    }

    /// A failure of something that may have been carried out all the same.
    pub(super) fn unknown(&self, action: &str, failure: Failure) -> Error {
        let hint = "whether it was carried out is not known";
        match failure.kind {
            Kind::ReadOnly => self.explain(action, failure),
            _ => self.explain(action, failure.with_hint(hint)),
        }
    }

    /// Keeps no connection to a server that is of no use.
    pub(super) fn give_up(&self, failure: Option<Kind>) {
        if let Some(Kind::Late | Kind::Unavailable | Kind::ReadOnly) = failure {
            self.pool.close();
        }
    }
}
