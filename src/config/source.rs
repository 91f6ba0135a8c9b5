//! Where the configuration is looked for: files first, then the environment key by key.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::check::{SYSTEM_FILE, beside};
use super::ini;
use super::secret_file::read_regular;
use super::settings::{Config, Origin};
use crate::error::{Error, Result, printable, shell_word};

const SECTION: &str = "session";
const PREFIX: &str = "CGI_SESSION_";
const FILE_VARIABLE: &str = "CGI_SESSION_CONFIG";
/// The size of the largest configuration, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// A variable of the environment, by its name.
pub(crate) type Variable = (OsString, OsString);

/// Whether a variable of this name has a say in the configuration, or was meant to have one.
pub(crate) fn is_setting(name: &OsStr) -> bool {
    meant(name).starts_with(PREFIX.as_bytes())
}

/// The name as it was before a server's internal redirect, which puts `REDIRECT_` in front.
fn meant(name: &OsStr) -> &[u8] {
    let mut name = name.as_bytes();
    while let Some(rest) = name.strip_prefix(b"REDIRECT_") {
        name = rest;
    }
    name
}

impl Config {
    /// Finds the configuration as every program of the site does.
    ///
    /// The first of these files that exists is the file: the one that `CGI_SESSION_CONFIG` names,
    /// `cgi-session.ini` beside the executable, `/etc/cgi-session.ini`. Then a variable
    /// `CGI_SESSION_` + key in upper snake case (`CGI_SESSION_STORAGE_FILE_DIR`) overrides its key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a file that cannot be read, an unknown key, a bad value, or a missing
    /// `storageFileDir`.
    pub fn find() -> Result<Self> {
        Config::find_with(None, &[])
    }

    /// Reads this file instead of looking for one; the environment overrides its keys.
    ///
    /// # Errors
    ///
    /// As [`Config::find`]; the file must exist.
    pub fn load(file: &Path) -> Result<Self> {
        Config::find_with(Some(file), &[])
    }

    /// Reads `file`, or looks for one when it is `None`; the environment overrides its keys, and
    /// `settings` override both before the whole is checked. This is for programs that take
    /// settings on their command line.
    ///
    /// # Errors
    ///
    /// As [`Config::find`] and [`Config::load`], and as [`Config::set`] for a setting.
    pub fn find_with(file: Option<&Path>, settings: &[(&str, &OsStr)]) -> Result<Self> {
        let variables = env::vars_os().filter(|(name, _)| is_setting(name));
        let environment: Vec<Variable> = variables.collect();
        find(file, &environment, settings)
    }

    /// [`Config::find`] among variables of the environment that [`is_setting`] chose.
    pub(crate) fn find_among(environment: &[Variable]) -> Result<Self> {
        find(None, environment, &[])
    }
}

/// Reads the file given, or the first that exists, then the environment, then the program's own
/// settings, and checks the whole.
fn find(
    explicit: Option<&Path>,
    environment: &[Variable],
    settings: &[(&str, &OsStr)],
) -> Result<Config> {
    let mut config = Config::new();
    let mut fill = || {
        read_files(&mut config, explicit, environment)?;
        read_environment(&mut config, environment)?;
        for (key, value) in settings {
            config.assign(key, value, Origin::Program)?;
        }
        config.check()
    };
    let mut filled = fill();
    if let Some(ignored) = redirected(environment) {
        match &mut filled {
            Err(Error::Config(reason)) => *reason = format!("{reason}; {ignored}"),
            _ => log::warn!("{ignored}"),
        }
    }
    filled.map(|()| config)
}

/// What to say of settings that arrive under no other name than that of a server's redirect. They are not
/// obeyed: a client can bring a redirect about.
fn redirected(environment: &[Variable]) -> Option<String> {
    let is_set = |wanted: &[u8]| environment.iter().any(|it| it.0.as_bytes() == wanted);
    let (name, _) = environment.iter().find(|(name, _)| !is_set(meant(name)))?;
    let name = name.to_string_lossy();
    Some(format!(
        "{name} is ignored: the server renamed {} in a redirect or rewrite; write the setting into {}",
        name.trim_start_matches("REDIRECT_"),
        beside()
            .unwrap_or_else(|| PathBuf::from(SYSTEM_FILE))
            .display()
    ))
}

