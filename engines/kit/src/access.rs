//! How a server is reached: what lets in, and what it means when that does not.

use std::fmt::Display;

use cgi_session::{Config, Error, Result};

/// The password that stands in no URL; `has_one` says that the URL has one already.
///
/// # Errors
///
/// [`Error::Config`] when there are two, or the file of the password cannot be used.
pub fn password(config: &Config, has_one: bool) -> Result<Option<String>> {
    let password = config.database_password()?;
    if has_one && password.is_some() {
        return Err(Error::Config(
            "there is a password in database, and another in databasePassword or databasePasswordFile; \
             take one away"
                .to_owned(),
        ));
    }
    Ok(password)
}

/// Refuses a certificate of our own that no server is shown, because nothing encrypts.
///
/// # Errors
///
/// [`Error::Config`] then; `remedy` says how the URL asks for TLS.
pub fn check_encryption(config: &Config, is_encrypted: bool, remedy: &str) -> Result<()> {
    if is_encrypted || config.database_identity()?.is_none() {
        return Ok(());
    }
    let reason = format!("it is shown over TLS alone; {remedy}");
    Err(wrong(config, "databaseCertFile", &reason))
}

/// What to do where one is not let in.
pub const HINT: &str =
    "check the user and the password in database, databasePasswordFile or databasePassword";

/// What to do about an error, if it is one of TLS.
#[must_use]
pub fn hint_of_tls(cause: &str) -> Option<&'static str> {
    let cause = cause.to_lowercase();
    if cause.contains("fatal alert") || cause.contains("client certificate") {
        return Some(
            "the server does not trust this program: databaseCertFile and databaseKeyFile must name a certificate \
             whose authority it knows, and the key",
        );
    }
    cause
        .contains("certificate")
        .then_some("check databaseCaFile, and that database names the host as its certificate does")
}

/// The error of a file that a key names.
pub(crate) fn wrong(config: &Config, key: &str, reason: &dyn Display) -> Error {
    let (path, origin) = (config.get(key).unwrap_or_default(), config.origin(key));
    Error::Config(format!("{key} = {path} ({origin}): {reason}"))
}
