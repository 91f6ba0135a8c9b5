//! CherryPy's custom storage: sessions in a table of MySQL or MariaDB, by three functions.
//!
//! CherryPy's page made the table without a key, deleted and inserted a row in two steps, and
//! wrote the id into the SQL text. Here is the same with a key, one step, and bound parameters:
//!
//! ```sql
//! create table session_data (
//!     sessionId varchar(50) not null primary key,
//!     sessionData text not null,
//!     expirationTime int unsigned not null
//! );
//! ```
//!
//! A `text` ends at 65,535 bytes, and `int unsigned` in 2106. Which database it is, says
//! the key `database`: `mysql://user:password@host/name`. What the functions lack, the
//! library brings: a lock for each session, in `storageFileDir`, and the comparison of times.

use std::process::ExitCode;
use std::time::Duration;

use cgi_session::{
    Config, CustomFunctions, CustomResult, CustomStore, Error, Program, Request, Response, Result,
    SessionManager,
};
use http::StatusCode;
use mysql::prelude::Queryable as _;
use mysql::{Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, PooledConn};

mod site;

/// How many bytes fit into a `text`.
const LONGEST_TEXT: usize = 65_535;
/// A server that does not answer must not hold a request for ever.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let found = Config::find();
    match found.as_ref().map(|config| config.get("database")) {
        Ok(Some(database)) if database.is_empty() => Program::new()
            .manager(no_manager)
            .run(|_: &mut Request| Ok::<_, Error>(what_to_do())),
        _ => Program::new().manager(manager).run(custom_store),
    }
}

/// The table of CherryPy's page.
struct SessionData {
    pool: Pool,
    /// Where it is, without the password.
    place: String,
}

impl SessionData {
    fn connect(&self) -> CustomResult<PooledConn> {
        self.pool.try_get_conn(PATIENCE).map_err(|error| {
            let place = &self.place;
            format!("cannot connect to the database {place}: {error}; is the server there, and is what `database` says right?").into()
        })
    }
}

impl CustomFunctions for SessionData {
    fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()> {
        let sql = "insert into session_data (sessionId, sessionData, expirationTime) values (?, ?, ?) \
                   on duplicate key update sessionData = values(sessionData), expirationTime = values(expirationTime)";
        Ok(self.connect()?.exec_drop(sql, (key, data, expires))?)
    }

    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
        let sql = "select sessionData, expirationTime from session_data where sessionId = ?";
        Ok(self.connect()?.exec_first(sql, (key,))?)
    }

    fn clean_up(&self, now: u64) -> CustomResult<u64> {
        let mut connection = self.connect()?;
        let sql = "delete from session_data where expirationTime < ?";
        connection.exec_drop(sql, (now,))?;
        Ok(connection.affected_rows())
    }

    // Of the two functions that follow, CherryPy had none.

    fn delete(&self, key: &str) -> CustomResult<()> {
        let sql = "delete from session_data where sessionId = ?";
        Ok(self.connect()?.exec_drop(sql, (key,))?)
    }

    fn keys(&self) -> CustomResult<Option<Vec<String>>> {
        let keys = self
            .connect()?
            .query("select sessionId from session_data")?;
        Ok(Some(keys))
    }
}

fn manager() -> Result<SessionManager> {
    let config = Config::find()?;
    let limit = config.get("maxRecordBytes").unwrap_or_default();
    let config = match limit.parse::<usize>() {
        // A server that is not strict would cut what is longer.
        Ok(bytes) if bytes > LONGEST_TEXT => {
            config.set("maxRecordBytes", LONGEST_TEXT.to_string())?
        }
        _ => config,
    };
    let database = config.database().unwrap_or_default();
    let wrong = |error: &dyn std::fmt::Display| {
        let origin = config.origin("database");
        Error::Config(format!(
            "database ({origin}): {error}; it must be mysql://user:password@host/name"
        ))
    };
    // Its own error may quote a part of the password.
    let options = Opts::from_url(database).map_err(|_| wrong(&"it is no address of a database"))?;
    let place = place(&options);
    // Connected when the first session is asked for, and again when the server has been away.
    let connections = PoolConstraints::new(0, 16).unwrap_or_default();
    let options = OptsBuilder::from_opts(options)
        .pool_opts(PoolOpts::new().with_constraints(connections))
        .tcp_connect_timeout(Some(PATIENCE))
        .read_timeout(Some(PATIENCE))
        .write_timeout(Some(PATIENCE));
    let pool = Pool::new(options).map_err(|error| wrong(&error))?;
    let store = CustomStore::new(&config, SessionData { pool, place })?;
    SessionManager::with_store(config, store)
}

/// What may be said of a database.
fn place(options: &Opts) -> String {
    format!(
        "{} at {}:{} as {}",
        options.get_db_name().unwrap_or("(no name)"),
        options.get_ip_or_hostname(),
        options.get_tcp_port(),
        options.get_user().unwrap_or("(no user)")
    )
}

fn custom_store(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let counter = session.get::<u64>("counter")?.unwrap_or(0) + 1;
    session.insert("counter", counter)?;

    let body = format!(
        "<p class=\"answer\">Hello, you've been here {counter} time(s)</p>\n\
         <p class=\"actions\"><a class=\"button\" href=\"custom_store\">Count again</a></p>\n\
         <p class=\"note\">This number is in a table of a database, where three functions of this program \
         keep it: save, load and clean up.</p>"
    );
    Ok(site::page("Custom store", &body))
}

/// Without a database there are no sessions, and nothing fails.
fn no_manager() -> Result<SessionManager> {
    SessionManager::new(Config::new().set("storageType", "ram")?)
}

fn what_to_do() -> Response {
    let body = "<p class=\"answer\">No database is set.</p>\n\
        <p>This example keeps its sessions in MySQL or MariaDB. Make the table:</p>\n\
        <pre>create table session_data (\n    sessionId varchar(50) not null primary key,\n    \
        sessionData text not null,\n    expirationTime int unsigned not null\n);</pre>\n\
        <p>Then name the database, in section <code>[session]</code> of the configuration or by \
        <code>CGI_SESSION_DATABASE</code>:</p>\n\
        <pre>storageType = custom\ndatabase = mysql://user:password@localhost/name</pre>";
    site::page("Custom store", body).with_status(StatusCode::SERVICE_UNAVAILABLE)
}
