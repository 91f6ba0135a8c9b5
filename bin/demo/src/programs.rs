//! [`Programs`]: what stands behind a name under /cgi-bin/.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use cgi_session_tools::serve::{Failure, is_executable, is_file, is_plain};
use http::StatusCode;
use tokio::process::Command;

use crate::examples;
use crate::pages::not_found;

/// The programs of the site: the visitor's own directory first, then the examples.
pub(crate) struct Programs {
    this_binary: PathBuf,
    directory: Option<PathBuf>,
}

/// What a name stands for.
pub(crate) struct Program {
    /// Starts it, still without its environment.
    pub(crate) command: Command,
    /// The examples can serve as FastCGI responders; of other programs that is not known.
    pub(crate) is_example: bool,
}

/// The example that brings a store of its own, and with it a database driver that is not for everybody.
const CUSTOM_STORE: &str = "custom_store";

impl Programs {
    pub(crate) fn new(directory: Option<&Path>) -> Result<Self, String> {
        let this_binary = env::current_exe()
            .map_err(|error| format!("cannot find this program's own file: {error}"))?;
        let directory = directory.map(|directory| {
            let found = fs::canonicalize(directory)
                .map_err(|error| format!("--programs {}: {error}", directory.display()))?;
            if found.is_dir() {
                Ok(found)
            } else {
                Err(format!(
                    "--programs {}: not a directory",
                    directory.display()
                ))
            }
        });
        Ok(Programs {
            this_binary,
            directory: directory.transpose()?,
        })
    }

    /// The program of this name.
    pub(crate) fn find(&self, name: &str) -> Result<Program, Failure> {
        if let Some(path) = self.own(name)? {
            let mut command = Command::new(&path);
            command.env_clear().env("SCRIPT_FILENAME", &path);
            command.current_dir(self.directory.as_deref().unwrap_or(Path::new("/")));
            return Ok(Program {
                command,
                is_example: false,
            });
        }
        if name == CUSTOM_STORE {
            return self.custom_store();
        }
        if !examples::NAMES.contains(&name) {
            return Err(not_found());
        }
        let mut command = Command::new(&self.this_binary);
        // What it says on stderr begins with the example's name.
        command.env_clear().env(examples::VARIABLE, name).arg0(name);
        Ok(Program {
            command,
            is_example: true,
        })
    }

    /// Cargo puts examples into a directory beside this binary.
    fn custom_store(&self) -> Result<Program, Failure> {
        let path = self
            .this_binary
            .with_file_name("examples")
            .join(CUSTOM_STORE);
        if !path.is_file() {
            let reason = format!(
                "{CUSTOM_STORE} is a program of its own, beside this one. Build it: cargo build --example {CUSTOM_STORE}"
            );
            return Err(Failure::new(StatusCode::NOT_FOUND, reason));
        }
        let mut command = Command::new(&path);
        command.env_clear().env("SCRIPT_FILENAME", &path);
        // A visitor's other cookie is that of a session in the files.
        command.env("CGI_SESSION_COOKIE_NAME", "customSessionId");
        Ok(Program {
            command,
            is_example: false,
        })
    }

    fn own(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let Some(directory) = self.directory.as_deref().filter(|_| is_plain(name)) else {
            return Ok(None);
        };
        let path = directory.join(name);
        if !is_file(&path) {
            return Ok(None);
        }
        if !is_executable(&path) {
            let reason = format!("{name} is there, but it is not executable: chmod +x {name}");
            return Err(Failure::new(StatusCode::FORBIDDEN, reason));
        }
        Ok(Some(path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_executable_regular_files_of_the_directory_are_programs() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("notes.txt"), "text").unwrap();
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", at("link")).unwrap();
        fs::write(at("own"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(at("own"), fs::Permissions::from_mode(0o755)).unwrap();

        let programs = Programs::new(Some(directory.path())).unwrap();
        let status = |name: &str| programs.find(name).err().map(|failure| failure.status);
        assert!(programs.find("own").is_ok());
        assert!(programs.find("counter").is_ok());
        // Where cargo has put this test there are no examples beside it.
        assert_eq!(status(CUSTOM_STORE), Some(StatusCode::NOT_FOUND));
        assert_eq!(status("notes.txt"), Some(StatusCode::FORBIDDEN));
        for name in ["folder", "link", "absent", "..", "../own"] {
            assert_eq!(status(name), Some(StatusCode::NOT_FOUND), "{name}");
        }
    }
}
