//! What the commands about sessions share: the store, and which session is meant.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cgi_session::{
    Config, Error, Record, Request, RequestBuilder, Session, SessionDigest, SessionManager, Stored,
    Values, printable,
};
use serde_json::{Value, json};

use crate::account::Account;
use crate::location::Location;
use crate::owner;
use crate::report::{self, Ended, moment};

/// The fewest digits that may stand for a session.
const FEWEST_DIGITS: usize = 6;
/// So many ids of a Cookie header are looked at, as by the library.
const MAX_CANDIDATES: usize = 8;

/// What is said of every session.
pub(crate) struct About {
    pub(crate) digest: SessionDigest,
    pub(crate) created: SystemTime,
    pub(crate) last_access: SystemTime,
    pub(crate) ends: SystemTime,
    /// How long it lives unused.
    pub(crate) idle: Duration,
    /// The size of its record as it is written.
    pub(crate) bytes: u64,
    pub(crate) user: Option<String>,
}

impl About {
    pub(crate) fn of(manager: &SessionManager, digest: &SessionDigest, stored: &Stored) -> Self {
        let record = &stored.record;
        About {
            digest: *digest,
            created: record.created(),
            last_access: stored.last_access,
            ends: manager.end_of(stored),
            idle: record.idle().unwrap_or(manager.config().timeout()),
            bytes: size(stored),
            user: record.user().map(str::to_owned),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "digest": self.digest.as_str(),
            "created": moment(self.created),
            "lastAccess": moment(self.last_access),
            "ends": moment(self.ends),
            "idle": self.idle.as_secs(),
            "bytes": self.bytes,
            "user": self.user,
        })
    }
}

/// The values of every application in a session, as they were written, but those whose end has come.
pub(crate) type Applications = BTreeMap<String, Values>;

/// Opens the store that the configuration names. Run as root, the program continues as the owner of
/// the directory.
pub(crate) fn manager(file: Option<&Path>, app: Option<&str>) -> Result<SessionManager, Ended> {
    manager_with(file, "app", app)
}

/// The same, with another value for one setting, if there is one.
pub(crate) fn manager_with(
    file: Option<&Path>,
    key: &str,
    value: Option<&str>,
) -> Result<SessionManager, Ended> {
    let mut config = Config::find_with(file, &[])?;
    if let Some(value) = value {
        config = config.set(key, value)?;
    }
    owner::act_as_owner(&config)?;
    open(config).map_err(Ended::from)
}

/// Opens a store, but none that only the program has which made it.
pub(crate) fn open(config: Config) -> cgi_session::Result<SessionManager> {
    let manager = crate::stores::manager(config)?;
    if Location::of(manager.config()).kind() == "ram" {
        let line =
            "storageType = ram: another program cannot read these sessions; use storageType = file";
        return Err(Error::Config(line.to_owned()));
    }
    Ok(manager)
}

/// The same for a command that may make the first session: root must not make the directory, for
/// the programs of the site could not open it.
pub(crate) fn manager_for_writing(
    file: Option<&Path>,
    app: Option<&str>,
) -> Result<SessionManager, Ended> {
    let manager = manager(file, app)?;
    refuse_to_own(manager.config())?;
    Ok(manager)
}

/// Refuses to make the directory or the database as root.
pub(crate) fn refuse_to_own(config: &Config) -> cgi_session::Result<()> {
    let location = Location::of(config);
    if !location.is_missing() || !Account::current().is_root() {
        return Ok(());
    }
    let init = report::command_for(config, "init");
    Err(Error::Config(format!(
        "{location} does not exist, and root should not make it for itself; try: {init} --owner www-data"
    )))
}

/// A time of the command line, written as one in the configuration.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let config = Config::new().set("timeout", text);
    config.map(|config| config.timeout()).map_err(|error| {
        // clap names the option and the value.
        let (error, prefix) = (error.to_string(), format!("timeout = {text}: "));
        error.strip_prefix(&prefix).unwrap_or(&error).to_owned()
    })
}

/// Whether ids come in a header field, and no cookie is a session's.
pub(crate) fn is_by_header(config: &Config) -> bool {
    let id_from = config.get("idFrom");
    id_from.is_some_and(|from| from.starts_with("header:"))
}

