//! Where the configuration is looked for: files first, then the environment key by key.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use configparser::ini::{Ini, IniDefault};

use super::{Config, Origin};
use crate::error::{Error, Result};

pub(super) const SYSTEM_FILE: &str = "/etc/cgi-session.ini";

const FILE_NAME: &str = "cgi-session.ini";
const SECTION: &str = "session";
const PREFIX: &str = "CGI_SESSION_";
const FILE_VARIABLE: &str = "CGI_SESSION_CONFIG";

/// A variable of the environment, by its name.
pub(crate) type Variable = (OsString, OsString);

/// Whether a variable has a say in the configuration.
pub(crate) fn is_setting(variable: &Variable) -> bool {
    variable.0.as_bytes().starts_with(PREFIX.as_bytes())
}

/// Reads the file given, or the first that exists, then the environment, then the program's own
/// settings, and checks the whole.
pub(super) fn find(explicit: Option<&Path>, settings: &[(&str, &OsStr)]) -> Result<Config> {
    let mut config = read_files(explicit)?;
    let environment: Vec<Variable> = env::vars_os().filter(is_setting).collect();
    read_environment(&mut config, &environment)?;
    for (key, value) in settings {
        config.assign(key, value, Origin::Program)?;
    }
    config.check()?;
    Ok(config)
}

/// The same for a program without settings of its own, by whom the environment has been read.
pub(super) fn find_among(environment: &[Variable]) -> Result<Config> {
    let mut config = read_files(None)?;
    read_environment(&mut config, environment)?;
    config.check()?;
    Ok(config)
}

fn read_files(explicit: Option<&Path>) -> Result<Config> {
    let mut config = Config::new();
    let named = explicit
        .map(Path::to_owned)
        .or_else(|| env::var_os(FILE_VARIABLE).map(PathBuf::from));
    if let Some(path) = named {
        read_file(
            &mut config,
            &path,
            &fs::read_to_string(&path).map_err(|e| unreadable(&path, &e))?,
        )?;
    } else {
        for path in usual_places() {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    read_file(&mut config, &path, &text)?;
                    break;
                }
                Err(error) if is_absent(&path, error.kind()) => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
    }
    Ok(config)
}

/// Beside the executable, so that it is found where a server strips the environment (suexec).
fn usual_places() -> impl Iterator<Item = PathBuf> {
    let beside = env::current_exe()
        .ok()
        .map(|program| program.with_file_name(FILE_NAME));
    beside.into_iter().chain([PathBuf::from(SYSTEM_FILE)])
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

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Config(format!(
        "cannot read the configuration {}: {error}",
        path.display()
    ))
}

fn read_file(config: &mut Config, path: &Path, text: &str) -> Result<()> {
    let mut syntax = IniDefault::default();
    syntax.case_sensitive = true;
    // A path may hold `;` or `#`: only a whole line can be a comment.
    syntax.enable_inline_comments = false;
    let mut ini = Ini::new_from_defaults(syntax);
    let sections = ini
        .read(text.to_owned())
        .map_err(|reason| Error::Config(format!("{}: {reason}", path.display())))?;
    let Some(section) = sections.get(SECTION) else {
        let reason = format!("{}: there is no section [{SECTION}]", path.display());
        return Err(Error::Config(reason));
    };
    config.file = Some(path.to_owned());
    let mut entries: Vec<_> = section
        .iter()
        .map(|(key, value)| (lines_of(text, key), key, value))
        .collect();
    entries.sort();
    for (lines, key, value) in entries {
        let line = lines.last().copied().unwrap_or_default();
        if lines.len() > 1 {
            let reason = format!("{}:{line}: {key} is set twice", path.display());
            return Err(Error::Config(reason));
        }
        let value = OsStr::new(value.as_deref().unwrap_or_default());
        config.assign(
            key,
            value,
            Origin::File {
                path: path.to_owned(),
                line,
            },
        )?;
    }
    Ok(())
}

/// The lines of section `[session]` that set `key`, counted from 1.
fn lines_of(text: &str, key: &str) -> Vec<usize> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            // As the parser does: whatever stands behind the last bracket is passed over.
            let name = name.rsplit_once(']').map_or(name, |(name, _)| name);
            name.trim().clone_into(&mut section);
        } else if section == SECTION
            && line
                .split(['=', ':'])
                .next()
                .is_some_and(|k| k.trim() == key)
        {
            found.push(number);
        }
    }
    found
}

