//! Single files: opened, read, written, compared with their names.

use std::io::Seek as _;
use std::os::unix::fs::OpenOptionsExt as _;

use crate::prelude::*;
use cgi_session::Stored;

pub(super) fn write_in_steps(mut file: &File, text: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    for part in text.chunks(64) {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// After an error: what cannot be deleted is left to the clean-up.
pub(super) fn forget(temporary: &Path) {
    let _ = fs::remove_file(temporary);
}

pub(super) fn load_named(path: &Path) -> io::Result<Option<Stored>> {
    found(open(path))?.map(|file| load(&file)).transpose()
}

pub(super) fn load(mut file: &File) -> io::Result<Stored> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    let record = Record::from_json(text);
    let record = record.map_err(|error| io::Error::other(format!("{error:?}")))?;
    Ok(Stored::new(record, file.metadata()?.modified()?))
}

pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

pub(super) fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// `None` for what is not there.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    let named = found(fs::metadata(path))?;
    Ok(named.is_some_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())))
}
