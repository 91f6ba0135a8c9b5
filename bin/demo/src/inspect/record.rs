//! [`Record`]: what the page tells of a session beside its bytes: since when, until when, whose.

use std::time::{Duration, SystemTime};

use html_escape::encode_text;
use serde::Deserialize;
use serde_json::Value;

use crate::storage::Limits;

/// What the page needs of a record, as the file's format names it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    created: u64,
    expires: Option<u64>,
    timeout: Option<u64>,
    idle: Option<u64>,
    lifetime: Option<u64>,
    changed: Option<u64>,
    replaced: Option<String>,
    user: Option<String>,
    values: Value,
}

impl Record {
    /// The facts as HTML, for a description list. `used` is the file's modification time.
    pub(super) fn describe(
        &self,
        used: Option<SystemTime>,
        limits: Limits,
        now: SystemTime,
    ) -> String {
        let idle = self.idle.or(self.timeout);
        let idle = idle.map_or(limits.timeout, Duration::from_secs);
        // The time of a file whose record has an end of its own is set for the clean-up.
        let (used, idle_end) = match self.expires {
            Some(expires) => (self.changed.and_then(moment), moment(expires)),
            None => (used, used.and_then(|used| used.checked_add(idle))),
        };
        let lifetime = match self.lifetime {
            Some(0) => None,
            own => own.map(Duration::from_secs).or(limits.lifetime),
        };
        let end = lifetime.and_then(|lifetime| moment(self.created)?.checked_add(lifetime));
        let owner = self.user.as_deref().unwrap_or("not logged in");
        let mut rows = vec![
            ("Created", ago(moment(self.created), now)),
            ("Last used", ago(used, now)),
            (
                "Ends unused",
                format!(
                    "{}, {} after the last use",
                    until(idle_end, now),
                    span(idle)
                ),
            ),
        ];
        if end.is_some() {
            rows.push(("Ends in any case", until(end, now)));
        }
        if self.replaced.is_some() {
            rows.push(("Replaced", "the session has another id now".to_owned()));
        }
        rows.push(("User", owner.to_owned()));
        rows.push(("Applications", self.applications()));
        let row =
            |(name, text): (_, String)| format!("<dt>{name}</dt><dd>{}</dd>\n", encode_text(&text));
        rows.into_iter().map(row).collect()
    }

    /// Whose values are in it.
    fn applications(&self) -> String {
        let names = self.values.as_object().into_iter().flatten();
        let names: Vec<_> = names
            .filter_map(|(name, _)| match name.strip_prefix('@') {
                // The library's own notes.
                Some("") => None,
                Some(reserved) => Some(format!("{reserved} (reserved)")),
                None if name.is_empty() => Some("the one without a name".to_owned()),
                None => Some(name.clone()),
            })
            .collect();
        if names.is_empty() {
            return "none".to_owned();
        }
        names.join(", ")
    }
}

fn moment(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// How long ago something was.
fn ago(moment: Option<SystemTime>, now: SystemTime) -> String {
    match moment.and_then(|moment| now.duration_since(moment).ok()) {
        Some(age) if age.as_secs() > 1 => format!("{} ago", span(age)),
        _ => "just now".to_owned(),
    }
}

/// How long it is until something.
fn until(moment: Option<SystemTime>, now: SystemTime) -> String {
    match moment.and_then(|moment| moment.duration_since(now).ok()) {
        Some(left) if left.as_secs() > 0 => format!("in {}", span(left)),
        _ => "now".to_owned(),
    }
}

/// A time in the largest unit that says it well.
fn span(time: Duration) -> String {
    let (number, unit) = match time.as_secs() {
        seconds @ 0..120 => (seconds, "second"),
        seconds @ 120..7200 => (seconds / 60, "minute"),
        seconds @ 7200..172_800 => (seconds / 3600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(json: &str, expected: &[&str]) {
        let record: Record = serde_json::from_str(json).unwrap();
        let limits = Limits {
            timeout: Duration::from_secs(3600),
            lifetime: Some(Duration::from_secs(30 * 86_400)),
        };
        let html = record.describe(moment(5000), limits, moment(5600).unwrap());
        for part in expected {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn a_session_ends_unused_after_the_sites_time_and_in_any_case_after_its_lifetime() {
        shows(
            r#"{"created":2000,"values":{"":{"a":1},"shop":{},"@":{},"@auth":{}},"user":"ada"}"#,
            &[
                "<dt>Created</dt><dd>60 minutes ago</dd>",
                "<dt>Last used</dt><dd>10 minutes ago</dd>",
                "<dt>Ends unused</dt><dd>in 50 minutes, 60 minutes after the last use</dd>",
                "<dt>Ends in any case</dt><dd>in 29 days</dd>",
                "<dt>User</dt><dd>ada</dd>",
                "<dd>the one without a name, auth (reserved), shop</dd>",
            ],
        );
    }

    #[test]
    fn times_of_its_own_count_instead_of_the_sites() {
        shows(
            r#"{"created":2000,"idle":650,"lifetime":3660}"#,
            &[
                "<dt>Last used</dt><dd>10 minutes ago</dd>",
                "<dd>in 50 seconds, 10 minutes after the last use</dd>",
                "<dt>Ends in any case</dt><dd>in 60 seconds</dd>",
                "not logged in",
                "<dd>none</dd>",
            ],
        );
        shows(
            r#"{"created":2000,"expires":5650,"changed":5590,"replaced":"marker"}"#,
            &[
                "<dt>Last used</dt><dd>10 seconds ago</dd>",
                "<dt>Ends unused</dt><dd>in 50 seconds",
                "has another id now",
            ],
        );
    }
}
