//! What no key can say alone: whether the settings fit together, and where a missing one belongs.

use std::env;
use std::path::{Path, PathBuf};

use cookie::SameSite;
use rustix::fs::FileType;

use super::choice::{IdFrom, Secure, StorageType};
use super::settings::Config;
use crate::error::{Error, Result};

const FILE_NAME: &str = "cgi-session.ini";
pub(super) const SYSTEM_FILE: &str = "/etc/cgi-session.ini";

/// Beside the executable, so that it is found where a server strips the environment (suexec).
pub(super) fn beside() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    Some(program.with_file_name(FILE_NAME))
}

impl Config {
    /// The directory of the session files.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `storageFileDir` is not set.
    pub fn storage_file_dir(&self) -> Result<&Path> {
        self.storage_file_dir.as_deref().ok_or_else(|| {
            let place = if let Some(file) = self.file() {
                format!("of {}", file.display())
            } else if let Some(beside) = beside().filter(|_| is_started_by_server()) {
                // Not the variable: under suexec it never arrives.
                format!("of {} or {SYSTEM_FILE}", beside.display())
            } else {
                format!("of {SYSTEM_FILE}, or set CGI_SESSION_STORAGE_FILE_DIR")
            };
            Error::Config(format!(
                "storageFileDir is not set: write `storageFileDir = /var/lib/cgi-session` into section [session] {place}"
            ))
        })
    }

    /// Checks what no key can check alone: the rules of cookie prefixes, which browsers know in any case
    /// of letters (RFC 6265bis, 4.1.3), and the attributes that browsers accept only together with `Secure`.
    pub(crate) fn check(&self) -> Result<()> {
        let is_insecure = self.cookie_secure != Secure::Always;
        let has = |prefix: &str| {
            let start = self.cookie_name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let (host, http) = (has("__host-"), has("__http-") || has("__host-http-"));
        let has_place = self.cookie_path != "/" || self.cookie_domain.is_some();
        for (is_wrong, key, reason) in [
            (
                (host || http || has("__secure-")) && is_insecure,
                "cookieName",
                "a name with __Secure-, __Host- or __Http- needs cookieSecure = true",
            ),
            (
                host && has_place,
                "cookieName",
                "a name with __Host- needs cookiePath = / and no cookieDomain",
            ),
            (
                http && !self.cookie_http_only,
                "cookieName",
                "a name with __Http- or __Host-Http- needs cookieHttpOnly = true",
            ),
            (
                self.cookie_same_site == SameSite::None && is_insecure,
                "cookieSameSite",
                "None needs cookieSecure = true",
            ),
            (
                self.cookie_partitioned && is_insecure,
                "cookiePartitioned",
                "true needs cookieSecure = true",
            ),
            (
                self.storage_type == StorageType::Cookie && self.id_from != IdFrom::default(),
                "idFrom",
                "with storageType = cookie only a cookie can hold the session",
            ),
            (
                self.storage_type == StorageType::Cookie && self.max_sessions > 0,
                "maxSessions",
                "with storageType = cookie only the clients know their sessions",
            ),
            (
                self.keeps_expired() && !self.storage_type.can_keep_expired(),
                "expiredBy",
                "cleanup needs storageType = file, sqlite, postgres or mysql",
            ),
            (
                self.storage_type == StorageType::Cookie && self.rotate_after.is_some(),
                "rotateAfter",
                "with storageType = cookie no id is known elsewhere that could be changed",
            ),
        ] {
            if is_wrong {
                let origin = self.origin(key);
                return Err(Error::Config(format!("{key} ({origin}): {reason}")));
            }
        }
        if self.storage_type == StorageType::File {
            self.storage_file_dir()?;
        }
        Ok(())
    }
}

/// Whether a web server started this process, for one request or as a responder.
fn is_started_by_server() -> bool {
    let stdin = rustix::fs::fstat(rustix::stdio::stdin());
    let is_socket = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode).is_socket();
    env::var_os("REQUEST_METHOD").is_some() || stdin.is_ok_and(is_socket)
}
