//! As many requests as possible, by wrk, which looks at every answer.

use std::process::Command;

use crate::contest::Sample;
use crate::measured::Outcome;

pub(crate) const CONNECTIONS: usize = 8;

/// What each visitor's numbers must be.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    /// One more than in the answer before.
    Next,
    /// Any: others count in the same session.
    Any,
    /// One, for each request makes a session.
    First,
}

pub(crate) struct Load {
    per_second: f64,
    requests: f64,
    /// Answers without the right number, and requests without an answer.
    wrong: u64,
}

impl Load {
    /// The requests per second, and how much of something there was for each.
    pub(crate) fn sample(&self, beside: f64) -> Sample {
        Sample {
            figure: self.per_second,
            beside: beside / self.requests.max(1.0),
            wrong: self.wrong,
        }
    }
}

/// Lets eight visitors ask for a page, each with one of the cookies.
pub(crate) fn load(
    url: &str,
    seconds: u64,
    expected: Expected,
    cookies: &[String],
) -> Outcome<Load> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/benches/peers/programs/load.lua"
    );
    let mut wrk = Command::new("wrk");
    wrk.arg(format!("-t{CONNECTIONS}"))
        .arg(format!("-c{CONNECTIONS}"));
    wrk.arg(format!("-d{seconds}"))
        .args(["--timeout", "30", "-s", script, url, "--"]);
    wrk.arg(match expected {
        Expected::Next => "next",
        Expected::Any => "any",
        Expected::First => "first",
    });
    let output = wrk.args(cookies).output()?;
    let report = String::from_utf8(output.stdout)?;
    let number = |name: &str| -> Outcome<f64> {
        let line = report.lines().find(|line| line.contains(name));
        let number =
            line.and_then(|line| line.split_whitespace().find_map(|word| word.parse().ok()));
        Ok(number.ok_or_else(|| format!("wrk does not tell {name}: {report}"))?)
    };
    for complaint in report.lines().filter(|line| line.starts_with("complaint ")) {
        eprintln!("{url}: {complaint}");
    }
    let wrong = report.lines().find_map(|line| line.strip_prefix("wrong "));
    Ok(Load {
        per_second: number("Requests/sec")?,
        requests: number("requests in")?,
        wrong: wrong.ok_or("wrk does not tell what was wrong")?.parse()?,
    })
}
