//! Acting as the owner of the sessions, so that nothing of root's is left where a web server cannot open it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{self, Path};

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
        Some(owner) if !owner.is_root() => Err(owner.run_this_program(config)),
        _ => Ok(()),
    }
}

/// Whether root can make and remove something in this directory as if it were alone: the directory and all
/// above it belong to root, and other users may at most add files of their own to them (the sticky bit). So do
/// the links on the way to it, and what is above these.
pub(crate) fn is_roots_alone(directory: &Path) -> bool {
    why_not_roots_alone(directory).is_none()
}

fn why_not_roots_alone(directory: &Path) -> Option<String> {
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let reason = |path: &Path| {
        let shown = path.display();
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) => return Some(format!("{shown} cannot be examined: {error}")),
        };
        let mode = found.mode() & 0o7777;
        if found.uid() != 0 {
            Some(format!(
                "{shown} belongs to {}",
                Account::of_uid(found.uid(), found.gid())
            ))
        } else if let Ok(target) = fs::read_link(path) {
            why_not_roots_alone(&directory_of(path).join(target))
        } else if !found.is_dir() {
            Some(format!("{shown} is not a directory"))
        } else if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            Some(format!(
                "{shown} can be written by others (mode {mode:04o})"
            ))
        } else {
            None
        }
    };
    // Links that lead to each other are an error of the first.
    match fs::canonicalize(directory).and_then(|_| path::absolute(directory)) {
        // The highest of them decides about all below it.
        Ok(path) => path.ancestors().filter_map(reason).last(),
        Err(error) => Some(format!(
            "{} cannot be examined: {error}",
            directory.display()
        )),
    }
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
    if !Account::current().is_root() || !directory.exists() {
        return Ok(());
    }
    let Some(reason) = why_not_roots_alone(directory) else {
        return Ok(());
    };
    let owner = owner.cloned().or_else(|| Account::owning(directory));
    Err(match owner.filter(|owner| !owner.is_root()) {
        Some(owner) => owner.run_this_program(config),
        None => format!(
            "other users can replace {}, because {reason}, so root does nothing there; choose another path, in a \
             directory that only root can write to, such as /var/lib or /etc",
            path.display()
        ),
    })
}
