//! [`Jar`]: the cookies of a client in a test, as a browser keeps them (RFC 6265, 5.3 and 5.4).

use std::sync::{Mutex, MutexGuard};

use cookie::Cookie;
use cookie::time::OffsetDateTime;
use http::HeaderMap;
use http::header::SET_COOKIE;

use crate::mutex::lock;

/// The cookies of one host, those sent last at the end.
#[derive(Default)]
pub(crate) struct Jar(Mutex<Vec<Kept>>);

struct Kept {
    name: String,
    value: String,
    path: String,
    is_secure: bool,
    /// None: when the browser is closed.
    end: Option<OffsetDateTime>,
}

impl Jar {
    /// The cookies that a request of this path shows, each as `name=value`; those of longer paths first.
    pub(crate) fn shown(&self, path: &str, is_https: bool) -> Vec<String> {
        let kept = self.kept();
        let is_shown =
            |cookie: &&Kept| matches_path(path, &cookie.path) && (is_https || !cookie.is_secure);
        let mut shown: Vec<_> = kept.iter().filter(is_shown).collect();
        shown.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let shown = shown.iter();
        shown
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect()
    }

    /// The value of the cookie of this name that was set last.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let kept = self.kept();
        let mut kept = kept.iter().rev();
        let found = kept.find(|cookie| cookie.name == name);
        found.map(|cookie| cookie.value.clone())
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        self.put(Kept {
            name: name.to_owned(),
            value: value.to_owned(),
            path: "/".to_owned(),
            is_secure: false,
            end: None,
        });
    }

    pub(crate) fn clear(&self) {
        self.kept().clear();
    }

    /// Keeps and removes what a response to a request of this path says.
    pub(crate) fn take(&self, headers: &HeaderMap, path: &str, is_https: bool) {
        let fields = headers.get_all(SET_COOKIE).iter();
        for cookie in fields.filter_map(|field| Cookie::parse(field.to_str().ok()?).ok()) {
            let is_secure = cookie.secure() == Some(true);
            if is_secure && !is_https {
                continue;
            }
            let own_path = cookie.path().filter(|path| path.starts_with('/'));
            let end = match cookie.max_age() {
                Some(age) => OffsetDateTime::now_utc().checked_add(age),
                None => cookie.expires_datetime(),
            };
            self.put(Kept {
                name: cookie.name().to_owned(),
                value: cookie.value().to_owned(),
                path: own_path.unwrap_or(directory(path)).to_owned(),
                is_secure,
                end,
            });
        }
    }

    fn put(&self, cookie: Kept) {
        let mut kept = self.kept();
        kept.retain(|known| (&known.name, &known.path) != (&cookie.name, &cookie.path));
        kept.push(cookie);
    }

    /// Those whose end has not come.
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        let mut kept = lock(&self.0);
        let now = OffsetDateTime::now_utc();
        kept.retain(|cookie| cookie.end.is_none_or(|end| end > now));
        kept
    }
}

/// The path of a cookie that names none (RFC 6265, 5.1.4).
fn directory(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// Whether a cookie of this path is shown to a request (RFC 6265, 5.1.4).
fn matches_path(path: &str, of_cookie: &str) -> bool {
    let rest = path.strip_prefix(of_cookie);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || of_cookie.ends_with('/'))
}
