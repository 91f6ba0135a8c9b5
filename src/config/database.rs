//! What a store asks of the settings: its limits, and how a database is reached.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::choice::ExpiredBy;
use super::secret::Secret;
use super::{Config, Durability, WhenFull, secret_file};
use crate::error::{Error, Result};

/// For the authors of stores.
impl Config {
    /// How many sessions there may be; 0 when there is no cap.
    #[must_use]
    pub fn max_sessions(&self) -> u64 {
        self.max_sessions
    }

    /// Whether a store with [`Config::max_sessions`] refuses a new session (`whenFull = refuse`) instead of evicting
    /// the one that was unused longest.
    #[must_use]
    pub fn refuses_when_full(&self) -> bool {
        self.when_full == WhenFull::Refuse
    }

    /// Whether a store leaves expired sessions to `cgi-session cleanup` (`expiredBy = cleanup`), and neither deletes one
    /// that it comes upon nor makes room by it; it must know [`Store::keeps_expired`](crate::Store::keeps_expired).
    #[must_use]
    pub fn keeps_expired(&self) -> bool {
        self.expired_by == ExpiredBy::Cleanup
    }

    /// The largest record as JSON text, in bytes, for [`check_size`](crate::store::check_size).
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.max_record_bytes
    }

    /// Whether a commit waits until the record survives a power failure (`durability = data`).
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durability == Durability::Data
    }

    /// How long a lock counts that a server keeps.
    #[must_use]
    pub fn lock_lease(&self) -> Duration {
        self.lock_lease
    }

    /// The name of the table, or what the keys of Redis begin with: letters, digits and `_`, at most 63; 55 in an SQL
    /// database.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The certificates to verify a database server by, instead of those that the system trusts.
    #[must_use]
    pub fn database_ca_file(&self) -> Option<&Path> {
        self.database_ca_file.as_deref()
    }

    /// The text of `database` as it was given, with the password that may be in it: to connect with,
    /// and not to be shown. [`Config::get`] gives what may be shown.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_ref().map(Secret::reveal)
    }

    /// The password that takes the place of one in `database`: that of `databasePassword`, or else the
    /// first line of `databasePasswordFile`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the file cannot be read, is empty, or can be read by others.
    pub fn database_password(&self) -> Result<Option<String>> {
        if let Some(password) = &self.database_password {
            return Ok(Some(password.reveal().to_owned()));
        }
        let Some(path) = &self.database_password_file else {
            return Ok(None);
        };
        let fail = |reason: &str| self.wrong_file("databasePasswordFile", reason);
        let (if_missing, if_exposed) = ("write the password into it", "take a new password");
        let text = secret_file::read(path, if_missing, if_exposed).map_err(|error| fail(&error))?;
        match text.lines().next() {
            Some(password) if !password.is_empty() => Ok(Some(password.to_owned())),
            _ => Err(fail("its first line is empty; it must be the password")),
        }
    }

    /// What a program shows to a database server that asks who it is: the certificate, with those that vouch for it,
    /// and the key, as the files `databaseCertFile` and `databaseKeyFile` have them (PEM).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when only one of the two is set, one cannot be read, or others can read the key.
    pub fn database_identity(&self) -> Result<Option<[String; 2]>> {
        let (of_certificate, of_key) = ("databaseCertFile", "databaseKeyFile");
        let (certificate, key) = match (&self.database_cert_file, &self.database_key_file) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                return Err(self.wrong_file(of_certificate, "databaseKeyFile is not set"));
            }
            (None, Some(_)) => return Err(self.wrong_file(of_key, "databaseCertFile is not set")),
            (None, None) => return Ok(None),
        };
        let certificate = fs::read_to_string(certificate);
        let certificate =
            certificate.map_err(|error| self.wrong_file(of_certificate, &error.to_string()))?;
        let (if_missing, if_exposed) =
            ("write the key of the certificate into it", "take a new key");
        let key = secret_file::read(key, if_missing, if_exposed);
        let key = key.map_err(|reason| self.wrong_file(of_key, &reason))?;
        Ok(Some([certificate, key]))
    }

    /// The error of a file that a key names.
    fn wrong_file(&self, key: &str, reason: &str) -> Error {
        let (path, origin) = (self.get(key).unwrap_or_default(), self.origin(key));
        Error::Config(format!("{key} = {path} ({origin}): {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_no_part_of_what_is_debugged() {
        let config = Config::new().set("database", "redis://ada:s3cret@host/0");
        let config = config.unwrap().set("databasePassword", "s3same").unwrap();
        let debug = format!("{config:?}");
        assert!(!debug.contains("s3"), "{debug}");
    }
}
