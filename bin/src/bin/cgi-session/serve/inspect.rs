//! The page that shows a visitor's own session file as it changes.
//!
//! It reads the file's bytes and nothing else: it takes no lock and does not count as a visit. The
//! id in the visitor's cookie leads to the file's name and is shown nowhere.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use html_escape::encode_text;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::pages;
use super::site::Reply;

/// The largest file that is read, and the longest record that is shown.
const LARGEST: u64 = 8 << 20;
const LONGEST: usize = 4 << 10;

const INTRODUCTION: &str = "<p>A session is one file, and the file has two slots. A commit writes the slot \
    that is <em>not</em> current, in one call, under a lock on the file. A process that dies in the middle of it \
    leaves the current slot whole.</p>";
const HINT: &str = "<p class=\"note\">Keep this page open beside the <a href=\"/cgi-bin/counter\">counter</a> or \
    the <a href=\"/burst.html\">burst</a> and watch the slots take turns. It is read twice a second; without \
    JavaScript, reload. Looking at it opens no session and takes no lock.</p>\n\
    <script src=\"/inspect.js\" defer></script>";

/// The whole page.
pub(super) async fn page(file: Option<PathBuf>) -> Reply {
    let shown = show(file).await;
    let body = format!("{INTRODUCTION}\n<div id=\"file\">{shown}</div>\n{HINT}");
    pages::framed(StatusCode::OK, "Your session file", &body)
}

/// The part of the page that changes.
pub(super) async fn part(file: Option<PathBuf>) -> Reply {
    pages::part(show(file).await)
}

async fn show(file: Option<PathBuf>) -> String {
    let nothing = "<p class=\"answer\">You have no session yet. Visit the \
        <a href=\"/cgi-bin/counter\">counter</a> once and come back.</p>";
    let Some(file) = file else {
        return nothing.to_owned();
    };
    let shown = tokio::task::spawn_blocking(move || match read(&file) {
        Ok(content) => describe(&file, &content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => nothing.to_owned(),
        Err(error) => format!(
            "<p>The file cannot be read: {}.</p>",
            encode_text(&error.to_string())
        ),
    });
    shown.await.unwrap_or_else(|_| nothing.to_owned())
}

struct Content {
    bytes: Vec<u8>,
    modified: Option<SystemTime>,
}

fn read(path: &Path) -> io::Result<Content> {
    // A name that is no plain file is no session, and opening it could wait for ever.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(path)?;
    let modified = file.metadata()?.modified().ok();
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(Content { bytes, modified })
}

/// One slot as it stands in the file.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "g")]
    generation: u64,
    #[serde(rename = "d", borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Record {
    created: u64,
}

enum Slot<'a> {
    Empty,
    Written(Envelope<'a>),
    Unreadable,
}

impl<'a> Slot<'a> {
    fn parse(half: &'a [u8]) -> Self {
        // Around the envelope stand the brackets and the comma of the array that the file is.
        let is_padding = |byte: &u8| b"[],".contains(byte) || byte.is_ascii_whitespace();
        let start = half.iter().position(|byte| !is_padding(byte));
        let end = half.iter().rposition(|byte| !is_padding(byte));
        match start.zip(end).map(|(start, end)| &half[start..=end]) {
            Some(b"null") => Slot::Empty,
            Some(envelope) => {
                serde_json::from_slice(envelope).map_or(Slot::Unreadable, Slot::Written)
            }
            None => Slot::Unreadable,
        }
    }

    fn generation(&self) -> Option<u64> {
        match self {
            Slot::Written(envelope) => Some(envelope.generation),
            Slot::Empty | Slot::Unreadable => None,
        }
    }
}

