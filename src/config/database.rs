//! How a database is reached: its URL and the password, which are told to whoever connects alone.

use super::secret::Secret;
use super::{Config, secret_file};
use crate::error::{Error, Result};

impl Config {
    /// The text of `database` as it was given, with the password that may be in it: for whoever
    /// connects, and not to be shown. [`Config::get`] gives what may be shown.
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
        let fail = |reason: &str| {
            let (path, origin) = (path.display(), self.origin("databasePasswordFile"));
            Error::Config(format!(
                "databasePasswordFile = {path} ({origin}): {reason}"
            ))
        };
        let (if_missing, if_exposed) = ("write the password into it", "take a new password");
        let text = secret_file::read(path, if_missing, if_exposed).map_err(|error| fail(&error))?;
        match text.lines().next() {
            Some(password) if !password.is_empty() => Ok(Some(password.to_owned())),
            _ => Err(fail("its first line is empty; it must be the password")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        let config = Config::new()
            .set("database", "redis://ada:s3cret@host/0")
            .unwrap();
        let config = config.set("databasePassword", "s3same").unwrap();
        assert_eq!(config.database(), Some("redis://ada:s3cret@host/0"));
        assert_eq!(config.database_password().unwrap().unwrap(), "s3same");
        let shown = |key| config.get(key).unwrap();
        assert_eq!(shown("database"), "redis://ada:***@host/0");
        assert_eq!(shown("databasePassword"), "***");
        let debug = format!("{config:?}");
        assert!(!debug.contains("s3"), "{debug}");
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_unless_it_is_given_itself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pass word \nmore\n").unwrap();
        let config = Config::new()
            .set("databasePasswordFile", file.path())
            .unwrap();
        let password = config.database_password().unwrap().unwrap();
        assert_eq!(password, "pass word ");
        let given = config.clone().set("databasePassword", "other").unwrap();
        assert_eq!(given.database_password().unwrap().unwrap(), "other");
        drop(file);
        let error = config.database_password().unwrap_err().to_string();
        assert!(error.contains("there is no such file"), "{error}");
    }
}
