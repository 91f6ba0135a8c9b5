//! [`Connector`]: connections to tables of this version, kept in the pool, and what their failures mean.

use std::time::Duration;

use cgi_session::store::Expiry;
use cgi_session::{Config, Error, Result};
use cgi_session_kit::pool::{self, Pool};

use super::engine::{Answers, Connection, Dialect, Engine, Failure, Kind, Script};
use super::state;

/// An answer may take so long, however short `lockTimeout` is, and no longer, however long it is.
const PATIENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(10)];
/// Rows are locked for the time of a short statement, unless another program holds them.
pub(super) const ROW_WAIT: Duration = Duration::from_secs(1);
/// What looks after all sessions may take longer than a request.
pub(super) const ADMINISTRATOR: Duration = Duration::from_secs(120);

/// Connects to one server.
pub(super) struct Connector {
    pub(super) engine: Box<dyn Engine>,
    table: String,
    pub(super) patience: Duration,
    lease: Duration,
}

/// What the store, its leases and its clean-up have in common.
pub(super) struct Database {
    pub(super) pool: Pool<Connector>,
    pub(super) table: String,
    pub(super) expiry: Expiry,
    pub(super) config: Config,
}

/// A connection that the pool may keep.
pub(super) struct Link {
    connection: Box<dyn Connection>,
    pub(super) patience: Duration,
    /// Whether it lay in the pool, where the server may have ended it.
    is_kept: bool,
    /// The pool's; none of one that is not for the pool.
    generation: Option<u64>,
}

impl Connector {
    pub(super) fn new(engine: Box<dyn Engine>, config: &Config) -> Self {
        let [shortest, longest] = PATIENCE;
        Connector {
            engine,
            table: config.table().to_owned(),
            patience: config.lock_timeout().clamp(shortest, longest),
            lease: config.lock_lease(),
        }
    }

    /// A connection whose tables may be of any version, or missing.
    fn open(&self, patience: Duration, first: &Script) -> Result<(Link, Answers)> {
        let failed = |failure| explain(self.engine.as_ref(), "connect to", failure);
        let connection = self.engine.connect(patience).map_err(failed)?;
        let mut link = Link {
            connection,
            patience,
            is_kept: false,
            generation: None,
        };
        let answers = link.run(first);
        if answers.row(0).is_some_and(|row| row.number(0) == 1) {
            let action = format!("cannot keep sessions in {}", self.engine.address());
            let cause = "a proxy passes connections on from program to program without resetting them, \
                         so that the locks of sessions do not hold";
            let hint = "have it keep a connection for each client (PgBouncer: pool_mode = session), or leave it out";
            return Err(Error::store(action, cause).with_hint(hint));
        }
        Ok((link, answers))
    }

    fn open_checked(&self, patience: Duration, lease: Duration) -> Result<Link> {
        let mut script = self.engine.settings(lease);
        let version = script.push(&state::version_of(&self.table));
        let (link, mut answers) = self.open(patience, &script)?;
        if let Some(failure) = answers.failure.take() {
            return Err(explain(
                self.engine.as_ref(),
                "use the sessions in",
                failure,
            ));
        }
        let found = answers.row(version).map(|row| row.number(0));
        state::check(&self.table, self.engine.address(), found)?;
        Ok(link)
    }
}

impl pool::Connect for Connector {
    type Connection = Link;

    fn connect(&self) -> Result<Link> {
        self.open_checked(self.patience, self.lease)
    }

    fn is_alive(&self, link: &mut Link) -> bool {
        link.connection.is_alive()
    }
}

impl Link {
    pub(super) fn run(&mut self, script: &Script) -> Answers {
        self.run_within(script, self.patience)
    }

    /// Runs a script whose answers may take so long. What the server would not take is not sent.
    pub(super) fn run_within(&mut self, script: &Script, patience: Duration) -> Answers {
        let longest = self.connection.longest_script();
        if script.length() > longest {
            let cause = format!("the server takes no statement of more than {longest} bytes");
            let hint = "nothing was stored; lower maxRecordBytes, or raise the server's max_allowed_packet";
            let failure = Some(Failure::new(Kind::Refused, cause).with_hint(hint));
            return Answers {
                failure,
                ..Answers::default()
            };
        }
        self.connection.run(script, patience)
    }

    /// Ends the transaction without its changes, if there is one; `false` when the connection is of no use any more.
    pub(super) fn roll_back(&mut self) -> bool {
        self.run(&Script::of("ROLLBACK")).failure.is_none()
    }
}

