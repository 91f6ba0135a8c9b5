//! Acting as the owner of the sessions, so that nothing of root's is left where a web server cannot open it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cgi_session::Config;

use crate::account::Account;
use crate::location::Location;

/// Continues as the owner of the directory of the session files, or of the database, when root runs this
/// program and they are not root's.
///
/// Call it before anything is opened for writing. What is missing changes nothing.
pub(crate) fn act_as_owner(config: &Config) -> Result<(), String> {
    if !Account::current().is_root() {
        return Ok(());
    }
    match Location::of(config).owner() {
        Some(owner) if !owner.is_root() => match owner.run_this_program(config)? {},
        _ => Ok(()),
    }
}

/// Whether root can make and remove something in this directory as if it were alone: the directory and all
/// above it belong to root, and other users may at most add files of their own to them (the sticky bit).
pub(crate) fn is_roots_alone(directory: &Path) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let is_roots = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|found| {
            let mode = found.mode();
            found.is_dir() && found.uid() == 0 && (mode & OTHERS_WRITE == 0 || mode & STICKY != 0)
        })
    };
    let real = fs::canonicalize(directory);
    real.is_ok_and(|real| real.ancestors().all(is_roots))
}

/// The directory in which a path is a name.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Continues as `owner`, or else as the owner of the directory of `path`, when root runs this program and
/// other users could put something else in the place of `path`.
pub(crate) fn act_where_others_can(
    path: &Path,
    owner: Option<&Account>,
    config: &Config,
) -> Result<(), String> {
    let directory = directory_of(path);
    if !Account::current().is_root() || is_roots_alone(directory) || !directory.exists() {
        return Ok(());
    }
    let owner = owner.cloned().or_else(|| Account::owning(directory));
    match owner.filter(|owner| !owner.is_root()) {
        Some(owner) => match owner.run_this_program(config)? {},
        None => Err(format!(
            "other users can replace {}, so root does nothing there; try: chown root: {1} && chmod go-w {1}",
            path.display(),
            directory.display()
        )),
    }
}
