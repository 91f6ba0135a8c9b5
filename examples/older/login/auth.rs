//! Who is logged in: a module on a reserved name, as lemon.session's `auth` was to be.
//!
//! It keeps the user, the start and the last access under the name `auth`, where no application
//! reaches them. Whatever else the session holds stays as it is at login and at logout.

use std::time::SystemTime;

use cgi_session::{Request, Reservation, Response, Result};
use http::HeaderValue;
use http::header::SET_COOKIE;
use serde::{Deserialize, Serialize};

use super::remember::{self, Token};

/// The reserved name.
pub(crate) const NAME: &str = "auth";

/// A login, as it stands in the session.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Login {
    pub(crate) user: String,
    /// Seconds since 1970.
    pub(crate) start: u64,
    /// The same, of the request before this one.
    pub(crate) last_access: u64,
}

/// What this request knows about its visitor, and what the answer must tell the browser.
pub(crate) struct Auth {
    reservation: Reservation,
    login: Option<Login>,
    /// What remembers the visitor on this browser.
    token: Option<Token>,
    set_cookie: Option<String>,
    is_https: bool,
}

impl Auth {
    /// Finds out who is there: the session knows, or else the browser was told to remember.
    /// Comes before anything that another part of the program does with the session.
    pub(crate) fn begin(request: &mut Request) -> Result<Self> {
        let (token, is_https) = (Token::of(request), request.is_https());
        let session = request.session()?;
        let reservation = session.reserve(NAME)?;
        let kept = session.reserved(&reservation);
        let login: Option<Login> = if kept.is_empty() {
            None
        } else {
            let login = kept.to_struct()?;
            kept.insert("lastAccess", now())?;
            Some(login)
        };
        let mut auth = Auth {
            reservation,
            login,
            token,
            set_cookie: None,
            is_https,
        };
        if auth.login.is_none() {
            auth.recognise(request)?;
        }
        Ok(auth)
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Whether this browser will know the visitor when the session is over.
    pub(crate) fn is_remembered(&self) -> bool {
        self.token.is_some()
    }

    /// Lets a visitor in whose password was right.
    pub(crate) fn log_in(
        &mut self,
        request: &mut Request,
        user: &str,
        is_to_remember: bool,
    ) -> Result<()> {
        if self.login.is_some() {
            self.log_out_here(request)?;
        }
        self.enter(request, user)?;
        request.session()?.confirm_identity();
        if is_to_remember {
            self.remember(Token::issue(user)?);
        }
        Ok(())
    }

    /// Ends the login in this session, and keeps what else is in it.
    pub(crate) fn log_out_here(&mut self, request: &mut Request) -> Result<()> {
        let session = request.session()?;
        session.reserved(&self.reservation).clear();
        session.set_user(None)?;
        session.set_cookie_life(None);
        // The new id has no user: an old copy of the cookie leads to nothing.
        session.regenerate_id();
        self.login = None;
        // From here on the session is not the user's, whose sessions all end if the cookie that is
        // now forgotten turns out to be a copy.
        request.commit_session()?;
        self.forget_here()
    }

    /// Ends every session and every remembered login of the user, on whichever machine.
    pub(crate) fn log_out_everywhere(&mut self, request: &mut Request) -> Result<()> {
        let Some(login) = self.login.take() else {
            return self.forget_here();
        };
        // First what could make new sessions. What cannot be ended keeps nothing else.
        let forgotten = remember::forget_all(&login.user);
        let ended = request.destroy_all_sessions();
        forgotten.and(ended).and_then(|()| self.forget_here())
    }

    /// Ends all of the user's sessions but this one, and what other browsers remember. Tells how
    /// many sessions ended.
    pub(crate) fn end_others(&mut self, request: &mut Request) -> Result<u64> {
        let Some(login) = &self.login else {
            return Ok(0);
        };
        remember::forget_all(&login.user)?;
        if self.token.is_some() {
            // Under a new selector: there may be a copy of the old one.
            let token = Token::issue(&login.user)?;
            self.remember(token);
        }
        request.destroy_other_sessions()
    }

    /// Adds to the answer what the browser must know.
    pub(crate) fn finish(self, mut response: Response) -> Response {
        // It is made of digits and constants, which every header value may hold.
        let value = self.set_cookie.map(HeaderValue::try_from);
        if let Some(Ok(value)) = value {
            response.headers_mut().append(SET_COOKIE, value);
        }
        response
    }

    /// Lets a visitor in whom the browser was told to remember.
    fn recognise(&mut self, request: &mut Request) -> Result<()> {
        let Some(token) = self.token.take() else {
            return Ok(());
        };
        let Some(remembered) = token.open()? else {
            self.set_cookie = Some(remember::removal());
            return Ok(());
        };
        self.enter(request, remembered.user())?;
        // While the remembered login is held: a logout everywhere waits for it, and then finds the
        // session.
        request.commit_session()?;
        match remembered.renew()? {
            Some(renewed) => self.remember(renewed),
            None => self.token = Some(token),
        }
        Ok(())
    }

    fn enter(&mut self, request: &mut Request, user: &str) -> Result<()> {
        let login = Login {
            user: user.to_owned(),
            start: now(),
            last_access: now(),
        };
        let session = request.session()?;
        let kept = session.reserved(&self.reservation);
        kept.insert("user", &login.user)?;
        kept.insert("start", login.start)?;
        kept.insert("lastAccess", login.last_access)?;
        session.set_user(Some(user))?;
        // The id from before the login leads to nothing now.
        session.regenerate_id();
        self.login = Some(login);
        Ok(())
    }

    fn remember(&mut self, token: Token) {
        self.set_cookie = Some(token.set_cookie(self.is_https));
        self.token = Some(token);
    }

    fn forget_here(&mut self) -> Result<()> {
        if let Some(token) = self.token.take() {
            self.set_cookie = Some(remember::removal());
            token.forget()?;
        }
        Ok(())
    }
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
