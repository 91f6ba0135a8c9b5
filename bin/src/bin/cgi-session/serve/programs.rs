//! [`Programs`]: what stands behind a name under /cgi-bin/.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::examples;

/// The programs of the site: the visitor's own directory first, then the examples.
pub(super) struct Programs {
    this_binary: PathBuf,
    directory: Option<PathBuf>,
}

/// What a name stands for.
pub(super) struct Program {
    /// Starts it, still without its environment.
    pub(super) command: Command,
    /// The examples can serve as FastCGI responders; of other programs nobody knows.
    pub(super) is_example: bool,
}

/// Why a name leads to no program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unknown,
    NotExecutable,
    /// An example that is no part of this binary, and that nobody has built.
    NotBuilt,
}

/// The example that brings a store of its own, and with it a database driver that is not for everybody.
const CUSTOM_STORE: &str = "custom_store";

impl Programs {
    pub(super) fn new(directory: Option<&Path>) -> Result<Self, String> {
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
    pub(super) fn find(&self, name: &str) -> Result<Program, Refusal> {
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
            return Err(Refusal::Unknown);
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
    fn custom_store(&self) -> Result<Program, Refusal> {
        let path = self
            .this_binary
            .with_file_name("examples")
            .join(CUSTOM_STORE);
        if !path.is_file() {
            return Err(Refusal::NotBuilt);
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

    fn own(&self, name: &str) -> Result<Option<PathBuf>, Refusal> {
        let Some(directory) = self.directory.as_deref().filter(|_| is_plain(name)) else {
            return Ok(None);
        };
        let path = directory.join(name);
        // Not metadata(): a link may lead out of the directory.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return Ok(None);
        };
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(Refusal::NotExecutable);
        }
        Ok(Some(path))
    }
}

/// Whether a name is a file's name and nothing but that.
fn is_plain(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_is_looked_up() {
        for name in ["counter", "guest-book.cgi", "a_1"] {
            assert!(is_plain(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".htaccess",
            "a/b",
            "a b",
            "%2e%2e",
            "a\0",
            "\u{e9}",
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }

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
        assert!(programs.find("own").is_ok());
        assert!(programs.find("counter").is_ok());
        // Where cargo has put this test there are no examples beside it.
        assert_eq!(programs.find(CUSTOM_STORE).err(), Some(Refusal::NotBuilt));
        assert_eq!(
            programs.find("notes.txt").err(),
            Some(Refusal::NotExecutable)
        );
        for name in ["folder", "link", "absent", "..", "../own"] {
            assert_eq!(programs.find(name).err(), Some(Refusal::Unknown), "{name}");
        }
    }
}
