//! Functions of a custom store over something real: one file for each row, replaced by rename.

use cgi_session::{CustomFunctions, CustomResult};
use testkit::prelude::*;

/// Rows in a directory: `expires` and `version`, a line end, and the data.
pub(crate) struct Rows {
    directory: PathBuf,
    serial: AtomicU64,
    can_list: bool,
    /// As a database that several machines use.
    compares: bool,
}

impl Rows {
    /// Rows in this directory, which is made.
    pub(crate) fn new(directory: &Path, can_list: bool) -> Self {
        fs::create_dir_all(directory).unwrap();
        Rows {
            directory: directory.to_owned(),
            serial: AtomicU64::new(0),
            can_list,
            compares: false,
        }
    }

    /// The same, where a row is replaced only where its version is known.
    pub(crate) fn comparing(directory: &Path) -> Self {
        Rows {
            compares: true,
            ..Rows::new(directory, true)
        }
    }

    fn put(&self, key: &str, head: &str, data: &str) -> CustomResult<()> {
        assert!(key.len() <= 50, "varchar(50) cannot hold {key}");
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{}-{serial}-{:p}", std::process::id(), self);
        let temporary = self.directory.join(temporary);
        fs::write(&temporary, format!("{head}\n{data}"))?;
        fs::rename(temporary, self.directory.join(key))?;
        Ok(())
    }

    /// The first line of a row, and its data.
    fn row(&self, key: &str) -> CustomResult<Option<(String, String)>> {
        let row = match fs::read_to_string(self.directory.join(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            row => row?,
        };
        let (head, data) = row.split_once('\n').ok_or("a row without a line end")?;
        Ok(Some((head.to_owned(), data.to_owned())))
    }

    fn names(&self) -> CustomResult<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        Ok(names)
    }
}

impl CustomFunctions for Rows {
    fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()> {
        self.put(key, &expires.to_string(), data)
    }

    fn save_if(
        &self,
        key: &str,
        before: Option<u64>,
        data: &str,
        expires: u64,
        version: u64,
    ) -> CustomResult<Option<bool>> {
        if !self.compares {
            return Ok(None);
        }
        let one_at_a_time = File::create(self.directory.join(".lock"))?;
        one_at_a_time.lock()?;
        let found = match self.row(key)? {
            Some((head, _)) => Some(head.split_once(' ').ok_or("no version")?.1.parse()?),
            None => None,
        };
        if found != before {
            return Ok(Some(false));
        }
        self.put(key, &format!("{expires} {version}"), data)?;
        Ok(Some(true))
    }

    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
        let Some((head, data)) = self.row(key)? else {
            return Ok(None);
        };
        let expires = head.split(' ').next().unwrap_or_default();
        Ok(Some((data, expires.parse()?)))
    }

    fn clean_up(&self, now: u64) -> CustomResult<u64> {
        let mut deleted = 0;
        for name in self.names()? {
            if self.load(&name)?.is_some_and(|(_, expires)| expires < now) {
                fs::remove_file(self.directory.join(name))?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    fn keys(&self) -> CustomResult<Option<Vec<String>>> {
        if self.can_list {
            self.names().map(Some)
        } else {
            Ok(None)
        }
    }
}
