//! The values of a session as a JSON file: what `cgi-session start PROGRAM` hands to its program.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use cgi_session::{Error, Values};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tempfile::NamedTempFile;

use crate::report::Ended;
use crate::start::child::LONGEST;
use crate::{owner, private};

/// The variable that names the file. It must not begin with `CGI_SESSION_`, as the keys of the
/// configuration do.
pub(crate) const VARIABLE: &str = "SESSION_VALUES";

/// Stands beside the values when they are stored and the program still runs.
const STORED: &str = "stored";

/// A file whose content is one JSON object. That it is missing means that the session is to end.
pub(crate) struct ValuesFile {
    path: PathBuf,
    /// No values, whose keys may be as long as those of the session.
    none: Values,
}

/// Values that cannot be those of a session.
pub(crate) struct Unfit {
    /// The key that cannot be stored, or whose value cannot; `None` when the text as a whole is wrong.
    pub(crate) key: Option<String>,
    pub(crate) reason: String,
}

impl ValuesFile {
    /// The file of the wrapper that this program runs under, if it does.
    pub(crate) fn of_wrapper() -> Option<Self> {
        let path = env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
        Some(ValuesFile {
            path: path.into(),
            none: Values::default(),
        })
    }

    /// Creates the file in a directory that no other user can look into.
    pub(crate) fn create(directory: &Path, values: &Values) -> io::Result<Self> {
        let path = directory.join("values.json");
        let mut none = values.clone();
        none.clear();
        let file = ValuesFile { path, none };
        file.write(values)?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The values, or `None` when the file was deleted.
    pub(crate) fn read(&self) -> io::Result<Result<Option<Values>, Unfit>> {
        match self.text() {
            Ok(text) => Ok(parse(&text, self.none.clone()).map(Some)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Ok(None)),
            Err(error) => Err(error),
        }
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        // The session is locked, and a device may have no end.
        let file = private::open_regular(&self.path)?;
        let mut text = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut text)?;
        if u64::try_from(text.len()).is_ok_and(|length| length > LONGEST) {
            return Err(io::Error::other("it is longer than 64 MiB"));
        }
        Ok(text)
    }

    /// Changes the values; of several programs that do so at once none loses anything.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Values) -> cgi_session::Result<T>,
    ) -> Result<T, Ended> {
        let _lock = self.lock_for_change()?;
        let Some(mut values) = self.values()? else {
            let line = "this program has ended its session; nothing can be put in any more";
            return Err(line.to_owned().into());
        };
        let result = change(&mut values)?;
        let written = self.write(&values);
        written.map_err(|error| self.failed("write", &error))?;
        Ok(result)
    }

    /// As [`ValuesFile::read`], after which the commands of the program change nothing any more.
    pub(crate) fn read_last(&self) -> io::Result<Result<Option<Values>, Unfit>> {
        let _lock = self.lock()?;
        File::create_new(self.directory().join(STORED))?;
        self.read()
    }

    /// Takes the lock for a change, unless the values are stored already.
    fn lock_for_change(&self) -> Result<File, Ended> {
        let lock = self.lock().map_err(|error| self.failed("lock", &error))?;
        if self.directory().join(STORED).exists() {
            let line = "the header block is out, and with --stream the session is stored by then: nothing can be \
                changed any more";
            return Err(line.to_owned().into());
        }
        Ok(lock)
    }

    /// As [`ValuesFile::read`], for a command.
    pub(crate) fn values(&self) -> Result<Option<Values>, Ended> {
        let read = self.read().map_err(|error| self.failed("read", &error))?;
        Ok(read.map_err(|unfit| self.failed("read", &unfit.reason))?)
    }

    /// Deletes the file, so that the session ends.
    pub(crate) fn destroy(&self) -> Result<(), Ended> {
        let _lock = self.lock_for_change()?;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.failed("delete", &error).into())
            }
            _ => Ok(()),
        }
    }

    fn write(&self, values: &Values) -> io::Result<()> {
        // Made with mode 0600, and renamed, so that no process reads half of it.
        let mut file = NamedTempFile::new_in(self.directory())?;
        serde_json::to_writer(&mut file, values)?;
        file.write_all(b"\n")?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// The lock is that of a file of its own, because this one is replaced.
    fn lock(&self) -> io::Result<File> {
        let path = self.directory().join("lock");
        let lock = File::options().create(true).append(true).open(path)?;
        lock.lock()?;
        Ok(lock)
    }

    fn directory(&self) -> &Path {
        owner::directory_of(&self.path)
    }

    fn failed(&self, action: &str, error: &impl fmt::Display) -> String {
        let path = self.path.display();
        format!(
            "cannot {action} {path}, which {VARIABLE} names: {error}; \
             outside of cgi-session start PROGRAM unset {VARIABLE}"
        )
    }
}

/// Reads values as any language writes them: PHP writes an empty array, `[]`, for no values at all, and PowerShell
/// a byte order mark first.
fn parse(text: &[u8], none: Values) -> Result<Values, Unfit> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let inside = text.trim_ascii().strip_prefix(b"[");
    let inside = inside.and_then(|rest| rest.strip_suffix(b"]"));
    if inside.is_some_and(|inside| inside.trim_ascii().is_empty()) {
        return Ok(none);
    }
    let mut reading = Reading {
        values: none,
        key: None,
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = json.deserialize_map(&mut reading);
    match read.and_then(|()| json.end()) {
        Ok(()) => Ok(reading.values),
        Err(error) => Err(Unfit {
            reason: match &reading.key {
                Some(key) => format!("the value of {key:?} cannot be stored: {error}"),
                None => format!("it is not one JSON object of values: {error}"),
            },
            key: reading.key,
        }),
    }
}

struct Reading {
    values: Values,
    /// The key whose value is being read.
    key: Option<String>,
}

/// Reads a key as it is written: as text, one that is no Unicode would be nameless.
impl<'de> DeserializeSeed<'de> for &mut Reading {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<(), D::Error> {
        key.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for &mut Reading {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_bytes<E: serde::de::Error>(self, key: &[u8]) -> Result<(), E> {
        self.key = Some(String::from_utf8_lossy(key).into_owned());
        str::from_utf8(key).map(drop).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(&mut *self)?.is_some() {
            let key = self.key.clone().unwrap_or_default();
            if self.values.contains(&key) {
                self.key = None;
                return Err(A::Error::custom(format!("{key:?} is there twice")));
            }
            let text: Box<RawValue> = map.next_value()?;
            match self.values.insert(&key, &text) {
                Ok(()) => self.key = None,
                Err(Error::Value { source, .. }) => return Err(A::Error::custom(source)),
                Err(Error::Key { reason, .. }) => {
                    return Err(A::Error::custom(format!("the key is refused: {reason}")));
                }
                Err(error) => {
                    self.key = None;
                    return Err(A::Error::custom(error.one_line()));
                }
            }
        }
        Ok(())
    }
}
