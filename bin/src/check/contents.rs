//! What lies in the directory, whether it is cleaned up, and how long sessions live.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirEntry, Metadata};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cgi_session::store::FileKind;
use cgi_session::{Config, FileStore, Origin, Result, Store as _, shell_word};

use super::directory::unless_shared;
use super::finding::{Findings, Level};
use crate::account::Account;
use crate::report::{command_for, counted, exact, rough};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// So many sessions are looked into.
const MAX_SESSIONS: u64 = 10_000;
/// So many names are shown as examples.
const EXAMPLES: usize = 3;

pub(super) fn check(
    path: &Path,
    config: &Config,
    account: &Account,
    found: &mut Findings,
) -> Result<()> {
    let now = SystemTime::now();
    let mut contents = Contents {
        is_sharded: config.get("shards").is_some_and(|shards| shards != "1"),
        ..Contents::default()
    };
    contents.add_directory(path, "", account);
    let sessions = counted(contents.sessions, "session file");
    found.fine("sessions", sessions);
    contents.report(path, account, found);
    let last = FileStore::new(config)?.last_sweep(now);
    let oldest = contents.oldest;
    let oldest = oldest.and_then(|oldest| now.duration_since(oldest).ok());
    clean_up(last, oldest, &cron(config, account), found);
    Ok(())
}

/// What was counted in the directory.
#[derive(Default)]
struct Contents {
    is_sharded: bool,
    sessions: u64,
    oldest: Option<SystemTime>,
    /// What is to be reported, by topic.
    files: BTreeMap<&'static str, Examples>,
}

/// How many there are, and the names of the first.
#[derive(Default)]
struct Examples {
    number: u64,
    names: Vec<String>,
}

impl Contents {
    /// Looks at every entry; entries that vanish meanwhile are no finding.
    fn add_directory(&mut self, directory: &Path, prefix: &str, account: &Account) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries {
            if let Ok(stat) = entry.metadata() {
                self.add(&entry, &stat, prefix, account);
            }
        }
    }

    fn add(&mut self, entry: &DirEntry, stat: &Metadata, prefix: &str, account: &Account) {
        let (file_name, is_top) = (entry.file_name(), prefix.is_empty());
        let shown = format!("{prefix}{}", file_name.to_string_lossy());
        let kind = match FileKind::of(file_name.as_encoded_bytes()) {
            FileKind::Shard if !is_top => FileKind::Foreign,
            kind => kind,
        };
        if matches!(kind, FileKind::Foreign) {
            return self.note("foreign", shown);
        }
        if stat.uid() != account.uid {
            self.note("owner", shown.clone());
        }
        match kind {
            FileKind::Shard if stat.is_dir() => {
                self.add_directory(&entry.path(), &format!("{shown}/"), account);
            }
            _ if !stat.is_file() => self.note("irregular", shown),
            _ if stat.nlink() > 1 => self.note("linked", shown),
            // The time of what a change of id leaves for a moment.
            FileKind::Session(_) if stat.mtime() == 0 => {}
            FileKind::Session(_) => {
                self.sessions += 1;
                if is_top == self.is_sharded {
                    self.note("shards", shown);
                }
                let modified = stat.modified().ok();
                self.oldest = [self.oldest, modified].into_iter().flatten().min();
            }
            FileKind::SetAside => self.note("damaged", shown),
            _ => {}
        }
    }

    fn note(&mut self, topic: &'static str, name: String) {
        let files = self.files.entry(topic).or_default();
        files.number += 1;
        if files.names.len() < EXAMPLES {
            files.names.push(name);
        }
    }

    fn report(&self, path: &Path, account: &Account, found: &mut Findings) {
        let (shown, word) = (path.display(), shell_word(path));
        for topic in [
            "owner",
            "irregular",
            "linked",
            "shards",
            "damaged",
            "foreign",
        ] {
            let Some(files) = self.files.get(topic) else {
                continue;
            };
            let (level, said, remedy) = match topic {
                "owner" => (
                    Level::Problem,
                    &*format!("that {account} does not own and cannot use; did root run a program?"),
                    unless_shared(path, account.chown(path)),
                ),
                "irregular" => (
                    Level::Problem,
                    "named like a session, but no regular file, and never opened",
                    format!("find {word} -name '*.json' ! -type f -ls"),
                ),
                "linked" => (
                    Level::Problem,
                    "with more than one name (hard links), which no program uses; is there a copy made of hard links?",
                    format!("remove the other names, not these: find DIR -samefile FILE; here: find {word} -type f -links +1"),
                ),
                "shards" => (
                    Level::Warning,
                    "that no program finds: they were made with another value of shards",
                    "set shards as it was, and change it for a new directory alone, by cgi-session copy".to_owned(),
                ),
                "damaged" => (
                    Level::Warning,
                    "damaged and set aside; what damaged the disk or the file?",
                    format!("look at the web server's error log and the disk, then: find {word} -name '*.corrupt' -delete"),
                ),
                _ => (
                    Level::Warning,
                    "of other programs; what is no session is never touched",
                    "move it elsewhere; the directory should hold nothing but sessions".to_owned(),
                ),
            };
            // `5 files (a, b, c ...)`
            let (number, names) = (counted(files.number, "file"), files.names.join(", "));
            let has_more = files.number > files.names.len() as u64;
            let more = if has_more { " ..." } else { "" };
            let text = format!("{shown} holds {number} ({names}{more}) {said}");
            found.add(level, topic, text).at(path).remedy(remedy);
        }
    }
}

