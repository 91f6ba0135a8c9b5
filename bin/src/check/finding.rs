//! What a check found, as text for people and as JSON for programs.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cgi_session::printable;
use serde::Serialize;
use serde_json::{Value, json};

use crate::account::Account;
use crate::report::counted;
use crate::screen::{Screen, Style};

/// Where the text of a finding begins.
const INDENT: usize = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Level {
    Ok,
    /// It works, but should be looked at.
    Warning,
    /// It fails, loses sessions, or lets others at them.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Finding {
    level: Level,
    topic: &'static str,
    text: String,
    /// The file or directory that it is about, as it is now.
    place: Option<(PathBuf, Metadata)>,
    remedy: Option<String>,
    figures: Option<Value>,
}

impl Finding {
    /// Names the path that the finding is about; owner and mode are shown with it.
    pub(crate) fn at(&mut self, path: &Path) -> &mut Self {
        let found = fs::symlink_metadata(path).ok();
        self.place = found.map(|found| (path.to_owned(), found));
        self
    }

    /// The command or line of configuration that repairs it.
    pub(crate) fn remedy(&mut self, remedy: impl Into<String>) -> &mut Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What was counted, for programs.
    pub(crate) fn figures(&mut self, figures: Value) {
        self.figures = Some(figures);
    }

    fn text(&self, screen: Screen) -> String {
        let (level, style) = match self.level {
            Level::Ok => ("ok", Style::Green),
            Level::Warning => ("warning", Style::Yellow),
            Level::Problem => ("PROBLEM", Style::Red),
        };
        let text = printable(&format!("{}: {}", self.topic, self.text));
        let mut lines = screen.wrapped(&text, INDENT);
        let place = self.place.as_ref();
        if let Some((path, about)) = place.filter(|_| self.level != Level::Ok) {
            let (path, uid, gid) = (path.display(), about.uid(), about.gid());
            let text = format!("{path} has mode {}, uid {uid}, gid {gid}", mode(about));
            lines.extend(screen.wrapped(&printable(&text), INDENT));
        }
        // In one piece, to be copied.
        let remedy = self.remedy.as_ref();
        lines.extend(remedy.map(|remedy| printable(&format!("try: {remedy}"))));
        let level = screen.painted(&format!("{level:<INDENT$}"), style);
        format!("{level}{}\n", lines.join(&format!("\n{:INDENT$}", "")))
    }

    fn json(&self) -> Value {
        let place = self.place.as_ref();
        let mut object = json!({
            "level": self.level,
            "topic": self.topic,
            "text": self.text,
            "path": place.map(|(path, _)| path.to_string_lossy()),
            "uid": place.map(|(_, about)| about.uid()),
            "gid": place.map(|(_, about)| about.gid()),
            "mode": place.map(|(_, about)| mode(about)),
            "remedy": self.remedy,
        });
        if let Some(figures) = &self.figures {
            object["figures"] = figures.clone();
        }
        object
    }
}

fn mode(about: &Metadata) -> String {
    format!("{:04o}", about.mode() & 0o7777)
}

/// Everything that was found, in the order of the search.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn fine(&mut self, topic: &'static str, text: impl Into<String>) -> &mut Finding {
        self.add(Level::Ok, topic, text)
    }

    pub(crate) fn warning(&mut self, topic: &'static str, text: impl Into<String>) -> &mut Finding {
        self.add(Level::Warning, topic, text)
    }

    pub(crate) fn problem(&mut self, topic: &'static str, text: impl Into<String>) -> &mut Finding {
        self.add(Level::Problem, topic, text)
    }

    pub(crate) fn add(
        &mut self,
        level: Level,
        topic: &'static str,
        text: impl Into<String>,
    ) -> &mut Finding {
        let at = self.0.len();
        self.0.push(Finding {
            level,
            topic,
            text: text.into(),
            place: None,
            remedy: None,
            figures: None,
        });
        &mut self.0[at]
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

    pub(crate) fn json(&self) -> Value {
        let account = Account::current();
        json!({
            "uid": account.uid,
            "user": account.name,
            "problems": self.problems(),
            "warnings": self.count(Level::Warning),
            "findings": self.0.iter().map(Finding::json).collect::<Vec<_>>(),
        })
    }

    fn count(&self, level: Level) -> u64 {
        let same = self.0.iter().filter(|finding| finding.level == level);
        same.fold(0, |count, _| count + 1)
    }
}
