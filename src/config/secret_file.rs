//! Files that a configuration consists of or names: regular ones of limited length, and those that hold a secret and
//! are for their owner's eyes alone.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::retry_on_intr;

use crate::error::shell_word;

/// No file of a secret is longer.
const MAX_LENGTH: u64 = 1 << 16;

/// Reads a regular file of at most `most` bytes.
pub(super) fn read_regular(path: &Path, most: u64) -> io::Result<(Vec<u8>, Stat)> {
    // A named pipe in its place would keep a plain open waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    // In one piece, as long as it is now. Of a file of /proc no length is known.
    let size = u64::try_from(stat.st_size)
        .unwrap_or_default()
        .min(most + 1);
    let limit = if size == 0 { most + 1 } else { size };
    let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 64);
    File::from(file).take(limit).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    Ok((text, stat))
}

/// Reads a secret, or says why not and what to do: when there is no file, and when others may have
/// read it.
pub(crate) fn read(path: &Path, if_missing: &str, if_exposed: &str) -> Result<String, String> {
    let uid = rustix::process::geteuid().as_raw();
    let (text, stat) = match read_regular(path, MAX_LENGTH) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!("there is no such file; {if_missing}"));
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let word = shell_word(path);
            return Err(format!(
                "{error}; running as uid {uid}; if that is the user of the programs: chown {uid} {word}"
            ));
        }
        read => read.map_err(|error| error.to_string())?,
    };
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "others can read it (mode {mode:04o}); give it mode 0600 if no other program reads it, and {if_exposed}"
        ));
    }
    if stat.st_uid != uid && uid != 0 {
        return Err(format!(
            "it belongs to uid {}, not to uid {uid}",
            stat.st_uid
        ));
    }
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    // Some editors write a byte order mark first.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}