/// The Cookie header of the request that this program was started for, if any.
pub(crate) fn cookie_header(manager: &SessionManager) -> Result<Option<Vec<u8>>, Ended> {
    if is_by_header(manager.config()) {
        let start = report::command_for(manager.config(), "start");
        let line = format!(
            "the session of a visitor is found by a cookie here, and with idFrom = header: there is none; try: \
             {start} PROGRAM"
        );
        return Err(Ended::saying(&line, report::CONFIGURATION));
    }
    Ok(env::var_os("HTTP_COOKIE").map(OsStringExt::into_vec))
}

/// The session that a Cookie header opens: that of the first id that leads to a live one, as a program finds it,
/// or of the first that cannot be read. It does not count as use.
pub(crate) fn of_cookies(manager: &SessionManager, header: &[u8]) -> Option<SessionDigest> {
    let cookies = header.split(|byte| *byte == b';');
    let ids = cookies.filter_map(|cookie| manager.session_id(cookie));
    let mut sessions = ids.map(|id| id.digest()).take(MAX_CANDIDATES);
    sessions.find(|session| match manager.peek(session) {
        Ok(stored) => stored.is_some_and(|stored| !stored.record.is_private()),
        Err(_) => true,
    })
}

/// Opens the session of the request that this program was started for, or begins one if it may.
pub(crate) fn start(manager: &SessionManager) -> Result<Session, Ended> {
    let session = manager.start(cookie_header(manager)?.unwrap_or_default())?;
    if session.is_new() {
        // Also `allowCrossSiteStart` is asked. Nothing is stored by it.
        request(manager).session()?;
    }
    Ok(session)
}

/// Whether the request came by HTTPS, as the server says, or a proxy that the configuration trusts.
pub(crate) fn is_https(manager: &SessionManager) -> bool {
    request(manager).is_https()
}

/// The request that this program was started for, without its body.
fn request(manager: &SessionManager) -> Request {
    let request = Request::builder().manager(manager.clone());
    let with = |request: RequestBuilder, (name, value)| request.param(name, value);
    env::vars_os().fold(request, with).build()
}

/// The session that a digest names, or the beginning of one if only one live session has it.
pub(crate) fn find(manager: &SessionManager, text: &str) -> Result<SessionDigest, Ended> {
    let text = text.trim().to_ascii_lowercase();
    if let Some(session) = SessionDigest::parse(text.as_bytes()) {
        return Ok(session);
    }
    let is_digest =
        text.len() < SessionDigest::LENGTH && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_digest || text.len() < FEWEST_DIGITS {
        let list = report::command_for(manager.config(), "list");
        let line = format!(
            "{text:?} is no digest of a session: that is 64 hexadecimal digits, or at least \
             {FEWEST_DIGITS} of its first; {list} shows them"
        );
        return Err(Ended::saying(&line, report::USAGE));
    }
    let mut found = Vec::new();
    manager.for_each(|session, _| {
        if session.as_str().starts_with(&text) {
            found.push(*session);
        }
        ControlFlow::Continue(())
    })?;
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(unknown(&text)),
        several => {
            let number = several.len();
            let line = format!("{text} is the beginning of {number} digests; write more of it");
            Err(Ended::saying(&line, report::USAGE))
        }
    }
}

/// Says that there is no such session.
pub(crate) fn unknown(digest: &str) -> Ended {
    format!("there is no session {digest}").into()
}

/// The values in a record that have not ended.
pub(crate) fn applications(record: &Record) -> Result<Applications, String> {
    let failed = |error: &dyn Display| format!("cannot read its values: {error}");
    let read = serde_json::from_slice(record.values());
    let mut applications: Applications = read.map_err(|error| failed(&error))?;
    let ends = applications.get("@").map(|notes| notes.get("ends"));
    let ends = ends.transpose().map_err(|error| failed(&error))?.flatten();
    let ends: BTreeMap<String, BTreeMap<String, u64>> = ends.unwrap_or_default();
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    for (app, ends) in ends {
        if let Some(values) = applications.get_mut(&app) {
            for (key, _) in ends.into_iter().filter(|(_, end)| *end <= now) {
                values.remove(&key);
            }
        }
    }
    Ok(applications)
}

/// The size of a session in bytes, as its record is written.
pub(crate) fn size(stored: &Stored) -> u64 {
    u64::try_from(stored.record.to_json().len()).unwrap_or(u64::MAX)
}

/// The name of an application as it is shown: the usual one has none.
pub(crate) fn shown_app(app: &str) -> String {
    if app.is_empty() {
        "\"\"".to_owned()
    } else {
        printable(app)
    }
}
