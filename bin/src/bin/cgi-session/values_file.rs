//! The values of a session as a JSON file: what `cgi-session start PROGRAM` hands to its program.

use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use cgi_session::Values;
use cgi_session_tools::report;
use tempfile::{NamedTempFile, TempDir};

use crate::sessions::Ended;

/// The variable that names the file. It must not begin with `CGI_SESSION_`, as the keys of the
/// configuration do.
pub(crate) const VARIABLE: &str = "SESSION_VALUES";

/// A file whose content is one JSON object. That it is missing means that the session is to end.
pub(crate) struct ValuesFile {
    path: PathBuf,
}

impl ValuesFile {
    /// The file of the wrapper that this program runs under, if it does.
    pub(crate) fn of_wrapper() -> Option<Self> {
        let path = env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
        Some(ValuesFile { path: path.into() })
    }

    /// Makes the file in a directory that nobody else can look into.
    pub(crate) fn create(directory: &TempDir, values: &Values) -> io::Result<Self> {
        let path = directory.path().join("values.json");
        let file = ValuesFile { path };
        file.write(values)?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The values, or `None` when the file was deleted.
    pub(crate) fn read(&self) -> io::Result<Option<Values>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let values = serde_json::from_slice(&text);
        values.map(Some).map_err(|error| {
            let reason = format!("it is not one JSON object of values: {error}");
            io::Error::new(ErrorKind::InvalidData, reason)
        })
    }

    /// Changes the values; of several programs that do so at once none loses anything.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Values) -> cgi_session::Result<T>,
    ) -> Result<T, Ended> {
        let _lock = self.lock().map_err(|error| self.failed("lock", &error))?;
        let values = self.read().map_err(|error| self.failed("read", &error))?;
        let Some(mut values) = values else {
            let line = "this program has ended its session; nothing can be put in any more";
            return Err(Ended::saying(line, report::FAILED));
        };
        let result = change(&mut values)?;
        let written = self.write(&values);
        written.map_err(|error| self.failed("write", &error))?;
        Ok(result)
    }

    /// As [`ValuesFile::read`], for a command.
    pub(crate) fn values(&self) -> Result<Option<Values>, Ended> {
        self.read().map_err(|error| self.failed("read", &error))
    }

    /// Deletes the file, so that the session ends.
    pub(crate) fn destroy(&self) -> Result<(), Ended> {
        let _lock = self.lock().map_err(|error| self.failed("lock", &error))?;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed("delete", &error)),
            _ => Ok(()),
        }
    }

    fn write(&self, values: &Values) -> io::Result<()> {
        // Made with mode 0600, and renamed, so that nobody reads half of it.
        let mut file = NamedTempFile::new_in(self.directory())?;
        serde_json::to_writer(&mut file, values)?;
        file.write_all(b"\n")?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// The lock is the directory's, because the file is replaced.
    fn lock(&self) -> io::Result<File> {
        let directory = File::open(self.directory())?;
        directory.lock()?;
        Ok(directory)
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        }
    }

    fn failed(&self, action: &str, error: &io::Error) -> Ended {
        let path = self.path.display();
        let line = format!(
            "cannot {action} {path}, which {VARIABLE} names: {error}; \
             outside of cgi-session start PROGRAM unset {VARIABLE}"
        );
        Ended::saying(&line, report::FAILED)
    }
}
