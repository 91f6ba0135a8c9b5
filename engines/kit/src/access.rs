//! How a server is reached: the password, and the certificates that it is verified by.

use std::fs;

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

/// The certificates of `databaseCaFile` as PEM; `None` when it is not set.
///
/// # Errors
///
/// [`Error::Config`] when the file cannot be read or holds none.
pub fn authorities(config: &Config) -> Result<Option<Vec<u8>>> {
    let Some(path) = config.database_ca_file() else {
        return Ok(None);
    };
    let fail = |reason: &str| Error::Config(format!("databaseCaFile {}: {reason}", path.display()));
    let text = fs::read(path).map_err(|error| fail(&error.to_string()))?;
    if !String::from_utf8_lossy(&text).contains("-----BEGIN CERTIFICATE-----") {
        return Err(fail("it holds no certificates (PEM)"));
    }
    Ok(Some(text))
}