fn describe(path: &Path, content: &Content) -> String {
    let (first, second) = content.bytes.split_at(content.bytes.len() / 2);
    let slots = [Slot::parse(first), Slot::parse(second)];
    let newest = slots.iter().filter_map(Slot::generation).max();
    let current = slots.iter().find_map(|slot| match slot {
        Slot::Written(envelope) if Some(envelope.generation) == newest => Some(envelope),
        _ => None,
    });
    let created = current
        .and_then(|envelope| serde_json::from_str::<Record>(envelope.data.get()).ok())
        .and_then(|record| {
            SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(record.created))
        });
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut html = format!(
        "<dl>\n<dt>File</dt><dd><code>{}</code></dd>\n<dt>Size</dt><dd>{} bytes, two slots of {}</dd>\n\
         <dt>Created</dt><dd>{}</dd>\n<dt>Last used</dt><dd>{}</dd>\n</dl>\n<div class=\"slots\">",
        encode_text(&name),
        content.bytes.len(),
        content.bytes.len() / 2,
        ago(created),
        ago(content.modified),
    );
    for (title, slot) in ["First slot", "Second slot"].iter().zip(&slots) {
        describe_slot(&mut html, title, slot, newest);
    }
    html.push_str("</div>");
    html
}

fn describe_slot(html: &mut String, title: &str, slot: &Slot<'_>, newest: Option<u64>) {
    let (class, state, data) = match slot {
        Slot::Empty => ("slot", "never written".to_owned(), "null".to_owned()),
        Slot::Unreadable => (
            "slot",
            "being written at this moment".to_owned(),
            String::new(),
        ),
        Slot::Written(envelope) => {
            let is_current = Some(envelope.generation) == newest;
            let (class, word) = if is_current {
                ("slot current", "current")
            } else {
                ("slot", "before")
            };
            let state = format!("generation {}, {word}", envelope.generation);
            (class, state, readable(envelope.data.get()))
        }
    };
    // A String takes every write.
    let _ = writeln!(
        html,
        "<section class=\"{class}\"><h2>{title}</h2><p>{state}</p><pre>{}</pre></section>",
        encode_text(&data)
    );
}

fn readable(json: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(json).ok();
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    let text = pretty.unwrap_or_else(|| json.to_owned());
    if text.len() <= LONGEST {
        return text;
    }
    let shown: String = text.chars().take(LONGEST).collect();
    format!("{shown}\n… {} bytes in all", json.len())
}

/// How long ago something was, in the largest unit that says it well.
fn ago(moment: Option<SystemTime>) -> String {
    let Some(age) = moment.and_then(|moment| SystemTime::now().duration_since(moment).ok()) else {
        return "just now".to_owned();
    };
    let seconds = age.as_secs();
    match seconds {
        0..=1 => "just now".to_owned(),
        2..=119 => format!("{seconds} seconds ago"),
        120..=7199 => format!("{} minutes ago", seconds / 60),
        _ => format!("{} hours ago", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(bytes: &[u8], expected: &[&str]) {
        let content = Content {
            bytes: bytes.to_vec(),
            modified: None,
        };
        let html = describe(Path::new("/sessions/ab.json"), &content);
        for part in expected {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn the_slot_of_the_greater_generation_is_current() {
        let file = b"[{\"g\": 8,\"d\":{\"created\":1}} \n,{\"g\": 9,\"d\":{\"created\":1}} ]";
        shows(
            file,
            &[
                "generation 8, before",
                "slot current\"><h2>Second slot</h2><p>generation 9, current",
            ],
        );
        shows(
            b"[{\"g\": 1,\"d\":{\"created\":1}}\n,null                       ]",
            &["generation 1, current", "never written"],
        );
    }

    #[test]
    fn a_torn_slot_does_not_hide_the_other() {
        shows(
            b"[{\"g\": 8,\"d\":{}} \n,{\"g\": 9,\"d\":{\"cr",
            &["generation 8, current", "being written"],
        );
        shows(b"", &["being written"]);
    }

    #[test]
    fn what_a_visitor_stored_is_escaped() {
        shows(
            b"[{\"g\": 1,\"d\":{\"values\":\"<b>\"}}\n,null                        ]",
            &["&lt;b&gt;"],
        );
    }
}
