//! `CherryPy`'s custom storage on a real database: scenario S5 of docs/seeds.md.

use std::sync::{MutexGuard, PoisonError};

use mysql::prelude::Queryable as _;
use testkit::fastcgi::client::get;
use testkit::fastcgi::server::{Server, Setup, Socket};
use testkit::mysql::{MysqlServer, PASSWORD, USER};
use testkit::prelude::*;

/// As the example's first lines have it.
const TABLE: &str = "create table session_data (sessionId varchar(50) not null primary key, \
    sessionData text not null, expirationTime int unsigned not null)";
/// As if nobody had come for a long time.
const EXPIRE: &str = "update session_data set expirationTime = unix_timestamp() - 100";

/// One server for all tests, which take turns.
static SERVER: Mutex<Option<MysqlServer>> = Mutex::new(None);

/// A database with the table.
struct Database(MutexGuard<'static, Option<MysqlServer>>);

impl Database {
    /// `None` where there is no server and nobody insists on one.
    fn start() -> Option<Self> {
        let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some(MysqlServer::start(&[])?);
        }
        let database = Database(server);
        database.run("drop table if exists session_data");
        database.run(TABLE);
        Some(database)
    }

    fn server(&self) -> &MysqlServer {
        self.0.as_ref().unwrap()
    }

    fn run(&self, statement: &str) {
        self.server().client().query_drop(statement).unwrap();
    }

    /// What a question for one column is answered.
    fn ask(&self, question: &str) -> Vec<String> {
        self.server().client().query(question).unwrap()
    }

    fn url(&self) -> String {
        self.server().url()
    }

    fn url_with(&self, password: &str) -> String {
        self.url().replace(PASSWORD, password)
    }

    /// What a program may say about where it is.
    fn place(&self) -> String {
        format!("{USER} at 127.0.0.1:{} as {USER}", self.server().port())
    }
}

fn request(site: &Site, database: &Database) -> Cgi {
    Cgi::new("custom_store", site)
        .variable("CGI_SESSION_DATABASE", database.url())
        .variable("CGI_SESSION_LOCK_TIMEOUT", "90s")
}

/// The number in the page.
#[track_caller]
fn number(page: &str) -> u64 {
    let (_, rest) = page.split_once("been here ").expect("a count");
    rest.split_once(' ').unwrap().0.parse().unwrap()
}

#[test]
fn s5_the_page_counts_in_a_table_by_three_functions() {
    let Some(database) = Database::start() else {
        return;
    };
    let site = Site::new();
    let first = request(&site, &database).run();
    assert_eq!(number(&first.body), 1);
    let id = first.id();
    for expected in 2..5 {
        let page = request(&site, &database).visitor(&id).run();
        assert_eq!(number(&page.body), expected);
    }
    let rows = database.ask("select sessionData from session_data");
    assert_eq!(rows.len(), 1);
    assert!(rows[0].contains(r#""counter":4"#), "{rows:?}");
    let keys = database.ask("select sessionId from session_data");
    assert!(keys[0].len() <= 50 && keys[0] != id, "{keys:?}");
}

fn responder(site: &Site, database: &Database) -> Server {
    example("custom_store");
    Setup::new("custom_store", Socket::StdinUnix)
        .variable("CGI_SESSION_CONFIG", site.config().display())
        .variable("CGI_SESSION_STORAGE_FILE_DIR", site.sessions().display())
        .variable("CGI_SESSION_DATABASE", database.url())
        .variable("CGI_SESSION_LOCK_TIMEOUT", "90s")
        .start()
}

#[test]
fn s5_a_database_that_is_away_gives_an_error_page_and_the_count_goes_on_afterwards() {
    let Some(mut database) = Database::start() else {
        return;
    };
    let site = Site::new();
    let responder = responder(&site, &database);
    let id = request(&site, &database).run().id();
    let cookie = format!("sessionId={id}");
    let ask = || responder.ask(&testkit::fastcgi::client::visit(1, 0, "", &cookie));
    assert_eq!(number(&ask().text()), 2);
    database.0.as_mut().unwrap().stop();
    let place = database.place();
    let lost = request(&site, &database).visitor(&id).run();
    lost.expect_failure(500, ["cannot load", "cannot connect", &place]);
    request(&site, &database)
        .run()
        .expect_failure(500, "cannot");
    let reply = ask();
    assert_eq!(reply.status(), 500);
    assert!(!reply.head.contains("Set-Cookie"), "{}", reply.head);
    database.0.as_mut().unwrap().run();
    let seen = number(&request(&site, &database).visitor(&id).run().body);
    assert_eq!(seen, 3);
    assert_eq!(number(&ask().text()), 4);
}

#[test]
fn s5_clean_up_deletes_the_row_of_a_visitor_who_never_comes_back() {
    let Some(database) = Database::start() else {
        return;
    };
    let keys = || database.ask("select sessionId from session_data");
    let kept = Site::with_settings("\ncleanUpDelay = 0\n");
    request(&kept, &database).run();
    database.run(EXPIRE);
    let expired = keys();
    request(&kept, &database).run();
    assert_eq!(keys().len(), 2);

    let cleaned = Site::with_settings("\ncleanUpDelay = 0\ncleanUpProbability = 1\n");
    request(&cleaned, &database).run();
    let left = keys();
    assert_eq!(left.len(), 2);
    assert!(!left.contains(&expired[0]), "{expired:?} {left:?}");
}

#[test]
fn s5_a_table_that_is_missing_and_a_wrong_password_are_errors_that_say_so() {
    let Some(database) = Database::start() else {
        return;
    };
    let site = Site::new();
    let under = |url: String| {
        let request = request(&site, &database);
        request.variable("CGI_SESSION_DATABASE", url).run()
    };
    let wrong = under(database.url_with("five-words"));
    let wrong = wrong.expect_failure(500, ["Access denied", &database.place()]);
    assert!(!wrong.stderr.contains("five-words"), "{}", wrong.stderr);
    let unreadable = under(database.url_with("five?words=secret"));
    let unreadable = unreadable.expect_failure(500, "no address of a database*mysql://");
    let said = unreadable.stderr;
    assert!(!said.contains("words"), "{said}");
    database.run("drop table session_data");
    let refused = request(&site, &database).run();
    refused.expect_failure(500, "session_data*doesn't exist");
}

#[test]
fn s5_without_a_database_the_page_says_what_to_do() {
    let site = Site::new();
    let page = Cgi::new("custom_store", &site).run();
    assert_eq!(page.status, 503);
    holds(&page.body, "create table session_data*CGI_SESSION_DATABASE");
    assert!(site.files().is_empty());
    let reply = Setup::new("custom_store", Socket::StdinUnix)
        .variable("CGI_SESSION_CONFIG", site.config().display())
        .variable("CGI_SESSION_STORAGE_FILE_DIR", site.sessions().display());
    let reply = reply.start().ask(&get(1, 0, ""));
    assert_eq!(reply.status(), 503);
}
