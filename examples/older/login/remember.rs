//! Remembered logins: they log a user in whose session has ended.
//!
//! The cookie holds two secrets, `selector.validator`. The selector is the id of a record of its
//! own, in the same store as the sessions, so that the store's locks and its clean-up serve for
//! it too. The record is private: it would else be a session for the client who sends the selector as
//! the session's cookie. It holds the SHA-256 of the validator and never the validator, and each use
//! gives the client a new one. When one comes that was used before, there are two copies of the
//! cookie.

use std::sync::OnceLock;
use std::time::Duration;

use cgi_session::{Request, Reservation, Result, Session, SessionId, SessionManager};
use subtle::ConstantTimeEq as _;

const COOKIE: &str = "rememberMe";
const NAME: &str = "remember";
const GROUP: &str = "remember:";
/// How long a login is remembered without being used. `lifetime` ends it in any case.
pub(crate) const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// So long the validator before the present one still counts, for a browser that opens several
/// pages at once, and for one that never got the answer with the new one: twice as long as the old
/// id of its session leads to nothing but [`Error::Replaced`](cgi_session::Error::Replaced).
const GRACE: Duration = Duration::from_secs(120);

/// What the client's cookie holds.
#[derive(Clone)]
pub(crate) struct Token {
    selector: SessionId,
    validator: SessionId,
}

/// A login that is remembered, held exclusively until it is renewed.
pub(crate) struct Remembered {
    record: Session,
    place: Reservation,
    user: String,
    selector: SessionId,
    is_current: bool,
}

impl Token {
    /// The one that the client has sent.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let value = request.cookie(COOKIE)?;
        let (selector, validator) = value.split_once('.')?;
        Some(Token {
            selector: SessionId::parse(selector.as_bytes())?,
            validator: SessionId::parse(validator.as_bytes())?,
        })
    }

    /// Remembers a user on one more browser.
    pub(crate) fn issue(user: &str) -> Result<Self> {
        let token = Token {
            selector: SessionId::generate()?,
            validator: SessionId::generate()?,
        };
        let mut record = manager()?.start_with_id(&token.selector)?;
        let place = record.reserve(NAME)?;
        let kept = record.reserved(&place);
        kept.insert("validator", token.validator.digest().as_str())?;
        record.set_user(Some(&group(user)))?;
        record.set_timeout(Some(LIFE));
        record.set_private();
        record.commit()?;
        Ok(token)
    }

    /// The Set-Cookie that gives it to the client.
    pub(crate) fn set_cookie(&self, is_https: bool) -> String {
        let (selector, validator) = (self.selector.secret(), self.validator.secret());
        let secure = if is_https { "; Secure" } else { "" };
        let life = LIFE.as_secs();
        format!(
            "{COOKIE}={selector}.{validator}; HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age={life}"
        )
    }

    /// Opens the remembered login that this leads to; `None` when it was ended or never was.
    ///
    /// One that was used up before is a copy: then all logins of this user end.
    pub(crate) fn open(&self) -> Result<Option<Remembered>> {
        // What is no remembered login is not waited for: it may be the visitor's own session.
        let found = manager()?.peek(&self.selector.digest())?;
        if !found.is_some_and(|found| found.record.is_private()) {
            return Ok(None);
        }
        let mut record = manager()?.start_with_id(&self.selector)?;
        // Its record alone says whose it is.
        let user = record.user().and_then(|owner| owner.strip_prefix(GROUP));
        let Some(user) = user.map(str::to_owned) else {
            return Ok(None);
        };
        let place = record.reserve(NAME)?;
        let kept = record.reserved(&place);
        let shown = self.validator.digest();
        let is = |key| -> Result<bool> {
            let hash = kept.get::<String>(key)?.unwrap_or_default();
            Ok(hash.as_bytes().ct_eq(shown.as_str().as_bytes()).into())
        };
        let is_current = is("validator")?;
        if is_current || is("previous")? {
            return Ok(Some(Remembered {
                record,
                place,
                user,
                selector: self.selector.clone(),
                is_current,
            }));
        }
        // What is deleted next must not be held.
        drop(record);
        log::warn!(
            "a remembered login of {user} was used a second time: there is a copy of the cookie; all logins of {user} end"
        );
        forget_all(&user)?;
        manager()?.destroy_sessions_of(&user, None)?;
        Ok(None)
    }

    /// Ends this remembered login, if it is one.
    pub(crate) fn forget(&self) -> Result<()> {
        if let Some(login) = self.open()? {
            login.record.destroy()?;
        }
        Ok(())
    }
}

impl Remembered {
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Gives up the old validator. None for one that another request has just given up: the client
    /// gets the new one there.
    pub(crate) fn renew(mut self) -> Result<Option<Token>> {
        if !self.is_current {
            return Ok(None);
        }
        let validator = SessionId::generate()?;
        let kept = self.record.reserved(&self.place);
        let before: String = kept.require("validator")?;
        kept.insert_for("previous", before, GRACE)?;
        kept.insert("validator", validator.digest().as_str())?;
        self.record.commit()?;
        Ok(Some(Token {
            selector: self.selector,
            validator,
        }))
    }
}

/// Ends all remembered logins of a user.
pub(crate) fn forget_all(user: &str) -> Result<()> {
    manager()?.destroy_sessions_of(&group(user), None)?;
    Ok(())
}

/// The Set-Cookie that takes the client's away.
pub(crate) fn removal() -> String {
    format!("{COOKIE}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0")
}

/// What the records of a user's remembered logins are found by. Not the user's own name: a program
/// that asks a session for its user must not find one here: this is no login.
fn group(user: &str) -> String {
    format!("{GROUP}{user}")
}

/// The store that the sessions are in, too.
fn manager() -> Result<SessionManager> {
    static MANAGER: OnceLock<SessionManager> = OnceLock::new();
    if let Some(manager) = MANAGER.get() {
        return Ok(manager.clone());
    }
    let found = SessionManager::find()?;
    Ok(MANAGER.get_or_init(|| found).clone())
}