fn read_files(
    config: &mut Config,
    explicit: Option<&Path>,
    environment: &[Variable],
) -> Result<()> {
    let variable = environment.iter().find(|(name, _)| name == FILE_VARIABLE);
    let named = explicit.or_else(|| variable.map(|(_, path)| Path::new(path)));
    if let Some(path) = named {
        // Not as if it were unset: the programs would use another store.
        if path.as_os_str().is_empty() {
            return Err(Error::Config(format!(
                "{FILE_VARIABLE} is empty: name the configuration file in it, or unset it"
            )));
        }
        let read = read_regular(path, MAX_SIZE).map_err(|error| unreadable(path, &error));
        return read_file(config, path, &read?.0);
    }
    for path in beside().into_iter().chain([PathBuf::from(SYSTEM_FILE)]) {
        match read_regular(&path, MAX_SIZE) {
            Ok((text, _)) => return read_file(config, &path, &text),
            Err(error) if is_absent(&path, error.kind()) => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(())
}

/// Whether a file that cannot be read is none. Where a directory is closed to us nothing can be seen,
/// and nothing is meant for us; a file that can be seen but not read is an error.
fn is_absent(path: &Path, kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory => true,
        ErrorKind::PermissionDenied => fs::symlink_metadata(path).is_err(),
        _ => false,
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let (uid, word) = (rustix::process::geteuid().as_raw(), shell_word(path));
    let advice = if error.kind() == ErrorKind::PermissionDenied && path.exists() {
        format!(
            "; running as uid {uid}; try: chmod 0644 {word}; where it holds a password, rather: chgrp GROUP {word} && \
             chmod 0640 {word}"
        )
    } else {
        String::new()
    };
    let shown = path.display();
    Error::Config(format!(
        "cannot read the configuration {shown}: {error}{advice}"
    ))
}

fn read_file(config: &mut Config, path: &Path, bytes: &[u8]) -> Result<()> {
    let entries = ini::section(bytes, SECTION).map_err(|(line, reason)| {
        let line = line.map_or(String::new(), |line| format!(":{line}"));
        Error::Config(format!("{}{line}: {}", path.display(), printable(&reason)))
    })?;
    config.file = Some(path.to_owned());
    for ini::Entry { line, key, value } in entries {
        let path = path.to_owned();
        config.assign(key, OsStr::new(value), Origin::File { path, line })?;
    }
    Ok(())
}

fn read_environment(config: &mut Config, environment: &[Variable]) -> Result<()> {
    for (name, value) in environment {
        let name = name.to_string_lossy();
        if let Some(key) = name.strip_prefix(PREFIX)
            && name != FILE_VARIABLE
        {
            let origin = Origin::Environment(name.to_string());
            let Some(known) = camel_case(key) else {
                // Or two variables could name one key.
                return Err(Error::Config(printable(&format!(
                    "{origin}: unknown variable; write {PREFIX} and the key in capitals, as in CGI_SESSION_STORAGE_FILE_DIR"
                ))));
            };
            config.assign(&known, value, origin)?;
        }
    }
    Ok(())
}

/// `STORAGE_FILE_DIR` as the key it stands for, `storageFileDir`; `None` for another spelling.
fn camel_case(upper_snake: &str) -> Option<String> {
    let mut key = String::with_capacity(upper_snake.len());
    let mut begins_word = false;
    for letter in upper_snake.chars() {
        match letter {
            'a'..='z' => return None,
            '_' if begins_word => return None,
            '_' => begins_word = true,
            _ if begins_word => {
                key.push(letter);
                begins_word = false;
            }
            _ => key.push(letter.to_ascii_lowercase()),
        }
    }
    (!begins_word).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "/etc/site.ini";

    fn read(text: impl AsRef<[u8]>) -> Result<Config> {
        let mut config = Config::new();
        read_file(&mut config, Path::new(SITE), text.as_ref()).map(|()| config)
    }

    #[test]
    fn cherrypys_own_two_examples_are_accepted_unchanged() {
        let file = "[session]\nstorageType=file\nstorageFileDir=/home/user/sessionData\n";
        assert!(read(file).unwrap().check().is_ok());
        let ram = "[session]\nstorageType=ram\ntimeout=120\ncleanUpDelay=60\n";
        let ram = read(format!("[server]\nsocketPort=8080\n{ram}")).unwrap();
        assert_eq!(ram.timeout.as_secs(), 7200);
    }

    /// A file, byte by byte, and how the error begins behind the file's name.
    const ERRORS: [&str; 26] = [
        "# site\n[session]\n\ntimeuot = 5 => :4: timeuot: unknown key; did you mean timeout?",
        "[session]\ntimeout = soon\n => :2: timeout = soon: not a time",
        "[session]\ntimeout = 30 ; minutes => :2: timeout = 30 ; minutes: not a time",
        "[session]\ntable = a # b => :2: table = a # b: must be letters, digits and _, at most 63; a comment has a line of its own",
        "[session]\nstorageFileDir = /a # b => :2: storageFileDir = /a # b: must be an absolute path",
        "[session]\ntimeout = 5\nlifetime = 0\ntimeout: 6\n => :4: timeout is set twice, first in line 2",
        "[session]\n[other]\n[session] # again\n => :3: section [session] stands twice, first in line 1",
        "[session] timeout = 5\n => :1: timeout: behind [session] stands more",
        "[session] databasePassword = s3cret\n => :1: databasePassword: behind [session] stands more",
        "databasePassword = s3cret\n[session]\n => :1: databasePassword: there is no section",
        "[session]\ndatabasePassword s3cret\n => :2: databasePassword: has no value",
        "[session]\ndatabase\tredis:://:s3cret@h\n => :2: database: has no value",
        "[session]\ndatabasePassword = s3cret\n  s3cret\n => :3: has no value",
        "[session]\ndatabasePassword = s3cret\u{e9}\n => :2: databasePassword: is not UTF-8",
        "[session\ntimeout = 5\n => :1: the name of a section ends with ]",
        "timeout = 5\n[session]\n => :1: timeout: there is no section [session] above it",
        "[Session]\n => :1: [Session]: there is no section [session]; did you mean [session]?",
        "[server]\ntimeout = 5\n => : there is no section [session]",
        " => : there is no section [session]",
        "[session]\ntimeout\n => :2: timeout: has no value; write KEY = VALUE",
        "[session]\n= 5\n => :2: : unknown key",
        "[session]\napp = caf\u{e9}\n => :2: app: is not UTF-8",
        "[session]\napp = a\0b\n => :2: app: holds a NUL byte",
        "[session]\napp = \x1b[2J\n => :2: app = \\u{1b}[2J: holds the control character \\u{1b}",
        "[session]\ntimeout = 5\rapp = x\n => :2: timeout = 5 app = x: holds the control character \\r",
        "\u{ff}\u{fe}[\0s\0 => :1: ",
    ];

    #[test]
    fn an_error_names_file_line_and_key() {
        for (text, expected) in ERRORS.map(|row| row.split_once(" => ").unwrap()) {
            let bytes: Vec<u8> = text.chars().map(|it| it.try_into().unwrap()).collect();
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.starts_with(&[SITE, expected].concat()), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_variable_names_a_key_in_one_spelling() {
        let read = |name: &str, value: &str| {
            let mut config = Config::new();
            let variable = (name.into(), value.into());
            read_environment(&mut config, &[variable]).map(|()| config)
        };
        let config = read("CGI_SESSION_MAX_SESSIONS_PER_USER", "3").unwrap();
        assert_eq!(config.max_sessions_per_user, 3);
        for name in [
            "timeout",
            "Timeout",
            "TIMEOUT_",
            "_TIMEOUT",
            "TIME_OUT",
            "maxSessions",
            "",
        ] {
            let refused = read(&format!("{PREFIX}{name}"), "5")
                .unwrap_err()
                .to_string();
            let begin = format!("environment {PREFIX}{name}: ");
            assert!(
                refused.starts_with(&begin) && refused.contains("unknown"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_file_is_read_as_every_editor_writes_it() {
        for text in [
            &b"\xef\xbb\xbf[session]\r\ntimeout = 5\r\n"[..],
            b"\n[ session ] # of the site\n\t timeout:5",
            b"[old]\ntimeout = x\nkey\ncaf\xe9\n[session]\n# caf\xe9\n;x\ntimeout=5\n[x] y\ntimeuot",
        ] {
            let config = read(text).unwrap();
            assert_eq!(config.timeout.as_secs(), 300);
            let Origin::File { line, .. } = config.origin("timeout") else { panic!("no line") };
            let line = text.split(|byte| *byte == b'\n').nth(line - 1).unwrap();
            assert!(line.trim_ascii().starts_with(b"timeout"));
        }
    }

    #[test]
    fn a_programs_own_setting_makes_up_for_one_that_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("site.ini");
        fs::write(&file, "[session]\ntimeout = 5\n").unwrap();
        let setting = ("storageFileDir", OsStr::new("/a"));
        let config = Config::find_with(Some(&file), &[setting]).unwrap();
        assert_eq!(config.storage_file_dir().unwrap(), Path::new("/a"));
        assert_eq!(config.origin("storageFileDir"), Origin::Program);
        assert_eq!(config.file(), Some(file.as_path()));
    }

    #[test]
    fn comment_signs_inside_a_value_are_part_of_it() {
        let config = read("[session]\nstorageFileDir = /a;b#c/../d\n").unwrap();
        let directory = config.storage_file_dir().unwrap();
        assert_eq!(directory, Path::new("/a;b#c/../d"));
    }
}
