//! `secretKeyFile`: the keys of `storageType = cookie`, one a line, the newest first.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use cgi_session::{Config, holds_keys};
use tempfile::NamedTempFile;

use crate::account::Account;
use crate::owner;
use crate::private;
use crate::report::{self, Ended};

/// The bytes of a key, of which each is written as two hexadecimal digits.
const BYTES: usize = 64;

/// Makes the file if it is missing, or adds a key; returns what is wrong with one that is there.
pub(crate) fn init(
    config: &Config,
    owner: Option<&Account>,
    wants_new: bool,
) -> Result<Vec<String>, Ended> {
    let path = path(config)?;
    owner::act_where_others_can(&path, owner, config)?;
    let shown = path.display();
    let failed = |error: io::Error| format!("cannot make the file of keys {shown}: {error}");
    let Some(found) = open(&path).map_err(failed)? else {
        if owner.is_none() && Account::current().is_root() {
            let line =
                format!("{shown} does not exist: say whose programs will read it, with --owner");
            return Err(Ended::saying(&line, report::USAGE));
        }
        let ids = owner.map(|owner| (owner.uid, owner.gid));
        let made = write(&path, "", ids).map_err(failed)?;
        // Another one of us that was faster has made a key as good.
        return match made.persist_noclobber(&path) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => {
                Err(failed(error.error).into())
            }
            _ => Ok(Vec::new()),
        };
    };
    let mut problems = found.problems(&path, owner);
    if wants_new && path.is_symlink() {
        problems.push(format!(
            "{shown} is a symbolic link, in whose place a new file would come; name the file itself in secretKeyFile"
        ));
    }
    if problems.is_empty() && wants_new {
        let made = write(
            &path,
            &found.text,
            Some((found.about.uid(), found.about.gid())),
        )
        .map_err(failed)?;
        made.persist(&path).map_err(|error| failed(error.error))?;
    }
    Ok(problems)
}

/// Deletes the file if it holds keys and nothing else; returns whether it did.
pub(crate) fn remove(config: &Config) -> Result<bool, Ended> {
    let path = path(config)?;
    owner::act_where_others_can(&path, None, config)?;
    let shown = path.display();
    let failed = |error: io::Error| format!("cannot remove the file of keys {shown}: {error}");
    let is_ours = open(&path)
        .map_err(failed)?
        .is_some_and(|it| holds_keys(&it.text));
    if is_ours {
        fs::remove_file(&path).map_err(failed)?;
    }
    Ok(is_ours)
}

pub(crate) fn path(config: &Config) -> Result<PathBuf, Ended> {
    let path = config.get("secretKeyFile").unwrap_or_default();
    if path.is_empty() {
        let line = "storageType = cookie needs secretKeyFile: write \
                    `secretKeyFile = /etc/cgi-session.key` into section [session]";
        return Err(Ended::saying(line, report::CONFIGURATION));
    }
    Ok(path.into())
}

struct Found {
    text: String,
    about: Metadata,
}

impl Found {
    fn problems(&self, path: &Path, owner: Option<&Account>) -> Vec<String> {
        let shown = path.display();
        let word = cgi_session::shell_word(path);
        let mut problems = Vec::new();
        // Another file's mode and owner are not for us to change.
        let is_ours = holds_keys(&self.text);
        if !is_ours {
            problems.push(format!(
                "{shown} is no file of keys: each line that is no comment must be {} digits 0-9a-f; it was left alone: \
                 move it away, and run this again",
                2 * BYTES
            ));
        }
        if is_ours && self.about.mode() & 0o077 != 0 {
            let mode = self.about.mode() & 0o7777;
            problems.push(format!(
                "{shown} can be read by others (mode {mode:04o}); try: chmod 0600 {word}"
            ));
        }
        if let Some(owner) = owner.filter(|owner| is_ours && owner.uid != self.about.uid()) {
            let handle = owner.handle();
            problems.push(format!(
                "{shown} belongs to uid {}; try: chown {handle} {word}",
                self.about.uid()
            ));
        }
        problems
    }
}

fn open(path: &Path) -> io::Result<Option<Found>> {
    let file = match private::open_regular(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let about = file.metadata()?;
    let text = io::read_to_string(file)?;
    // Some editors write a byte order mark first.
    let text = text.trim_start_matches('\u{feff}').to_owned();
    Ok(Some(Found { text, about }))
}

/// Writes a new key and the old ones beside `path`, with mode 0600, to be renamed.
fn write(path: &Path, old: &str, owner: Option<(u32, u32)>) -> io::Result<NamedTempFile> {
    let mut key = [0; BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let key = key.map(|byte| format!("{byte:02x}")).concat();
    let mut file = NamedTempFile::new_in(owner::directory_of(path))?;
    file.write_all(format!("{key}\n{old}").as_bytes())?;
    if let Some((uid, gid)) = owner.filter(|_| Account::current().is_root()) {
        fchown(file.as_file(), Some(uid), Some(gid))?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}