impl Database {
    /// The table's name in a statement.
    pub(super) fn table(&self) -> String {
        format!("\"{}\"", self.table)
    }

    /// The name of the table with the time of the last clean-up and the schema's version.
    pub(super) fn state(&self) -> String {
        format!("\"{}_state\"", self.table)
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        self.pool.engine().engine.as_ref()
    }

    pub(super) fn dialect(&self) -> &'static Dialect {
        self.engine().dialect()
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
        if !link.is_kept || link.connection.is_alive() {
            return Ok(link);
        }
        self.reconnect()
    }

    /// A connection to wherever the address leads now, when one has failed: then so do all that were made
    /// before.
    pub(super) fn reconnect(&self) -> Result<Link> {
        self.pool.close();
        let (mut link, generation) = self.pool.connect()?;
        link.generation = Some(generation);
        Ok(link)
    }

    /// A connection on which answers may take long, and which may be silent for longer than one takes on
    /// another. It is not for the pool.
    pub(super) fn take_patient(&self) -> Result<Link> {
        let connector = self.pool.engine();
        connector.open_checked(ADMINISTRATOR, 2 * ADMINISTRATOR)
    }

    /// A connection to a database in which the tables may be missing.
    pub(super) fn take_unchecked(&self) -> Result<Link> {
        let connector = self.pool.engine();
        let settings = connector.engine.settings(ADMINISTRATOR);
        let (link, mut answers) = connector.open(ADMINISTRATOR, &settings)?;
        match answers.failure.take() {
            None => Ok(link),
            Some(failure) => Err(self.explain("use", failure)),
        }
    }

    /// Gives a connection back on which no transaction is open and that has no lock.
    pub(super) fn keep(&self, mut link: Link) {
        link.is_kept = true;
        if let Some(generation) = link.generation {
            self.pool.keep(link, generation);
        }
    }

    /// What a failure says of the other connections: they lead to the same server.
    pub(super) fn give_up(&self, failure: &Failure) {
        if matches!(
            failure.kind,
            Kind::Late | Kind::Unavailable | Kind::ReadOnly
        ) {
            self.pool.close();
        }
    }

    /// Runs a script that may be run twice: one that fails because the server has ended a kept connection
    /// meanwhile, or may only read by now, is run once more on a new one.
    pub(super) fn run(&self, script: &Script, wait: Duration) -> Result<(Link, Answers)> {
        let mut link = self.take()?;
        let mut answers = link.run_within(script, link.patience.saturating_add(wait));
        let is_stale =
            |failure: &Failure| matches!(failure.kind, Kind::Ended | Kind::Broken | Kind::ReadOnly);
        if link.is_kept && answers.failure.as_ref().is_some_and(is_stale) {
            link = self.reconnect()?;
            answers = link.run_within(script, link.patience.saturating_add(wait));
        }
        Ok((link, answers))
    }

    /// Runs a script on a connection that is closed when it fails.
    pub(super) fn ask_on(&self, link: &mut Link, action: &str, script: &Script) -> Result<Answers> {
        let mut answers = link.run(script);
        match answers.failure.take() {
            None => Ok(answers),
            Some(failure) => Err(self.explain(action, failure)),
        }
    }

    /// As [`Database::run`], to its end.
    pub(super) fn ask(&self, action: &str, script: &Script, wait: Duration) -> Result<Answers> {
        let (link, mut answers) = self.run(script, wait)?;
        match answers.failure.take() {
            None => self.keep(link),
            Some(failure) => {
                self.give_up(&failure);
                return Err(self.explain(action, failure));
            }
        }
        Ok(answers)
    }

    pub(super) fn explain(&self, action: &str, failure: Failure) -> Error {
        explain(self.engine(), action, failure)
    }
}

/// A failure as an error, with what to do about it.
fn explain(engine: &dyn Engine, action: &str, failure: Failure) -> Error {
    let address = engine.address();
    let action = format!("cannot {action} {address}");
    let hint = failure.hint;
    match failure.kind {
        Kind::Locked | Kind::Conflict => Error::Busy {
            waited: Duration::ZERO,
            holder: Some(format!("another program that changes {address}")),
        },
        Kind::Ended | Kind::Broken | Kind::Late | Kind::Unavailable | Kind::ReadOnly => {
            Error::unavailable(action, failure.cause).with_hint(hint)
        }
        Kind::NoTable => Error::store(action, failure.cause)
            .with_hint("the table is missing or not complete; run `cgi-session init`"),
        Kind::Duplicate | Kind::Refused => Error::store(action, failure.cause).with_hint(hint),
    }
}
