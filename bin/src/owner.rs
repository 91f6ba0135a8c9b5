//! Acting as another user, so that nothing of root's is left where a web server cannot open it.

use std::convert::Infallible;
use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cgi_session::Config;

use crate::location::Location;

/// A user that programs can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The user's first group.
    pub gid: u32,
    /// The user's name; empty when the system knows only the number.
    pub name: String,
}

impl Account {
    /// The user that this process acts as.
    #[must_use]
    pub fn current() -> Self {
        let gid = rustix::process::getegid().as_raw();
        Account {
            gid,
            ..Account::of_uid(rustix::process::geteuid().as_raw(), gid)
        }
    }

    /// Looks a user up by name, or by number; a number needs no name.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        if let Some(user) = uzers::get_user_by_name(text) {
            return Some(Account {
                uid: user.uid(),
                gid: user.primary_group_id(),
                name: text.to_owned(),
            });
        }
        let uid = text.parse().ok()?;
        Some(Account::of_uid(uid, uid))
    }

    /// The user as whom a web server of this machine probably runs programs.
    #[must_use]
    pub fn of_web_server() -> Option<Self> {
        let names = ["www-data", "apache", "nginx", "http", "wwwrun", "www"];
        let known = |name: &&str| uzers::get_user_by_name(name).is_some();
        Account::find(names.iter().find(|name| known(name))?)
    }

    /// The user who owns `path` itself, not what a link there leads to; `None` when it does not exist.
    #[must_use]
    pub fn owning(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(Account::of_uid(found.uid(), found.gid()))
    }

    /// Whether this is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The user with this number; `gid` stands in where the system does not know one.
    fn of_uid(uid: u32, gid: u32) -> Self {
        match uzers::get_user_by_uid(uid) {
            Some(user) => Account {
                uid,
                gid: user.primary_group_id(),
                name: user.name().to_string_lossy().into_owned(),
            },
            None => Account {
                uid,
                // Root's group is nothing that another user should act in.
                gid: if gid == 0 { uid } else { gid },
                name: String::new(),
            },
        }
    }

    /// The name, or the number of a user without one: as `chown` and `install` take it.
    #[must_use]
    pub fn handle(&self) -> String {
        if self.name.is_empty() {
            self.uid.to_string()
        } else {
            self.name.clone()
        }
    }

    /// This program as this user, without arguments yet. It reads the configuration that was read
    /// before.
    #[must_use]
    pub fn command(&self, config: &Config) -> Command {
        let mut command = Command::new(this_program());
        command.arg0(env::args_os().next().unwrap_or_default());
        if let Some(file) = config.file() {
            command.env("CGI_SESSION_CONFIG", file);
        }
        // With the uid, std gives up root's supplementary groups too.
        command.uid(self.uid).gid(self.gid);
        command
    }

    /// Runs this program anew as this user, with the same arguments, in place of this process.
    /// It reads the configuration that was read before, or fails: where this user cannot see the
    /// file, it must not be another one or none.
    ///
    /// # Errors
    ///
    /// The text says why it could not be run. On success this never returns.
    pub fn run_this_program(&self, config: &Config) -> Result<Infallible, String> {
        let error = self.command(config).args(env::args_os().skip(1)).exec();
        let program = env::current_exe().unwrap_or_default();
        Err(format!(
            "cannot run {} as {self}: {error}; the program must be executable for everybody: \
             chmod 0755 {0}",
            program.display()
        ))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        if self.name.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.name)
    }
}

/// Goes on as the owner of the directory of the session files, or of the database, when root runs this
/// program and they are not root's.
///
/// Call it before anything is opened for writing. What is missing changes nothing.
///
/// # Errors
///
/// The text says why the program could not be run as that user.
pub fn act_as_owner(config: &Config) -> Result<(), String> {
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
#[must_use]
pub fn is_roots_alone(directory: &Path) -> bool {
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
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Goes on as `owner`, or else as the owner of the directory of `path`, when root runs this program and
/// other users could put something else in the place of `path`.
///
/// # Errors
///
/// The text says why the program could not be run as that user.
pub fn act_where_others_can(
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

/// The program as the kernel holds it: it can be run again although its directory may be closed
/// to the other user, or the file has been replaced meanwhile.
#[must_use]
pub fn this_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return running;
    }
    env::current_exe().unwrap_or_else(|_| PathBuf::from(env::args_os().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = Account::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(Account::find("0").unwrap(), root);
        assert_eq!(Account::find("no such user"), None);
    }

    #[test]
    fn a_number_without_a_name_is_a_user_too() {
        let nobody = Account::find("4000000").unwrap();
        assert_eq!((nobody.uid, nobody.gid), (4_000_000, 4_000_000));
        assert_eq!(nobody.handle(), "4000000");
        assert_eq!(nobody.to_string(), "uid 4000000");
    }
}
