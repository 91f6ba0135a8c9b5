//! The Cookie header in, the Set-Cookie header out.

use std::fmt;
use std::time::{Duration, SystemTime};

use cookie::{Cookie, CookieBuilder};

use crate::config::{Config, Secure};
use crate::id::SessionId;

/// The longest Max-Age that browsers keep: 400 days (RFC 6265bis, 5.5).
const MAX_MAX_AGE: Duration = Duration::from_secs(400 * 24 * 3600);

/// The values of all cookies of this name in the bytes of a Cookie header, in their order.
///
/// `;` alone separates cookies, and quotes belong to a value (RFC 6265bis, 4.2.1 and 5.6): a part of
/// another cookie's value is never taken for a cookie. Whatever else the header holds, UTF-8 or not, is
/// passed over.
pub(crate) fn values<'h>(header: &'h [u8], name: &str) -> impl Iterator<Item = &'h str> {
    let pairs = header.split(|byte| *byte == b';');
    pairs.filter_map(move |pair| {
        let separator = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = pair.split_at(separator);
        let value = value.get(1..).filter(|_| trim(found) == name.as_bytes())?;
        std::str::from_utf8(trim(value)).ok()
    })
}

/// Without the blanks around it that are none of its own (RFC 6265, 5.2).
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// What a client presented: well-formed ids, to be tried in turn.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) ids: Vec<SessionId>,
    pub(crate) by: By,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Cookie,
    /// A link or a form carried it. One that may be of another site brings no cookie: a visitor would be
    /// given the session of the one who wrote the link.
    Link {
        is_same_origin: bool,
    },
    /// The program gives the id itself: cookies are neither read nor sent.
    Program,
}

impl Presented {
    pub(crate) fn none(by: By) -> Self {
        Presented {
            ids: Vec::new(),
            by,
        }
    }

    pub(crate) fn one(id: SessionId, by: By) -> Self {
        Presented { ids: vec![id], by }
    }

    /// How the client knows the session that has this id when the response is built. It is new if this
    /// request began it.
    pub(crate) fn shown(&self, id: Option<&SessionId>, is_new: bool) -> Shown {
        let is_presented = id.is_some_and(|id| self.ids.contains(id));
        match self.by {
            By::Program => Shown::Elsewhere,
            By::Link { is_same_origin } if is_presented || !(is_same_origin || is_new) => {
                Shown::Elsewhere
            }
            By::Cookie if is_presented => Shown::This,
            By::Cookie if !self.ids.is_empty() => Shown::Others,
            By::Cookie | By::Link { .. } => Shown::Nothing,
        }
    }
}

/// How a client knows a session, compared with the session's id when the response is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// No cookie holds a well-formed id.
    Nothing,
    /// Cookies hold well-formed ids, but not the session's.
    Others,
    /// A cookie holds the session's id.
    This,
    /// By a link, by a form, or by the program.
    Elsewhere,
}

/// What the store says of the session's id when the response is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It leads to the session.
    Live,
    /// It leads nowhere any more, or to what a change of id left there; or nothing was stored.
    Ended,
    /// This request has destroyed the session, and no other that the client shows is left.
    Destroyed,
}

/// What a response does about the session's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Set,
    Remove,
}

/// Decides about the cookie of a response: the one place that does.
///
/// | the client shows | the session is | and must be sent again | the response |
/// |---|---|---|---|
/// | nothing, or other ids | live | | sets the cookie |
/// | its id | live | no | leaves the cookie alone |
/// | its id | live | yes | sets the cookie |
/// | any id | destroyed | | removes the cookie |
/// | nothing | destroyed | | leaves the cookie alone |
/// | anything | ended, or given another id | | leaves the cookie alone |
/// | its id in a link or form, or given by the program | anything | | leaves the cookie alone |
///
/// A cookie must be sent again when its Max-Age is to be renewed ([`is_due_again`]) or another, or when it holds
/// the session itself, which has changed. Two responses that are under way at once may still overtake each
/// other: a browser keeps the cookie that arrives last.
pub(crate) fn due(shown: Shown, standing: Standing, is_to_be_sent_again: bool) -> Due {
    match (shown, standing) {
        (Shown::Elsewhere, _) | (_, Standing::Ended) | (Shown::Nothing, Standing::Destroyed) => {
            Due::Nothing
        }
        (Shown::Nothing | Shown::Others, Standing::Live) => Due::Set,
        (Shown::This, Standing::Live) if is_to_be_sent_again => Due::Set,
        (Shown::This, Standing::Live) => Due::Nothing,
        (Shown::Others | Shown::This, Standing::Destroyed) => Due::Remove,
    }
}

/// Whether the cookie is to be sent again: at most once in a tenth of its Max-Age, which is renewed, or, when it has
/// none any more, of the time for which the session lives unused.
pub(crate) fn is_due_again(
    max_age: Option<Duration>,
    idle: Duration,
    sent: Option<SystemTime>,
    now: SystemTime,
) -> bool {
    // Only that of a cookie with a Max-Age is noted, and in whole seconds.
    let Some(sent) = sent else {
        return max_age.is_some();
    };
    let pause = (max_age.unwrap_or(idle).min(MAX_MAX_AGE) / 10).max(Duration::from_secs(1));
    match now.duration_since(sent) {
        Ok(since) => since > pause,
        // Noted by a clock that was wrong.
        Err(ahead) => ahead.duration() > pause,
    }
}

