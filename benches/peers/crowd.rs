//! [`Crowd`]: many sessions of one peer, a tenth of them expired.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, FileStore, Record, SessionId, Store as _};
use rand::RngExt as _;
use tempfile::TempDir;

use crate::measured::Outcome;
use crate::nginx::{self, Site};
use crate::peer::Peer;
use crate::server::Deployment;
use crate::workshop::Installed;

/// How long ago the expired were used last; a session ends after an hour.
const LONG_AGO: Duration = Duration::from_secs(2 * 3600);

/// The files of one session, with the part of their names that is its own.
struct Template {
    files: Vec<(String, Vec<u8>)>,
    id: String,
}

/// Makes files, or has the library make them.
enum Source {
    /// Other systems' own files of two visitors, one of whom has gone, again and again under new names.
    Copies { live: Template, expired: Template },
    /// Ours tie a file to its name, and cannot be copied.
    Library(FileStore, Box<Record>),
}

pub(crate) struct Crowd {
    home: TempDir,
    source: Source,
    expired: Vec<PathBuf>,
}

impl Crowd {
    pub(crate) fn of(installed: &Installed) -> Outcome<Self> {
        let home = nginx::directory()?;
        let source = match installed.peer {
            Peer::Ours => library(&home)?,
            _ => Source::Copies {
                live: template(installed, 60)?,
                expired: template(installed, -60)?,
            },
        };
        Ok(Crowd {
            home,
            source,
            expired: Vec::new(),
        })
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self.home.path()
    }

    pub(crate) fn add_live(&self, sessions: usize) -> Outcome<()> {
        for _ in 0..sessions {
            self.add(false)?;
        }
        Ok(())
    }

    pub(crate) fn add_expired(&mut self, sessions: usize) -> Outcome<()> {
        let then = SystemTime::now() - LONG_AGO;
        self.expired.clear();
        for _ in 0..sessions {
            let path = self.add(true)?;
            File::options()
                .append(true)
                .open(&path)?
                .set_modified(then)?;
            self.expired.push(path);
        }
        Ok(())
    }

    /// How many expired sessions there are, and how many in all.
    pub(crate) fn census(&self) -> Outcome<(usize, usize)> {
        let expired = self.expired.iter().filter(|path| path.exists()).count();
        // Beside them lie locks, and notes of when the last clean-up was.
        let is_session = |name: &str| {
            !name.starts_with('.') && name.len() > 22 && name.strip_suffix(".lock").is_none()
        };
        let mut all = 0;
        for file in fs::read_dir(self.directory())? {
            all += usize::from(is_session(&file?.file_name().to_string_lossy()));
        }
        Ok((expired, all))
    }

    /// Makes one session, and returns its file.
    fn add(&self, expired: bool) -> Outcome<PathBuf> {
        match &self.source {
            Source::Library(store, record) => {
                let id = SessionId::generate()?;
                store.create(&id.digest(), record, SystemTime::now())?;
                Ok(store.path(&id))
            }
            Source::Copies {
                live,
                expired: gone,
            } => {
                let template = if expired { gone } else { live };
                template.copy(self.directory())
            }
        }
    }
}

fn library(home: &TempDir) -> Outcome<Source> {
    let config = Config::new().set("storageFileDir", home.path())?;
    let text = "x".repeat(440);
    let values = format!(r#"{{"":{{"pageViews":1,"text":"{text}"}}}}"#);
    let now = SystemTime::now();
    let record = Record::new(now).with_values(values.into_bytes());
    Ok(Source::Library(FileStore::new(&config)?, Box::new(record)))
}

/// Lets a peer make a session that ends after so many minutes; before it began, if they are negative.
fn template(installed: &Installed, minutes: i32) -> Outcome<Template> {
    let deployment = Deployment {
        workers: 1,
        minutes,
    };
    let site = Site::start(&[installed], &[deployment])?;
    let server = &site.servers[0];
    site.first_visit(server)?;
    let mut files = Vec::new();
    for file in fs::read_dir(&server.sessions)? {
        let file = file?;
        files.push((
            file.file_name().to_string_lossy().into_owned(),
            fs::read(file.path())?,
        ));
    }
    files.sort();
    let (name, _) = files.first().ok_or("a first visit leaves no file")?;
    let id = id(name).to_owned();
    Ok(Template { files, id })
}

/// The id in the name of a peer's file.
fn id(name: &str) -> &str {
    let prefixes = ["sess_", "cgisess_", "sessionid", "session-", "session_"];
    let name = prefixes
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    name.strip_suffix(".json").unwrap_or(name)
}

impl Template {
    /// Writes the files under a new id, and returns the first one.
    fn copy(&self, directory: &std::path::Path) -> Outcome<PathBuf> {
        let digits = b"0123456789abcdef";
        let mut chance = rand::rng();
        // In base64 not every letter can be the last one.
        let (varied, last) = self.id.split_at(self.id.len() - 1);
        let varied = varied
            .chars()
            .map(|_| char::from(digits[chance.random_range(..digits.len())]));
        let id: String = varied.chain(last.chars()).collect();
        for (name, content) in &self.files {
            let content = replaced(content, self.id.as_bytes(), id.as_bytes());
            fs::write(directory.join(name.replace(&self.id, &id)), content)?;
        }
        Ok(directory.join(self.files[0].0.replace(&self.id, &id)))
    }
}

/// A text with another word of the same length in place of one.
fn replaced(text: &[u8], word: &[u8], other: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    let mut at = 0;
    while at + word.len() <= text.len() {
        if text[at..].starts_with(word) {
            text[at..at + word.len()].copy_from_slice(other);
        }
        at += 1;
    }
    text
}
