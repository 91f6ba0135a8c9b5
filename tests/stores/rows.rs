//! Functions of a custom store over something real: one file for each row, replaced by rename.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cgi_session::{CustomFunctions, CustomResult};

/// Rows in a directory: `expires`, a line end, and the data.
pub(crate) struct Rows {
    directory: PathBuf,
    serial: AtomicU64,
    can_list: bool,
}

impl Rows {
    /// Rows in this directory, which is made.
    pub(crate) fn new(directory: &Path, can_list: bool) -> Self {
        fs::create_dir_all(directory).unwrap();
        Rows {
            directory: directory.to_owned(),
            serial: AtomicU64::new(0),
            can_list,
        }
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
        assert!(key.len() <= 50, "varchar(50) cannot hold {key}");
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{}-{serial}", std::process::id());
        let temporary = self.directory.join(temporary);
        fs::write(&temporary, format!("{expires}\n{data}"))?;
        fs::rename(temporary, self.directory.join(key))?;
        Ok(())
    }

    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
        let row = match fs::read_to_string(self.directory.join(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            row => row?,
        };
        let (expires, data) = row.split_once('\n').ok_or("a row without a line end")?;
        Ok(Some((data.to_owned(), expires.parse()?)))
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
