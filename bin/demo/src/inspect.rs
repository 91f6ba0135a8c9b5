//! The page that shows a visitor's own session file as it changes.
//!
//! It reads the file's bytes and nothing else: it takes no lock and does not count as a visit. The
//! id in the visitor's cookie leads to the file's name and is shown nowhere.

mod record;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cgi_session_tools::serve::Reply;
use html_escape::encode_text;
use http::StatusCode;
use serde::Deserialize;

use crate::pages;
use crate::storage::Limits;
use record::Record;

/// The largest file that is read, and how much of a slot is shown.
const LARGEST: u64 = 8 << 20;
const LONGEST: usize = 4 << 10;
/// What of an envelope stands before its data.
const HEAD: usize = 91;

const INTRODUCTION: &str = r"<p>A session is one file, and the file has two slots. A commit writes the slot
that is <em>not</em> current, in one call, under a lock on the file. A process that dies in the middle of it
leaves the current slot whole. The checksum and its seed are not shown: no client may know them.</p>";
const HINT: &str = r#"<p class="note">Keep this page open beside the <a href="/cgi-bin/counter">counter</a> or the
<a href="/">fifty requests</a> and watch the slots take turns. It is read twice a second; without JavaScript, reload.
Looking at it opens no session and takes no lock.</p>
<script src="/inspect.js" defer></script>"#;
const NOTHING: &str = r#"<p class="answer">You have no session yet: no file and no cookie, before a program stores something.
The <a href="/cgi-bin/counter">counter</a> does.</p>"#;

/// The whole page.
pub(crate) async fn page(file: Option<PathBuf>, limits: Limits) -> Reply {
    let shown = show(file, limits).await;
    let body = format!(r#"{INTRODUCTION} <div id="file">{shown}</div> {HINT}"#);
    pages::framed(StatusCode::OK, "Your session file", &body)
}

/// The part of the page that changes.
pub(crate) async fn part(file: Option<PathBuf>, limits: Limits) -> Reply {
    pages::part(show(file, limits).await)
}

async fn show(file: Option<PathBuf>, limits: Limits) -> String {
    let Some(file) = file else {
        return NOTHING.to_owned();
    };
    let shown = tokio::task::spawn_blocking(move || match read(&file) {
        Ok(content) => describe(&file, &content, limits),
        Err(error) if error.kind() == io::ErrorKind::NotFound => NOTHING.to_owned(),
        Err(error) => format!(
            "<p>The file cannot be read: {}.</p>",
            encode_text(&error.to_string())
        ),
    });
    shown.await.unwrap_or_else(|_| NOTHING.to_owned())
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

/// What the page needs of an envelope.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "g")]
    generation: u64,
    #[serde(rename = "d")]
    record: Record,
}

/// One slot as it stands in the file.
struct Slot<'a> {
    /// Its bytes without what surrounds an envelope: the file's brackets, comma and padding.
    bytes: &'a [u8],
    /// `None` when nothing was ever written here, and while something is.
    envelope: Option<Envelope>,
}

impl<'a> Slot<'a> {
    fn parse(half: &'a [u8]) -> Self {
        let is_around = |byte: &u8| b"[],".contains(byte) || byte.is_ascii_whitespace();
        let start = half.iter().position(|byte| !is_around(byte));
        let end = half.iter().rposition(|byte| !is_around(byte));
        let bytes = start
            .zip(end)
            .map_or(&half[..0], |(start, end)| &half[start..=end]);
        Slot {
            bytes,
            envelope: serde_json::from_slice(bytes).ok(),
        }
    }

    fn generation(&self) -> Option<u64> {
        self.envelope.as_ref().map(|envelope| envelope.generation)
    }

    fn describe(&self, title: &str, is_current: bool) -> String {
        let class = if is_current { "slot current" } else { "slot" };
        let state = match self.generation() {
            Some(generation) if is_current => format!("generation {generation}, current"),
            Some(generation) => format!("generation {generation}, previous"),
            None if self.bytes == b"null" => "never written".to_owned(),
            None => "being written at this moment".to_owned(),
        };
        let shown = without_secrets(self.bytes.get(..LONGEST).unwrap_or(self.bytes));
        let ellipsis = if shown.len() < self.bytes.len() {
            " …"
        } else {
            ""
        };
        format!(
            "<section class=\"{class}\"><h2>{title}</h2><p>{state}</p><pre>{}{ellipsis}</pre></section>",
            encode_text(&String::from_utf8_lossy(&shown))
        )
    }
}

/// An envelope with dots for its checksum and the seed of that.
fn without_secrets(bytes: &[u8]) -> Vec<u8> {
    let mut shown = bytes.to_vec();
    let head = bytes.len().min(HEAD);
    for name in [b"\"h\":\"", b"\"s\":\""] {
        let found = shown[..head]
            .windows(name.len())
            .position(|part| part == name);
        let start = found.map_or(head, |at| at + name.len());
        let digits = shown[start..head].iter_mut();
        for digit in digits.take_while(|digit| **digit != b'"') {
            *digit = b'.';
        }
    }
    shown
}

fn describe(path: &Path, content: &Content, limits: Limits) -> String {
    let half = content.bytes.len() / 2;
    let (first, second) = content.bytes.split_at(half);
    let (first, second) = (Slot::parse(first), Slot::parse(second));
    let current = if first.generation() >= second.generation() {
        &first
    } else {
        &second
    };
    let facts = current.envelope.as_ref().map(|envelope| {
        let record = &envelope.record;
        record.describe(content.modified, limits, SystemTime::now())
    });
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "<dl>\n<dt>File</dt><dd><code>{}</code></dd>\n<dt>Size</dt><dd>{} bytes, two slots of {half}</dd>\n\
         {}</dl>\n<div class=\"slots\">{}{}</div>",
        encode_text(&name),
        content.bytes.len(),
        facts.unwrap_or_default(),
        first.describe("First slot", first.generation() > second.generation()),
        second.describe("Second slot", second.generation() > first.generation()),
    )
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
        let limits = Limits {
            timeout: std::time::Duration::from_secs(3600),
            lifetime: None,
        };
        let html = describe(Path::new("/sessions/ab.json"), &content, limits);
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
                "generation 8, previous",
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
    fn no_visitor_sees_the_checksum_or_its_seed() {
        let head =
            br#"{"g":                   1,"h":"0123456789abcdef","s":"fedcba9876543210","n":"#;
        let expected = r#""h":"................","s":"................","n":"#;
        for length in 30..=head.len() {
            let shown = String::from_utf8(without_secrets(&head[..length])).unwrap();
            let secret = shown.bytes().skip(31).any(|byte| byte.is_ascii_hexdigit());
            assert!(!secret, "{shown}");
        }
        let shown = without_secrets(head);
        assert!(String::from_utf8(shown).unwrap().ends_with(expected));
    }

    #[test]
    fn what_a_visitor_stored_is_escaped() {
        shows(
            b"[{\"g\": 1,\"d\":{\"values\":\"<b>\"}}\n,null                        ]",
            &["&lt;b&gt;"],
        );
    }
}
