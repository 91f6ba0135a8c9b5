//! The grammar of a configuration file: sections in brackets, `key = value` or `key: value` a line.
//!
//! A line that begins with `#` or `;` is a comment; nothing else is one, for a path may hold both. The
//! text is UTF-8, with or without a byte-order mark, its lines end with LF or CR LF.

use std::fmt::Display;
use std::str;

use super::settings::Config;

/// A line that sets a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

/// A file that cannot be read as a configuration: the line, unless it is the file as a whole, and why.
pub(super) type Fault = (Option<usize>, String);

/// What section `wanted` of a file sets. Other sections belong to other programs and are passed over.
pub(super) fn section<'a>(file: &'a [u8], wanted: &str) -> Result<Vec<Entry<'a>>, Fault> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut begins = None;
    let mut similar = None;
    let mut is_wanted = None;
    let mut entries: Vec<Entry<'a>> = Vec::new();
    for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        let fail = |reason: String| Err((Some(number), reason));
        if line.contains(&0) || line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") {
            return fail(about(
                line,
                "holds a NUL byte or is UTF-16; save the file as UTF-8",
            ));
        }
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        if let Some(heading) = line.strip_prefix(b"[") {
            let Some(end) = heading.iter().position(|byte| *byte == b']') else {
                return fail("the name of a section ends with ]".to_owned());
            };
            let (name, rest) = (heading[..end].trim_ascii(), heading[end + 1..].trim_ascii());
            is_wanted = Some(name == wanted.as_bytes());
            if is_wanted == Some(false) {
                let name = String::from_utf8_lossy(name);
                if strsim::levenshtein(&name.to_lowercase(), wanted) <= 2 {
                    similar = Some((number, name));
                }
                continue;
            }
            if !rest.is_empty() && !rest.starts_with(b"#") && !rest.starts_with(b";") {
                let reason = format!("behind [{wanted}] stands more; a key has a line of its own");
                return fail(about(rest, reason));
            }
            if let Some(first) = begins.replace(number) {
                let reason = format!("section [{wanted}] stands twice, first in line {first}");
                return fail(reason);
            }
            continue;
        }
        match is_wanted {
            Some(true) => {}
            Some(false) => continue,
            None => {
                let reason = format!("there is no section [{wanted}] above it; write it first");
                return fail(about(line, reason));
            }
        }
        let Ok(text) = str::from_utf8(line) else {
            return fail(about(line, "is not UTF-8; save the file as UTF-8"));
        };
        let Some((key, value)) = text.split_once(['=', ':']) else {
            return fail(about(line, "has no value; write KEY = VALUE"));
        };
        let (key, value) = (key.trim(), value.trim());
        if key.contains(char::is_whitespace) {
            return fail(about(
                line,
                "has no value behind its first word; write KEY = VALUE",
            ));
        }
        if let Some(first) = entries.iter().find(|entry| entry.key == key) {
            let reason = format!("is set twice, first in line {}", first.line);
            return fail(format!("{key} {reason}"));
        }
        let line = number;
        entries.push(Entry { line, key, value });
    }
    match (begins, similar) {
        (Some(_), _) => Ok(entries),
        (None, Some((line, name))) => Err((
            Some(line),
            format!("[{name}]: there is no section [{wanted}]; did you mean [{wanted}]?"),
        )),
        (None, None) => Err((None, format!("there is no section [{wanted}]"))),
    }
}

/// A reason with the key that its line begins with. The rest of the line may be a password.
fn about(line: &[u8], reason: impl Display) -> String {
    let begin = line.split(|byte| !byte.is_ascii_alphanumeric()).next();
    let key = String::from_utf8_lossy(begin.unwrap_or_default());
    let reason = reason.to_string();
    if Config::keys().any(|known| known == key) {
        format!("{key}: {reason}")
    } else {
        reason
    }
}
