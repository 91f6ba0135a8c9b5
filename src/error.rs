//! What can go wrong, said so that the reader can mend it.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the system, of the configuration, or of what a program asked for.
///
/// A session that is absent, expired or has a malformed id is never an error:
/// those are `None`, or a new session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used. The text names the file, line and key where there is one.
    Config(String),
    /// A system call failed.
    Io {
        /// What was tried, as the beginning of a sentence: `cannot lock`.
        action: &'static str,
        /// The path it was tried on.
        path: PathBuf,
        /// What to do about it; empty when nothing better than the cause can be said.
        hint: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A directory or file is not what a session may be kept in, and was left alone.
    Refused {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The session's lock was not had within `lockTimeout`: answer 503 and let the client try again.
    Busy {
        /// How long was waited.
        waited: Duration,
        /// Which process holds the lock, where the system tells.
        holder: Option<String>,
    },
    /// So many requests of this FastCGI program wait for sessions that no more may: answer 503 and let the
    /// client try again.
    TooManyWaiting,
    /// This thread already holds the session that it asked for: waiting would last for ever.
    AlreadyOpen,
    /// An earlier failure ended this session; start it again.
    Ended,
    /// `maxSessions` sessions live and `whenFull = refuse`.
    Full {
        /// The value of `maxSessions`.
        limit: u64,
    },
    /// The user has `maxSessionsPerUser` sessions and `whenUserFull = refuse`; nothing was stored.
    UserFull {
        /// The value of `maxSessionsPerUser`.
        limit: u64,
    },
    /// The session is larger than `maxRecordBytes`; what was stored before is unchanged.
    TooLarge {
        /// The size it would have had, in bytes.
        size: usize,
        /// The value of `maxRecordBytes`.
        limit: usize,
    },
    /// The session does not fit into a cookie (`storageType = cookie`); the one that the client has is unchanged.
    CookieTooLarge {
        /// The size the cookie would have had, in bytes: name, value and attributes.
        size: usize,
        /// The most that every browser keeps.
        limit: usize,
    },
    /// The session's id was replaced ([`Session::regenerate_id`](crate::Session::regenerate_id)): the old one
    /// shows nothing, or with a grace what was there, and changes nothing. The client has the new one by now,
    /// or is about to get it. Also a session that this request has seen, and that has ended since.
    Replaced,
    /// Of the sessions of a user that were to be ended, some are left; all others are ended. Try again for
    /// these.
    SessionsLeft {
        /// How many are left.
        left: usize,
        /// Why the first of them is.
        source: Box<Error>,
    },
    /// There is less free space than `minFreeSpace`: no new session is made, existing ones go on.
    LowSpace {
        /// Where there is too little.
        path: PathBuf,
        /// How much there is, and how much there must be.
        reason: String,
    },
    /// A name belongs to a module that reserved it, or is reserved twice.
    Reserved(String),
    /// This store cannot do what was asked for.
    Unsupported(&'static str),
    /// The engine behind the store cannot be reached, refuses to work, or did not answer in time: answer
    /// 503 and let the client try again. Whether a save was stored whose acknowledgement was lost is
    /// unknown; it is stored whole or not at all.
    Unavailable {
        /// What was tried, on what: `cannot save a session in redis://localhost:6379/0`.
        action: String,
        /// What to do about it; empty when nothing better than the cause can be said.
        hint: String,
        /// Why it failed.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The lock of this session ended before the request did (it took longer than `lockLease`, or the engine
    /// ended it), and another request may have changed the session since. Nothing was stored: answer 503
    /// and let the client try again.
    LeaseLost,
    /// A store that is not made of files failed.
    Store {
        /// What was tried, on what: `cannot save a session in /var/lib/app/sessions.db`.
        action: String,
        /// What to do about it; empty when nothing better than the cause can be said.
        hint: String,
        /// Why it failed.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The stored session cannot be understood, and was left as it is.
    Format {
        /// Where it is stored.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// [`Values::require`](crate::Values::require) found no value under this key.
    MissingKey(String),
    /// A key is empty or too long.
    Key {
        /// The key, as it was given.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value cannot be written as JSON, or is not of the type that was asked for.
    Value {
        /// The key of the value; empty when the values as a whole do not fit a struct.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The operating system gave no random bytes; there is no other source of session ids.
    Random(io::Error),
    /// A form came without the session's token, or with another: another site's page may have sent it.
    Forged,
    /// A page of another site sent a request that would begin a session here, with a method that may change
    /// something and no cookie of this site; `allowCrossSiteStart` allows that.
    CrossSiteStart,
    /// The query string or the form holds more fields than `maxFormFields` says.
    TooManyFields {
        /// How many there are.
        count: usize,
        /// The value of `maxFormFields`.
        limit: usize,
    },
    /// The request's body could not be read or is not acceptable.
    Body {
        /// What is wrong with it.
        reason: String,
        /// The HTTP status that fits: 400, 408, 413 or 415.
        status: http::StatusCode,
    },
}

impl Error {
    /// A system call failed; `action` is what was tried, as the beginning of a sentence: `cannot lock`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::Io {
            action,
            path: path.into(),
            hint: String::new(),
            source,
        }
    }

    /// The same error with advice on what to do about it.
    #[must_use]
    pub fn with_hint(mut self, advice: impl Into<String>) -> Self {
        if let Error::Io { hint, .. }
        | Error::Refused { hint, .. }
        | Error::Store { hint, .. }
        | Error::Unavailable { hint, .. } = &mut self
        {
            *hint = advice.into();
        }
        self
    }

    /// A failure of a store that is not made of files.
    pub fn store(
        action: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Error::Store {
            action: action.into(),
            hint: String::new(),
            source: source.into(),
        }
    }

    /// An engine that cannot be reached, refuses to work, or did not answer in time.
    pub fn unavailable(
        action: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Error::Unavailable {
            action: action.into(),
            hint: String::new(),
            source: source.into(),
        }
    }

    /// A directory or file is not what a session may be kept in: `reason` is what is wrong with it, as the end of a
    /// sentence that begins with its path.
    #[must_use]
    pub fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Error::Refused {
            path: path.to_owned(),
            reason: reason.into(),
            hint: String::new(),
        }
    }

    /// What to do about it, where the library knows.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Io { hint, .. }
            | Error::Refused { hint, .. }
            | Error::Store { hint, .. }
            | Error::Unavailable { hint, .. }
                if !hint.is_empty() =>
            {
                Some(hint)
            }
            Error::SessionsLeft { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// Whether it may be the fault of what is stored for one session, so that another can be read.
    pub(crate) fn may_concern_one_session(&self) -> bool {
        match self {
            // It is missing for every session.
            Error::Io { source, .. } => !is_shortage(source),
            Error::Refused { .. } | Error::Format { .. } | Error::Store { .. } => true,
            _ => false,
        }
    }

    /// The HTTP status that a request which met this error should answer with.
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match self {
            Error::Busy { .. }
            | Error::TooManyWaiting
            | Error::Full { .. }
            | Error::LowSpace { .. }
            | Error::Replaced
            | Error::Unavailable { .. }
            | Error::LeaseLost => http::StatusCode::SERVICE_UNAVAILABLE,
            Error::Forged | Error::CrossSiteStart => http::StatusCode::FORBIDDEN,
            Error::UserFull { .. } => http::StatusCode::CONFLICT,
            Error::Body { status, .. } => *status,
            Error::TooManyFields { .. } => http::StatusCode::BAD_REQUEST,
            Error::SessionsLeft { source, .. } => source.status(),
            // A handler may wrap what reading the body has failed with.
            Error::Store { source, .. } => match ours_in(&**source) {
                Some(Error::Body { status, .. }) => *status,
                _ => http::StatusCode::INTERNAL_SERVER_ERROR,
            },
            // It may be over with other requests.
            Error::Io { source, .. } if is_shortage(source) => {
                http::StatusCode::SERVICE_UNAVAILABLE
            }
            _ => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The whole story on one line: what was tried, why it failed, what to do.
    #[must_use]
    pub fn one_line(&self) -> String {
        with_advice(one_line(self), self.hint())
    }
}

/// Whether the process or the machine is short of descriptors or memory.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

thread_local! {
    /// The first of our errors that was written.
    static WRITTEN: Cell<Option<Kind>> = const { Cell::new(None) };
}

/// What a request is answered for an error.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) status: http::StatusCode,
    pub(crate) is_replaced: bool,
}

/// An error and its causes on one line, with what to do, and the kind of the one of ours that it is about. A
/// handler's own type may hide ours from `downcast_ref` and `source` (as `anyhow` and `thiserror`'s `transparent`
/// do), but its text is made of ours.
pub(crate) fn described(error: &(dyn StdError + 'static)) -> (String, Option<Kind>) {
    WRITTEN.set(None);
    let line = one_line(error);
    let kind = WRITTEN.take();
    let hint = ours_in(error).and_then(Error::hint);
    (with_advice(line, hint), kind)
}

fn with_advice(line: String, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => line + "; " + &printable(hint),
        None => line,
    }
}

/// The error of ours that another one holds, as far as it says so.
pub(crate) fn ours_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ours) = error.downcast_ref() {
            return Some(ours);
        }
        // Its source is that of what it holds.
        let held = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = Kind {
            status: self.status(),
            is_replaced: matches!(self, Error::Replaced),
        };
        WRITTEN.set(WRITTEN.get().or(Some(kind)));
        match self {
            Error::Config(text) => f.write_str(text),
            Error::Io { action, path, .. } => write!(f, "{action} {}", path.display()),
            Error::Refused { path, reason, .. } => write!(f, "{} {reason}", path.display()),
            Error::Busy { waited, holder } => {
                match waited.as_secs_f32() {
                    0.0 => f.write_str("the session is locked"),
                    seconds => write!(f, "the session was still locked after {seconds:.1} s"),
                }?;
                holder.as_ref().map_or(Ok(()), |holder| write!(f, ", by {holder}"))
            }
            Error::TooManyWaiting => {
                f.write_str("too many requests wait for sessions already, for this one or in all")
            }
            Error::AlreadyOpen => f.write_str(
                "this session is already open here: use the one that is open, or commit or release it first",
            ),
            Error::Ended => f.write_str("an earlier failure ended this session; start it again"),
            Error::Full { limit } => {
                write!(f, "there are already {limit} sessions (maxSessions, whenFull = refuse)")
            }
            Error::UserFull { limit } => {
                write!(f, "the user has {limit} sessions already (maxSessionsPerUser, whenUserFull = refuse)")
            }
            Error::TooLarge { size, limit } => write!(
                f,
                "the session would take {size} bytes, maxRecordBytes is {limit}; what was stored before is unchanged"
            ),
            Error::CookieTooLarge { size, limit } => write!(
                f,
                "the session's cookie would take {size} bytes, browsers keep {limit}; use storageType = file for so much"
            ),
            Error::Replaced => f.write_str(
                "the session has a new id by now, or has ended; this request cannot change it",
            ),
            Error::SessionsLeft { left, .. } => {
                write!(f, "{left} of the user's sessions could not be ended, all others are")
            }
            Error::LowSpace { path, reason } => {
                let path = path.display();
                write!(f, "no new session in {path}: {reason}; make room, or lower minFreeSpace")
            }
            Error::Reserved(name) => write!(f, "the name {name:?} is reserved"),
            Error::Unsupported(what) => write!(f, "this store cannot do that: {what}"),
            Error::Store { action, .. } | Error::Unavailable { action, .. } => f.write_str(action),
            Error::LeaseLost => f.write_str(
                "another machine has changed the session meanwhile, or its lock ended before the request did (see \
                 lockLease); nothing of this request was saved: try again",
            ),
            Error::Format { path, reason } => {
                write!(f, "cannot read the session in {}: {reason}; it was left as it is", path.display())
            }
            Error::MissingKey(key) => write!(f, "the session holds no value for {key:?}"),
            Error::Key { key, reason } => {
                // A client's may be as long as a line of the log, whose end would be lost.
                let shown: String = key.chars().take(128).collect();
                let dots = if shown.len() < key.len() { "..." } else { "" };
                write!(f, "{shown:?}{dots} cannot be a key: {reason}")
            }
            Error::Value { key, .. } if key.is_empty() => {
                f.write_str("the session does not fit the struct")
            }
            Error::Value { key, .. } => write!(f, "the value of {key:?} does not fit"),
            Error::Random(_) => f.write_str("no random bytes for a session id"),
            Error::CrossSiteStart => f.write_str(
                "another site's page sent this request, without a cookie of ours, and begins no session; \
                 allowCrossSiteStart = true allows it",
            ),
            Error::Forged => f.write_str("the form does not hold the token of this session"),
            Error::TooManyFields { count, limit } => {
                write!(f, "the request holds {count} fields, of at most {limit} (maxFormFields)")
            }
            Error::Body { reason, .. } => write!(f, "cannot use the request's body: {reason}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Random(source) => Some(source),
            Error::Value { source, .. } => Some(source),
            Error::SessionsLeft { source, .. } => Some(source),
            Error::Store { source, .. } | Error::Unavailable { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

/// An error and its causes on one line, each said once. [`Error::one_line`] also says what to do.
#[must_use]
pub fn one_line(error: &(dyn StdError + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    printable(&line)
}

/// Text on one line, as a log or a terminal may show it: control characters, and those that turn the
/// direction of writing, are escaped as in `\u{1b}`; the end of a line and a tab become a space.
///
/// ```
/// let name = "\u{1b}[2Jroot\n\u{9b}x";
/// assert_eq!(cgi_session::printable(name), "\\u{1b}[2Jroot \\u{9b}x");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => line.push(' '),
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                line.extend(letter.escape_unicode());
            }
            _ if letter.is_control() => line.extend(letter.escape_unicode()),
            _ => line.push(letter),
        }
    }
    line
}

/// A path as one word of a command that a message proposes. What no message shows as it is, such as the end of a
/// line, is escaped as bash, ksh and zsh read it.
#[doc(hidden)]
#[must_use]
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if text.starts_with('-') {
        shell_word(&Path::new(".").join(path))
    } else if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else if path.to_str().is_none_or(|text| printable(text) != text) {
        format!("$'{}'", path.as_os_str().as_bytes().escape_ascii())
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::process::Command;

    #[test]
    fn what_the_machine_is_short_of_concerns_more_than_one_session() {
        let failed = |errno: Errno| Error::io("cannot open", "session", errno.into());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(!failed(errno).may_concern_one_session(), "{errno}");
        }
        assert!(failed(Errno::ACCESS).may_concern_one_session());
    }

    #[test]
    fn a_path_in_a_command_is_one_word_that_names_it() {
        for name in [
            &b"it's \"mine\"\\"[..],
            b"a\nb\tc\x7f1",
            b"\xe2\x80\xae",
            b"\xff1",
            b"-x",
        ] {
            let path = Path::new(OsStr::from_bytes(name));
            let word = shell_word(path);
            assert_eq!(printable(&word), word);
            let command = format!("printf %s {word}");
            let said = Command::new("bash").args(["-c", &command]).output();
            let said = said.unwrap().stdout;
            let said = said.strip_prefix(b"./").unwrap_or(&said);
            assert_eq!(OsStr::from_bytes(said), path);
        }
    }

    /// Error types of programs.
    #[derive(Debug, thiserror::Error)]
    enum Theirs {
        #[error(transparent)]
        Transparent(#[from] Error),
        #[error("the cart is away")]
        Source(#[source] Error),
        #[error("the cart is away: {0}")]
        Text(String),
    }

    type Boxed = Box<dyn StdError + Send + Sync>;

    fn kind_of(error: impl Into<Boxed>) -> Option<(u16, bool)> {
        let (_, kind) = described(&*error.into());
        kind.map(|kind| (kind.status.as_u16(), kind.is_replaced))
    }

    #[test]
    fn an_error_of_ours_is_known_in_whatever_a_program_puts_it() {
        use anyhow::Context as _;
        let busy = || Error::unavailable("cannot reach", "x");
        let cut = || Error::Body {
            reason: String::new(),
            status: http::StatusCode::PAYLOAD_TOO_LARGE,
        };
        let all: [Boxed; 10] = [
            busy().into(),
            Box::new(Theirs::from(busy())),
            Box::new(Theirs::Source(busy())),
            Box::new(Theirs::Text(busy().to_string())),
            Box::new(io::Error::other(busy())),
            anyhow::Error::from(busy()).into(),
            Err::<(), _>(busy())
                .context("in a cart")
                .unwrap_err()
                .into(),
            anyhow::Error::from(Theirs::Source(busy())).into(),
            Box::new(Theirs::Source(Error::store("x", Error::Forged))),
            Error::store("x", io::Error::other(cut())).into(),
        ];
        let expected = [503, 503, 503, 500, 503, 503, 503, 503, 500, 413];
        let status = |error: Boxed| kind_of(error).map_or(500, |(status, _)| status);
        assert_eq!(all.map(status), expected);
        assert_eq!(kind_of(Theirs::from(Error::Replaced)), Some((503, true)));
        assert_eq!(
            kind_of(anyhow::Error::from(Error::Forged)),
            Some((403, false))
        );
        assert_eq!(kind_of(anyhow::anyhow!("their own")), None);
    }
}
