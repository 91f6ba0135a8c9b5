//! Files that hold a secret and are for their owner's eyes alone.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// No such file is longer.
const MAX_LENGTH: u64 = 1 << 16;

/// Reads a secret, or says why not and what to do: when there is no file, and when others may have
/// read it.
pub(crate) fn read(path: &Path, if_missing: &str, if_exposed: &str) -> Result<String, String> {
    // A named pipe in its place would keep a plain open waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(format!("there is no such file; {if_missing}")),
        file => File::from(file.map_err(|error| std::io::Error::from(error).to_string())?),
    };
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "others can read it (mode {mode:04o}); give it mode 0600 if no other program reads it, and {if_exposed}"
        ));
    }
    let uid = rustix::process::geteuid().as_raw();
    if found.uid() != uid && uid != 0 {
        return Err(format!(
            "it belongs to uid {}, not to uid {uid}",
            found.uid()
        ));
    }
    let mut text = String::new();
    let taken = file.take(MAX_LENGTH + 1).read_to_string(&mut text);
    taken.map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    Ok(text)
}