/// The one `Set-Cookie` header field that a response needs.
///
/// `Display` writes the field's value. Whether it carries `Secure` under `cookieSecure = auto`
/// depends on the request: say so with [`SetCookie::over_https`].
///
/// ```
/// # use cgi_session::{Config, SessionManager};
/// # let directory = tempfile::tempdir()?;
/// # let config = Config::new().set("storageFileDir", directory.path())?;
/// let manager = SessionManager::new(config)?;
/// let mut session = manager.start(b"")?;
/// session.insert("name", "Ada")?;
/// if let Some(set_cookie) = session.commit()? {
///     println!("Set-Cookie: {}", set_cookie.over_https(true));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SetCookie {
    cookie: Cookie<'static>,
    secure: Secure,
}

impl SetCookie {
    /// The cookie by which the client is known again: its value is the session's id or, where the client
    /// keeps the session, the session itself.
    pub(crate) fn new(config: &Config, value: String, max_age: Option<Duration>) -> Self {
        let mut cookie = builder(config, value);
        if let Some(age) = max_age {
            let seconds = age.min(MAX_MAX_AGE).as_secs();
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            cookie = cookie.max_age(cookie::time::Duration::seconds(seconds));
        }
        SetCookie {
            cookie: cookie.build(),
            secure: config.cookie_secure,
        }
    }

    /// The cookie that removes the client's: the same attributes, no value, already expired.
    pub(crate) fn removal(config: &Config) -> Self {
        SetCookie {
            cookie: builder(config, String::new()).removal().build(),
            secure: config.cookie_secure,
        }
    }

    /// Tells whether the request came by HTTPS, which decides `Secure` under `cookieSecure = auto`.
    #[must_use]
    pub fn over_https(mut self, https: bool) -> Self {
        if self.secure == Secure::Auto {
            self.cookie.set_secure(https);
        }
        self
    }

    /// The cookie's value, which is the id; of a removal it is empty.
    pub(crate) fn value(&self) -> &str {
        self.cookie.value()
    }

    /// Whether this takes a cookie away instead of setting one.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.cookie.value().is_empty()
    }
}

impl fmt::Display for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cookie.fmt(f)
    }
}

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetCookie({}=hidden)", self.cookie.name())
    }
}

fn builder(config: &Config, value: String) -> CookieBuilder<'static> {
    let mut cookie = Cookie::build((config.cookie_name.clone(), value))
        .path(config.cookie_path.clone())
        .http_only(config.cookie_http_only)
        .same_site(config.cookie_same_site)
        .secure(config.cookie_secure == Secure::Always);
    if config.cookie_partitioned {
        cookie = cookie.partitioned(true);
    }
    match &config.cookie_domain {
        Some(domain) => cookie.domain(domain.clone()),
        None => cookie,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    /// The table of [`due`], and no other row sets or removes a cookie.
    #[test]
    fn one_table_decides_about_the_cookie() {
        use Shown::{Elsewhere, Nothing, Others, This};
        use Standing::{Destroyed, Ended, Live};
        let rows = [
            (Nothing, Live, false, Due::Set),
            (Nothing, Live, true, Due::Set),
            (Others, Live, false, Due::Set),
            (Others, Live, true, Due::Set),
            (This, Live, true, Due::Set),
            (Others, Destroyed, false, Due::Remove),
            (Others, Destroyed, true, Due::Remove),
            (This, Destroyed, false, Due::Remove),
            (This, Destroyed, true, Due::Remove),
        ];
        for shown in [Nothing, Others, This, Elsewhere] {
            for standing in [Live, Ended, Destroyed] {
                for again in [false, true] {
                    let row = rows
                        .iter()
                        .find(|row| (row.0, row.1, row.2) == (shown, standing, again));
                    let expected = row.map_or(Due::Nothing, |row| row.3);
                    assert_eq!(
                        due(shown, standing, again),
                        expected,
                        "{shown:?} {standing:?} {again}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_max_age_is_renewed_once_in_a_tenth_of_it() {
        let age = |seconds| Some(Duration::from_secs(seconds));
        let now = SystemTime::now();
        let idle = Duration::from_secs(100);
        let sent = |ago| Some(now - Duration::from_secs(ago));
        let due = |ago| is_due_again(age(100), Duration::ZERO, sent(ago), now);
        assert!(!due(0) && !due(10) && due(11));
        assert!(is_due_again(age(100), idle, None, now));
        assert!(is_due_again(
            age(100),
            idle,
            Some(now + Duration::from_secs(60)),
            now
        ));
        let mut record = crate::record::Record::new(now);
        record.set_sent(Some(now));
        assert!(!is_due_again(age(1), idle, record.sent(), now));
        // It has none any more.
        let due = |sent| is_due_again(None, idle, sent, now);
        assert!(!due(None) && !due(sent(10)) && due(sent(11)));
    }

    #[test]
    fn the_attributes_are_those_of_the_configuration() {
        let plain = SetCookie::new(&Config::new(), ID.to_owned(), None);
        assert_eq!(
            plain.to_string(),
            format!("sessionId={ID}; HttpOnly; SameSite=Lax; Path=/")
        );
        assert!(plain.over_https(true).to_string().contains("; Secure"));
        let age = Some(Duration::from_secs(3650 * 24 * 3600));
        let config = Config::new().set("cookieSecure", "true").unwrap();
        let longest = SetCookie::new(&config, ID.to_owned(), age).over_https(false);
        let end = "; Secure; Path=/; Max-Age=34560000";
        assert!(longest.to_string().ends_with(end), "{longest}");
    }

    #[test]
    fn the_removal_has_the_same_name_path_and_domain() {
        let config = Config::new()
            .set("cookiePath", "/shop")
            .and_then(|c| c.set("cookieDomain", "example.org"));
        let removal = SetCookie::removal(&config.unwrap());
        assert!(removal.is_removal());
        let text = removal.to_string();
        for part in [
            "sessionId=;",
            "Path=/shop",
            "Domain=example.org",
            "Max-Age=0",
            "Expires=",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
