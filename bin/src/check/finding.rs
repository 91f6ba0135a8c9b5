//! What a check found, as text for people and as JSON for programs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cgi_session::printable;
use serde_json::{Value, json};

use crate::account::Account;
use crate::report::counted;
use crate::screen::{Screen, Style};

/// Where the text of a finding begins.
const INDENT: usize = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Fine,
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Finding {
    level: Level,
    topic: &'static str,
    text: String,
    place: Option<Place>,
    remedy: Option<String>,
    figures: Option<Value>,
}

/// The file or directory that a finding is about, as it is now.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Finding {
    pub(crate) fn fine(topic: &'static str, text: String) -> Self {
        Finding {
            level: Level::Fine,
            topic,
            text,
            place: None,
            remedy: None,
            figures: None,
        }
    }

    /// It works, but should be looked at.
    pub(crate) fn warning(topic: &'static str, text: String) -> Self {
        Finding {
            level: Level::Warning,
            ..Finding::fine(topic, text)
        }
    }

    /// It fails, loses sessions, or lets others at them.
    pub(crate) fn problem(topic: &'static str, text: String) -> Self {
        Finding {
            level: Level::Problem,
            ..Finding::fine(topic, text)
        }
    }

    /// Names the path that the finding is about; owner and mode are shown with it.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.place = fs::symlink_metadata(path).ok().map(|found| Place {
            path: path.to_owned(),
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode() & 0o7777,
        });
        self
    }

    /// The command or line of configuration that repairs it.
    pub(crate) fn remedy(mut self, remedy: String) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// What was counted, for programs.
    pub(crate) fn figures(mut self, figures: Value) -> Self {
        self.figures = Some(figures);
        self
    }

    #[cfg(test)]
    pub(crate) fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }

    fn text(&self, screen: Screen) -> String {
        let (level, style) = match self.level {
            Level::Fine => ("ok", Style::Green),
            Level::Warning => ("warning", Style::Yellow),
            Level::Problem => ("PROBLEM", Style::Red),
        };
        let text = printable(&format!("{}: {}", self.topic, self.text));
        let mut lines = screen.wrapped(&text, INDENT);
        if self.level != Level::Fine {
            lines.extend(
                self.place
                    .as_ref()
                    .map(|place| {
                        let Place {
                            path,
                            uid,
                            gid,
                            mode,
                        } = place;
                        let path = path.display();
                        let text = format!("{path} has mode {mode:04o}, uid {uid}, gid {gid}");
                        screen.wrapped(&printable(&text), INDENT)
                    })
                    .into_iter()
                    .flatten(),
            );
        }
        // In one piece, to be copied.
        let remedy = self.remedy.as_ref();
        lines.extend(remedy.map(|remedy| printable(&format!("try: {remedy}"))));
        let level = screen.painted(&format!("{level:<INDENT$}"), style);
        format!("{level}{}\n", lines.join(&format!("\n{:INDENT$}", "")))
    }

    fn json(&self) -> Value {
        let level = match self.level {
            Level::Fine => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        let place = self.place.as_ref();
        let mut object = json!({
            "level": level,
            "topic": self.topic,
            "text": self.text,
            "path": place.map(|place| place.path.to_string_lossy()),
            "uid": place.map(|place| place.uid),
            "gid": place.map(|place| place.gid),
            "mode": place.map(|place| format!("{:04o}", place.mode)),
            "remedy": self.remedy,
        });
        if let Some(figures) = &self.figures {
            object["figures"] = figures.clone();
        }
        object
    }
}

/// Everything that was found, in the order of the search.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    pub(crate) fn problems(&self) -> u64 {
        self.count(Level::Problem)
    }

    /// A line or more for each, and a summary.
    pub(crate) fn text(&self, screen: Screen) -> String {
        let mut text: String = self.0.iter().map(|it| it.text(screen)).collect();
        let problems = counted(self.problems(), "problem");
        let warnings = counted(self.count(Level::Warning), "warning");
        let account = Account::current();
        text.push_str(&[&problems, ", ", &warnings, "; checked as "].concat());
        text.push_str(&account.to_string());
        text.push('\n');
        text
    }

    pub(crate) fn json(&self) -> String {
        let account = Account::current();
        let object = json!({
            "uid": account.uid,
            "user": account.name,
            "problems": self.problems(),
            "warnings": self.count(Level::Warning),
            "findings": self.0.iter().map(Finding::json).collect::<Vec<_>>(),
        });
        format!("{object}\n")
    }

    fn count(&self, level: Level) -> u64 {
        let same = self.0.iter().filter(|finding| finding.level == level);
        same.fold(0, |count, _| count + 1)
    }
}