/// Judges when the last clean-up ended and, if none ever did, how old the oldest session is.
fn clean_up(last: Option<Duration>, oldest: Option<Duration>, remedy: &str, found: &mut Findings) {
    let (level, text) = match (last.map(rough), oldest.map(rough)) {
        (Some(ago), _) if last <= Some(DAY) => (Level::Ok, format!("the last one was {ago} ago")),
        (Some(ago), _) => {
            let text = format!("the last one was {ago} ago; expired sessions pile up");
            (Level::Problem, text)
        }
        (None, Some(ago)) if oldest > Some(DAY) => {
            let text =
                format!("none was ever seen, and the oldest session was last used {ago} ago");
            (Level::Problem, text)
        }
        (None, _) => {
            let text = "none yet, and nothing old enough to need one";
            (Level::Ok, text.to_owned())
        }
    };
    let finding = found.add(level, "cleanUp", text);
    if level == Level::Problem {
        finding.remedy(remedy);
    }
}

/// The line for cron that cleans up this store, and where to put it. Cron has another PATH and environment.
fn cron(config: &Config, account: &Account) -> String {
    let program = env::current_exe().unwrap_or_else(|_| "cgi-session".into());
    let command = command_for(config, "cleanup");
    let mut command = command.replacen("cgi-session", &shell_word(&program), 1);
    if let (Origin::Environment(_), Ok(path)) =
        (config.origin("storageFileDir"), config.storage_file_dir())
    {
        command = format!("{command} --storage-file-dir {}", shell_word(path));
    }
    // Cron knows no user without a name. Root's clean-up acts as the owner of the directory.
    let user = match account.name.as_str() {
        "" | "root" => "root".to_owned(),
        name => format!("{name} (or as root: crontab -u {name} -e)"),
    };
    // An unescaped % ends a line of cron.
    let command = command.replace('%', "\\%");
    format!("crontab -e as {user}, and this line: 09,39 * * * * {command}")
}

/// How long the sessions live unused, as their records say. What keeps a store from being listed has been found
/// elsewhere.
pub(super) fn timeouts(config: &Config, found: &mut Findings) {
    let (mut times, mut sessions, mut unreadable) = (BTreeMap::new(), 0, 0);
    let (mut has_longer, mut has_own) = (false, false);
    let listed = crate::stores::manager(config.clone()).and_then(|manager| {
        manager.for_each(|_, stored| {
            sessions += 1;
            match stored {
                Ok(stored) => {
                    let idle = stored.record.idle().unwrap_or(config.timeout());
                    *times.entry(idle).or_insert(0) += 1;
                    let is_own = stored.record.timeout().is_some();
                    let is_longer = idle > config.timeout();
                    has_longer |= is_longer && !is_own;
                    has_own |= is_longer && is_own;
                }
                Err(_) => unreadable += 1,
            }
            if sessions < MAX_SESSIONS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    });
    if listed.is_err() || sessions == 0 {
        return;
    }
    let shown: Vec<_> = times
        .iter()
        .map(|(idle, number)| format!("{} ({})", exact(*idle), counted(*number, "session")))
        .collect();
    if !shown.is_empty() {
        let (shown, own) = (shown.join(", "), exact(config.timeout()));
        let text = format!("sessions live unused for {shown}; timeout is {own} here");
        if has_longer {
            let text =
                format!("{text}; a session keeps the longest of the programs that have saved it");
            let all = "give all programs one timeout";
            // --idle also deletes a session whose program gave it a longer timeout of its own.
            let remedy = if has_own || sessions == MAX_SESSIONS {
                all.to_owned()
            } else {
                let cleanup = command_for(config, "cleanup");
                format!("{all}; {own} for those that are there: {cleanup} --idle {own}")
            };
            found.warning("timeouts", text).remedy(remedy);
        } else {
            found.fine("timeouts", text);
        }
    }
    if unreadable > 0 {
        let text = format!("{} cannot be read", counted(unreadable, "session"));
        let finding = found.warning("unreadable", text);
        finding.remedy(command_for(config, "list") + " says why");
    }
}
