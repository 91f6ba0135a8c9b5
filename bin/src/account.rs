//! [`Account`]: a user of the system, and this program run as that user.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cgi_session::Config;

use crate::report::{self, Ended};

/// A user that programs can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The user's number.
    pub(crate) uid: u32,
    /// The user's first group.
    pub(crate) gid: u32,
    /// The user's name; empty when the system knows only the number.
    pub(crate) name: String,
}

impl Account {
    /// The user that this process acts as.
    pub(crate) fn current() -> Self {
        let gid = rustix::process::getegid().as_raw();
        Account {
            gid,
            ..Account::of_uid(rustix::process::geteuid().as_raw(), gid)
        }
    }

    /// Looks a user up by name, or by number; a number needs no name.
    pub(crate) fn find(text: &str) -> Option<Self> {
        if let Some(user) = uzers::get_user_by_name(text) {
            return Some(Account {
                uid: user.uid(),
                gid: user.primary_group_id(),
                name: text.to_owned(),
            });
        }
        // The highest number is no user, but stands for "as before" in chown(2).
        let uid = text.parse().ok().filter(|uid| *uid != u32::MAX)?;
        Some(Account::of_uid(uid, uid))
    }

    /// The user whom an option of the command line names.
    pub(crate) fn named(text: &str, option: &str) -> Result<Self, Ended> {
        Account::find(text).ok_or_else(|| {
            let line = format!("{option} {text}: there is no such user; see: getent passwd");
            Ended::saying(&line, report::USAGE)
        })
    }

    /// The user as whom a web server of this machine probably runs programs.
    pub(crate) fn of_web_server() -> Option<Self> {
        let names = ["www-data", "apache", "nginx", "http", "wwwrun", "www"];
        let known = |name: &&str| uzers::get_user_by_name(name).is_some();
        Account::find(names.iter().find(|name| known(name))?)
    }

    /// The user as whom the programs of a site should run: this one, unless it is root.
    pub(crate) fn of_programs(&self) -> Option<Self> {
        if self.is_root() {
            return Account::of_web_server();
        }
        Some(self.clone())
    }

    /// How a command names that user.
    pub(crate) fn programs_handle(&self) -> String {
        let user = self.of_programs();
        user.map_or("USER".to_owned(), |user| user.handle())
    }

    /// The user who owns `path` itself, not what a link there leads to; `None` when it does not exist.
    pub(crate) fn owning(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(Account::of_uid(found.uid(), found.gid()))
    }

    /// Whether this is root.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The user with this number; `gid` stands in where the system does not know one.
    pub(crate) fn of_uid(uid: u32, gid: u32) -> Self {
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
    pub(crate) fn handle(&self) -> String {
        if self.name.is_empty() {
            self.uid.to_string()
        } else {
            self.name.clone()
        }
    }

    /// The command that gives this user a directory and all that is in it.
    pub(crate) fn chown(&self, path: &Path) -> String {
        let word = cgi_session::shell_word(path);
        format!("chown -R {}:{} {word}", self.handle(), self.gid)
    }

    /// This program as this user, without arguments yet. It reads the configuration that was read
    /// before.
    pub(crate) fn command(&self, config: &Config) -> Command {
        let mut command = Command::new(this_program());
        command.arg0(env::args_os().next().unwrap_or_default());
        if let Some(file) = config.file() {
            command.env("CGI_SESSION_CONFIG", file);
        }
        // With the uid, std gives up root's supplementary groups too.
        command.uid(self.uid).gid(self.gid);
        command
    }

    /// Runs this program anew as this user, with the same arguments, in place of this process; returns why it
    /// cannot. It reads the configuration that was read before, or fails: where this user cannot see the
    /// file, it must not be another one or none.
    pub(crate) fn run_this_program(&self, config: &Config) -> String {
        let error = self.command(config).args(env::args_os().skip(1)).exec();
        let program = env::current_exe().unwrap_or_default();
        format!(
            "cannot run {} as {self}: {error}; the program must be executable for everybody: \
             chmod 0755 {0}",
            cgi_session::shell_word(&program)
        )
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

/// The program as the kernel holds it: it can be run again although its directory may be closed
/// to the other user, or the file has been replaced meanwhile.
pub(crate) fn this_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return running;
    }
    env::current_exe().unwrap_or_else(|_| PathBuf::from(env::args_os().next().unwrap_or_default()))
}
