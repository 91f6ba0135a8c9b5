//! What lies in the directory, and whether it is cleaned up.

use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, FileStore, Result, SessionDigest, Store as _, shell_word};

use super::directory::unless_shared;
use super::finding::{Finding, Findings};
use crate::account::Account;
use crate::report::{counted, rough};

const DAY: Duration = Duration::from_secs(24 * 3600);
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
    found.add(Finding::fine("sessions", sessions));
    contents.report(path, account, found);
    let last = FileStore::new(config)?.last_sweep(now);
    let oldest = contents.oldest;
    let oldest = oldest.and_then(|oldest| now.duration_since(oldest).ok());
    found.add(clean_up(last, oldest, account));
    Ok(())
}

/// What was counted in the directory.
#[derive(Default)]
struct Contents {
    is_sharded: bool,
    sessions: u64,
    /// Sessions where the other value of `shards` has them.
    misplaced: Examples,
    oldest: Option<SystemTime>,
    foreign: Examples,
    damaged: Examples,
    of_others: Examples,
    irregular: Examples,
}

/// How many there are, and the names of the first.
#[derive(Default)]
struct Examples {
    number: u64,
    names: Vec<String>,
}

impl Examples {
    fn add(&mut self, name: &str) {
        self.number += 1;
        if self.names.len() < EXAMPLES {
            self.names.push(name.to_owned());
        }
    }

    /// `5 files (a, b, c ...)`
    fn said(&self) -> String {
        let (files, names) = (counted(self.number, "file"), self.names.join(", "));
        let has_more = self.number > self.names.len() as u64;
        format!("{files} ({names}{})", if has_more { " ..." } else { "" })
    }
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
        let file_name = entry.file_name();
        let shown = format!("{prefix}{}", file_name.to_string_lossy());
        let kind = kind(file_name.as_encoded_bytes(), prefix.is_empty());
        if matches!(kind, Kind::Foreign) {
            self.foreign.add(&shown);
            return;
        }
        if stat.uid() != account.uid {
            self.of_others.add(&shown);
        }
        match kind {
            Kind::Shard if stat.is_dir() => {
                self.add_directory(&entry.path(), &format!("{shown}/"), account);
            }
            _ if !stat.is_file() => self.irregular.add(&shown),
            // The time of what a change of id leaves for a moment.
            Kind::Session if stat.mtime() == 0 => {}
            Kind::Session => {
                self.sessions += 1;
                if prefix.is_empty() == self.is_sharded {
                    self.misplaced.add(&shown);
                }
                let modified = stat.modified().ok();
                self.oldest = [self.oldest, modified].into_iter().flatten().min();
            }
            Kind::Damaged => self.damaged.add(&shown),
            Kind::Shard | Kind::Own | Kind::Foreign => {}
        }
    }

    fn report(&self, path: &Path, account: &Account, found: &mut Findings) {
        type Make = fn(&'static str, String) -> Finding;
        let mut tell = |make: Make, topic, files: &Examples, said: &str, remedy: String| {
            if files.number > 0 {
                let text = format!("{} holds {} {said}", path.display(), files.said());
                found.add(make(topic, text).at(path).remedy(remedy));
            }
        };
        let word = shell_word(path);
        let said = format!("that {account} does not own and cannot use; did root run a program?");
        let command = format!("chown -R {}:{} {word}", account.handle(), account.gid);
        let remedy = unless_shared(path, command);
        tell(Finding::problem, "owner", &self.of_others, &said, remedy);
        let said = "named like a session, but no regular file, and never opened";
        let remedy = format!("find {word} -name '*.json' ! -type f -ls");
        tell(Finding::problem, "irregular", &self.irregular, said, remedy);
        let said = "that no program finds: they were made with another value of shards";
        let remedy =
            "set shards as it was, and change it for a new directory alone, by cgi-session copy";
        tell(
            Finding::warning,
            "shards",
            &self.misplaced,
            said,
            remedy.to_owned(),
        );
        let said = "damaged and set aside; what damaged the disk or the file?";
        let remedy = format!(
            "look at the web server's error log and the disk, then: find {word} -name '*.corrupt' -delete"
        );
        tell(Finding::warning, "damaged", &self.damaged, said, remedy);
        let said = "of other programs; what is no session is never touched";
        let remedy = "move it elsewhere; the directory should hold nothing but sessions";
        tell(
            Finding::warning,
            "foreign",
            &self.foreign,
            said,
            remedy.to_owned(),
        );
    }
}

/// What a name in the directory stands for.
enum Kind {
    Session,
    Damaged,
    Shard,
    /// Made by the store for itself.
    Own,
    Foreign,
}

fn kind(name: &[u8], is_top: bool) -> Kind {
    let is_digest = |suffix: &[u8]| {
        let digest = name.strip_suffix(suffix);
        digest.and_then(SessionDigest::parse).is_some()
    };
    let is_hex = |c: &u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    match name {
        b".gc" | b".count" | b".users" if is_top => Kind::Own,
        _ if name.starts_with(b".tmp-") => Kind::Own,
        [_, _] if is_top && name.iter().all(is_hex) => Kind::Shard,
        _ if is_digest(b".user") => Kind::Own,
        _ if is_digest(b".json") => Kind::Session,
        _ if is_digest(b".corrupt") => Kind::Damaged,
        _ => Kind::Foreign,
    }
}

/// Judges when the last clean-up ended and, if none ever did, how old the oldest session is.
fn clean_up(last: Option<Duration>, oldest: Option<Duration>, account: &Account) -> Finding {
    const TOPIC: &str = "cleanUp";
    let cron = format!("09,39 * * * * {} cgi-session-cleanup", account.handle());
    let remedy = format!("put this line into /etc/cron.d/cgi-session: {cron}");
    match (last, oldest) {
        (Some(last), _) if last <= DAY => {
            Finding::fine(TOPIC, format!("the last one was {} ago", rough(last)))
        }
        (Some(last), _) => {
            let last = rough(last);
            let text = format!("the last one was {last} ago; expired sessions pile up");
            Finding::problem(TOPIC, text).remedy(remedy)
        }
        (None, Some(oldest)) if oldest > DAY => {
            let text = format!(
                "none was ever seen, and the oldest session was last used {} ago",
                rough(oldest)
            );
            Finding::problem(TOPIC, text).remedy(remedy)
        }
        (None, _) => {
            let text = "none yet, and nothing old enough to need one";
            Finding::fine(TOPIC, text.to_owned())
        }
    }
}
