//! [`CookieStore`]: the client keeps its session itself, sealed in its cookie.
//!
//! What that cannot give: an old copy of the cookie stays valid until it expires, so that a session
//! that was destroyed or changed can be played back; and two requests at once overwrite each other,
//! because the client sends both what it had before. It is for a few values that may be lost.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cookie::{Cookie, CookieJar, Key};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::expiry::should_touch;
use super::{
    Lease, Store, Stored, Sweep, SweepReport, Uninstalled, Visitor, check_size, has_expired,
};
use crate::config::{Config, secret_file};
use crate::cookies::SetCookie;
use crate::error::{Error, Result, shell_word};
use crate::id::{SessionDigest, SessionId};
use crate::mutex::lock;
use crate::record::{Record, unix_seconds};

/// The most that every browser keeps of a cookie: name, value and attributes (RFC 6265, 6.1).
const MAX_COOKIE: usize = 4096;
/// The number of hexadecimal digits of a key: 64 bytes.
const DIGITS: usize = 128;
/// What sealing adds before the base64: a nonce of 12 bytes and a tag of 16 (AES-256-GCM).
const SEAL: usize = 28;

/// Sessions that the clients keep themselves, encrypted and authenticated (`storageType = cookie`).
///
/// The keys are in `secretKeyFile`; the first seals, and all of them open, so that a new one can be
/// put before the old ones. The end of a session is inside the seal.
#[derive(Clone)]
pub struct CookieStore {
    config: Arc<Config>,
    /// All of them open, and the first seals.
    keys: Arc<[Key]>,
    /// The one session that this store holds, if it is a client's.
    client: ClientStore,
}

type ClientStore = Arc<Mutex<Option<(SessionDigest, Stored)>>>;

#[derive(Deserialize, Serialize)]
struct Sealed<'a> {
    id: &'a str,
    /// When it was last used, in seconds since 1970.
    used: u64,
    #[serde(borrow)]
    record: &'a RawValue,
}

impl CookieStore {
    /// A store whose keys are read now.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `secretKeyFile` is not set, cannot be read, is readable by others, or
    /// holds no usable key.
    pub fn new(config: impl Into<Arc<Config>>) -> Result<Self> {
        let config = config.into();
        Ok(CookieStore {
            keys: keys_of(&config)?.into(),
            config,
            client: ClientStore::default(),
        })
    }

    /// The session that this store holds, if it is the one asked for and has not expired.
    fn found(&self, session: &SessionDigest, now: SystemTime) -> Option<Stored> {
        let held = lock(&self.client);
        let (own, stored) = held.as_ref()?;
        let is_live = own == session && !self.has_expired(stored, now);
        is_live.then(|| stored.clone())
    }

    fn lease(&self, session: &SessionDigest, stored: Stored, is_new: bool) -> Box<dyn Lease> {
        Box::new(CookieLease {
            store: self.clone(),
            session: *session,
            stored,
            must_be_sent: is_new,
        })
    }

    fn has_expired(&self, stored: &Stored, now: SystemTime) -> bool {
        has_expired(&stored.record, stored.last_access, self.config.timeout, now)
    }

    /// Whether a cookie that holds this record is one that every browser keeps.
    fn check_size(&self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.config.max_record_bytes)?;
        let plain = sealed_text("0".repeat(SessionId::LENGTH).as_str(), record, now).len();
        let value = "0".repeat((plain + SEAL).div_ceil(3) * 4);
        let cookie = SetCookie::new(&self.config, value, record.max_age(&self.config));
        let cookie = cookie.over_https(true);
        let (size, limit) = (cookie.to_string().len(), MAX_COOKIE);
        if size > limit {
            return Err(Error::CookieTooLarge { size, limit });
        }
        Ok(())
    }

    fn seal(&self, id: &SessionId, stored: &Stored) -> Option<String> {
        let name = &self.config.cookie_name;
        let text = sealed_text(id.secret(), &stored.record, stored.last_access);
        let mut jar = CookieJar::new();
        let key = self.keys.first()?;
        jar.private_mut(key).add(Cookie::new(name.clone(), text));
        jar.get(name).map(|cookie| cookie.value().to_owned())
    }

    fn open(&self, key: &Key, value: &str) -> Option<String> {
        let cookie = Cookie::new(self.config.cookie_name.clone(), value.to_owned());
        let opened = CookieJar::new().private(key).decrypt(cookie)?;
        Some(opened.value().to_owned())
    }
}