fn read_environment(config: &mut Config, environment: &[Variable]) -> Result<()> {
    for (name, value) in environment {
        let name = name.to_string_lossy();
        if let Some(key) = name.strip_prefix(PREFIX)
            && name != FILE_VARIABLE
        {
            let origin = Origin::Environment(name.to_string());
            config.assign(&camel_case(key), value, origin)?;
        }
    }
    Ok(())
}

/// `STORAGE_FILE_DIR` as the key it stands for: `storageFileDir`.
fn camel_case(upper_snake: &str) -> String {
    let mut key = String::with_capacity(upper_snake.len());
    for (at, word) in upper_snake.split('_').enumerate() {
        let mut letters = word.chars();
        if at > 0 {
            key.extend(letters.next());
        }
        key.extend(letters.map(|letter| letter.to_ascii_lowercase()));
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let mut config = Config::new();
        read_file(&mut config, Path::new("/etc/site.ini"), text).map(|()| config)
    }

    #[test]
    fn cherrypys_own_two_examples_are_accepted_unchanged() {
        let file = "[session]\nstorageType=file\nstorageFileDir=/home/user/sessionData\n";
        assert!(read(file).unwrap().check().is_ok());
        let ram =
            "[server]\nsocketPort=8080\n[session]\nstorageType=ram\ntimeout=120\ncleanUpDelay=60\n";
        assert_eq!(read(ram).unwrap().timeout.as_secs(), 7200);
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let error = read("# site\n[session]\n\ntimeuot = 5\n")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "/etc/site.ini:4: timeuot: unknown key; did you mean timeout?"
        );
        let error = read("[session]\ntimeout = soon\n").unwrap_err().to_string();
        assert!(
            error.starts_with("/etc/site.ini:2: timeout = soon: not a time"),
            "{error}"
        );
    }

    #[test]
    fn a_key_set_twice_is_an_error() {
        let error = read("[session]\ntimeout = 5\ntimeout = 6\n")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "/etc/site.ini:3: timeout is set twice");
    }

    #[test]
    fn the_lines_of_a_section_are_known_whatever_stands_behind_its_heading() {
        let error = read("[session] # of the site\ntimeout = 5\ntimeout = 6\n").unwrap_err();
        assert_eq!(error.to_string(), "/etc/site.ini:3: timeout is set twice");
        let config = read("[session]x\ntimeout = 5\n").unwrap();
        assert_eq!(config.origin("timeout").to_string(), "/etc/site.ini:2");
    }

    #[test]
    fn a_file_without_the_section_is_an_error() {
        assert!(
            read("timeout = 5\n")
                .unwrap_err()
                .to_string()
                .contains("no section [session]")
        );
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
        let config = read("[session]\nstorageFileDir = /srv/a;b#c/../d\n").unwrap();
        assert_eq!(
            config.storage_file_dir().unwrap(),
            Path::new("/srv/a;b#c/../d")
        );
    }

    #[test]
    fn the_environment_overrides_single_keys_and_is_checked_as_strictly() {
        let mut config = read("[session]\nstorageFileDir = /a\ntimeout = 5\n").unwrap();
        let set = |name: &str, value: &str| [(OsString::from(name), OsString::from(value))];
        read_environment(&mut config, &set("CGI_SESSION_STORAGE_FILE_DIR", "/b")).unwrap();
        assert_eq!(config.storage_file_dir().unwrap(), Path::new("/b"));
        assert_eq!(
            config.origin("storageFileDir").to_string(),
            "environment CGI_SESSION_STORAGE_FILE_DIR"
        );
        assert_eq!(config.origin("timeout").to_string(), "/etc/site.ini:3");
        assert_eq!(config.origin("lifetime"), Origin::Default);
        let error = read_environment(&mut config, &set("CGI_SESSION_TIMEUOT", "1")).unwrap_err();
        assert!(
            error.to_string().contains("did you mean timeout?"),
            "{error}"
        );
    }

    #[test]
    fn a_variable_that_is_not_utf_8_disturbs_nobody() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = (
            OsString::from_vec(vec![b'X', 0xff]),
            OsString::from_vec(vec![0xfe]),
        );
        assert!(read_environment(&mut Config::new(), &[odd]).is_ok());
    }
}