fn sealed_text(id: &str, record: &Record, used: SystemTime) -> String {
    let (id, used) = (serde_json::Value::from(id), unix_seconds(used));
    let record = record.to_json();
    let record = String::from_utf8_lossy(&record);
    format!(r#"{{"id":{id},"used":{used},"record":{record}}}"#)
}

fn opened(text: &str) -> Option<(SessionId, Stored)> {
    let sealed: Sealed<'_> = serde_json::from_str(text).ok()?;
    let record = sealed.record.get().as_bytes().to_vec();
    let stored = Stored {
        record: Record::from_json(record).ok()?,
        last_access: UNIX_EPOCH.checked_add(Duration::from_secs(sealed.used))?,
    };
    Some((SessionId::parse(sealed.id.as_bytes())?, stored))
}

impl Store for CookieStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        self.check_size(record, now)?;
        let stored = Stored {
            record: record.clone(),
            last_access: now,
        };
        *lock(&self.client) = Some((*session, stored.clone()));
        Ok(Some(self.lease(session, stored, true)))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        _wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let found = self.found(session, now);
        Ok(found.map(|stored| (stored.clone(), self.lease(session, stored, false))))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        Ok(self.found(session, now))
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        self.read(session, now)
    }

    fn delete_expired(&self, _sweep: &Sweep<'_>, _now: SystemTime) -> Result<SweepReport> {
        Ok(SweepReport::default())
    }

    fn last_sweep(&self, _now: SystemTime) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn for_each(&self, _visit: &mut Visitor<'_>, _now: SystemTime) -> Result<()> {
        Err(Error::Unsupported(
            "with storageType = cookie only the clients have the sessions",
        ))
    }

    fn uninstall(&self) -> Uninstalled {
        Uninstalled::default()
    }

    fn for_client(&self) -> Option<Box<dyn Store>> {
        Some(Box::new(CookieStore {
            client: ClientStore::default(),
            ..self.clone()
        }))
    }

    fn recognize(&self, cookie_value: &str, now: SystemTime) -> Option<SessionId> {
        let mut keys = self.keys.iter();
        let (id, stored) = keys.find_map(|key| opened(&self.open(key, cookie_value)?))?;
        let mut client = lock(&self.client);
        let is_older = |held: &(_, Stored)| held.1.last_access > stored.last_access;
        // A copy of an expired cookie stands for nothing, nor does one that was used before another.
        if self.has_expired(&stored, now)
            || stored.record.is_too_old(self.config.lifetime, now)
            || client.as_ref().is_some_and(is_older)
        {
            return None;
        }
        *client = Some((id.digest(), stored));
        Some(id)
    }
}

/// A session in the hands of a request. Other requests have copies of it: nothing can lock those.
struct CookieLease {
    store: CookieStore,
    session: SessionDigest,
    stored: Stored,
    must_be_sent: bool,
}

impl CookieLease {
    fn keep(&mut self) {
        *lock(&self.store.client) = Some((self.session, self.stored.clone()));
        self.must_be_sent = true;
    }
}

impl Lease for CookieLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        if record.is_replaced() {
            // The client has the new session in place of this one: nothing is left under the old id.
            return Ok(());
        }
        self.store.check_size(record, now)?;
        self.stored = Stored {
            record: record.clone(),
            last_access: now,
        };
        self.keep();
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let config = &self.store.config;
        let idle = self.stored.record.idle_or(config.timeout);
        if should_touch(config, idle, self.stored.last_access, now) {
            self.stored.last_access = now;
            self.keep();
        }
        Ok(())
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        *lock(&self.store.client) = None;
        Ok(())
    }

    fn cookie_value(&self, id: &SessionId) -> Option<String> {
        let sealed = || self.store.seal(id, &self.stored);
        self.must_be_sent.then(sealed).flatten()
    }
}

/// Reads `secretKeyFile`: a key on each line, as 128 hexadecimal digits. Empty lines and lines
/// that begin with `#` do not count. All of the keys open, and the first seals.
fn keys_of(config: &Config) -> Result<Vec<Key>> {
    let file = config.file().map(shell_word);
    let file = file.map_or(String::new(), |file| format!(" --config {file}"));
    let uid = rustix::process::geteuid();
    // Of root's programs there are none, and only root can give a file away.
    let owner = match uid.as_raw() {
        0 => "www-data".to_owned(),
        uid => uid.to_string(),
    };
    let make = format!("make it with: cgi-session init{file} --owner {owner}");
    let path = config.secret_key_file.as_deref().ok_or_else(|| {
        Error::Config(format!(
            "storageType = cookie needs secretKeyFile, a file that holds the key; set it, and {make}"
        ))
    })?;
    let fail = |reason: &str| Error::Config(format!("secretKeyFile {}: {reason}", path.display()));
    let text = secret_file::read(
        path,
        &make,
        &format!(
            "put a new key into it with: cgi-session init{file} --new-key; then delete the lines below the new one: \
             the cookies of others can be made with those keys"
        ),
    );
    let text = text.map_err(|reason| fail(&reason))?;
    keys_in(&text).map_err(|reason| fail(&format!("{reason}; move it away, and {make}")))
}

fn keys_in(text: &str) -> std::result::Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if !line.is_empty() && !line.starts_with('#') {
            let reason = || format!("line {number} holds no key of {DIGITS} hexadecimal digits");
            keys.push(key(line).ok_or_else(reason)?);
        }
    }
    if keys.is_empty() {
        return Err("it holds no key".to_owned());
    }
    Ok(keys)
}

/// Whether a `secretKeyFile` with this text can be used.
#[must_use]
pub fn holds_keys(text: &str) -> bool {
    keys_in(text).is_ok()
}

fn key(digits: &str) -> Option<Key> {
    if digits.len() != DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    Key::try_from(bytes?.as_slice()).ok()
}
