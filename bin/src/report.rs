//! How a tool reports what happened: one line on stderr for each error, and its exit status.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{self, Path};
use std::process::{self, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cgi_session::{Config, Error, printable};
use clap::Parser;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Something did not go well (1).
pub const FAILED: u8 = 1;
/// The command line cannot be used (2), as clap has it.
pub const USAGE: u8 = 2;
/// Try again later (75, `EX_TEMPFAIL` in sysexits.h).
pub const TRY_AGAIN: u8 = 75;
/// A signal ended it: this and the signal's number, as shells have it.
pub const INTERRUPTED: u8 = 128;
/// The configuration cannot be used (78, `EX_CONFIG` in sysexits.h).
pub const CONFIGURATION: u8 = 78;

/// Why a command ends without success: what was wrong has been said on stderr.
pub(crate) struct Ended(ExitCode);

impl Ended {
    /// Says on stderr what is wrong.
    pub(crate) fn saying(line: &str, status: u8) -> Self {
        error(line);
        Ended(ExitCode::from(status))
    }

    /// A command whose work can be taken up again ends with the signal that has interrupted it, if not zero.
    pub(crate) fn if_interrupted(signal: usize) -> Result<(), Self> {
        if signal == 0 {
            return Ok(());
        }
        let status = INTERRUPTED | u8::try_from(signal).unwrap_or_default();
        Err(Ended::saying(
            "interrupted; run it again for the rest",
            status,
        ))
    }

    /// A command ends with this status, and all has been said.
    pub(crate) fn with(status: ExitCode) -> Result<(), Self> {
        if status == ExitCode::SUCCESS {
            Ok(())
        } else {
            Err(Ended(status))
        }
    }

    pub(crate) fn is(&self, status: u8) -> bool {
        self.0 == ExitCode::from(status)
    }

    /// A command ends with [`FAILED`] unless all is well, and all has been said.
    pub(crate) fn unless(is_well: bool) -> Result<(), Self> {
        Ended::with(ExitCode::from(if is_well { 0 } else { FAILED }))
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        self::error(&error.one_line());
        Ended(status_of(&error))
    }
}

/// What an operation says that failed (1).
impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Ended::saying(&reason, FAILED)
    }
}

/// Writes one line to stderr, after the program's name.
pub fn error(line: &str) {
    let program = env::args_os().next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let line = printable(&format!("{name}: {line}"));
    // Without a reader it is lost.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// How a program should end that met this error of the library.
///
/// A configuration that cannot be used, and a directory that no session may be kept in, are
/// [`CONFIGURATION`]; a session that is held or has another id by now, no room for one, or an
/// engine that cannot be reached is [`TRY_AGAIN`]; a key that cannot be one is [`USAGE`]; what the system refused is [`FAILED`].
#[must_use]
pub fn status_of(failed: &Error) -> ExitCode {
    if let Error::SessionsLeft { source, .. } = failed {
        return status_of(source);
    }
    ExitCode::from(match failed {
        Error::Config(_) | Error::Refused { .. } => CONFIGURATION,
        Error::Busy { .. }
        | Error::Full { .. }
        | Error::LowSpace { .. }
        | Error::Unavailable { .. }
        | Error::LeaseLost
        | Error::Replaced
        | Error::TooManyWaiting => TRY_AGAIN,
        Error::Key { .. } => USAGE,
        _ => FAILED,
    })
}

/// A moment in UTC, to the second: `2026-11-25T04:33:54Z`.
#[must_use]
pub fn moment(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let date = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = date.and_then(|date| date.format(&Rfc3339).ok());
    // Later than the year 9999.
    text.unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// Whether something could not be written to stdout.
static IS_OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Writes text to stdout; a reader that has gone away is no error.
pub fn output(text: &str) {
    let mut stdout = io::stdout().lock();
    written(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    );
}

/// Writes what clients may have stored: as it is, but a terminal gets no control characters of theirs.
pub(crate) fn output_stored(text: &str) {
    if io::stdout().is_terminal() {
        let lines = text.split('\n').map(printable);
        output(&lines.collect::<Vec<_>>().join("\n"));
    } else {
        output(text);
    }
}

/// Writes a line of JSON: what [`output_stored`] escapes, in JSON's own way.
pub(crate) fn output_json(json: &impl Display) {
    let shown = |letter: char| match printable(letter.encode_utf8(&mut [0; 4])) {
        escaped if escaped.starts_with("\\u{") => format!("\\u{:04x}", u32::from(letter)),
        plain => plain,
    };
    let mut line = json.to_string();
    if io::stdout().is_terminal() {
        line = line.chars().map(shown).collect();
    }
    output(&(line + "\n"));
}

/// Reports that stdout could not be written, for [`status_after`] too.
pub(crate) fn written(result: io::Result<()>) {
    // `cgi-session ... | head` closes the pipe when it has seen enough.
    if let Err(failed) = result
        && failed.kind() != io::ErrorKind::BrokenPipe
        && !IS_OUTPUT_LOST.swap(true, Ordering::Relaxed)
    {
        error(&format!("cannot write to stdout: {failed}"));
    }
}

/// Reads the command line. Where clap says something instead, such as the help, that is the end of the program.
pub(crate) fn command_line<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|said| {
        if !said.use_stderr() {
            written(said.print());
            // clap takes help that could not be written as a success.
            process::exit(IS_OUTPUT_LOST.load(Ordering::Relaxed).into());
        }
        said.exit()
    })
}

/// How a program should end whose work has ended so: output that is lost is a failure.
pub(crate) fn status_after(done: &Result<(), Ended>) -> ExitCode {
    match done {
        Ok(()) if IS_OUTPUT_LOST.load(Ordering::Relaxed) => ExitCode::from(FAILED),
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended(status)) => *status,
    }
}

/// A time as an administrator reads it: `95s`, `12m`, `5h`, `3d`.
#[must_use]
pub fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7_200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A time in the largest unit that says it exactly, as options and settings take it: `125s`, `150m`.
pub(crate) fn exact(time: Duration) -> String {
    let seconds = time.as_secs();
    let fits = |(unit, _): &(u64, char)| seconds >= 2 * unit && seconds.is_multiple_of(*unit);
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let (unit, letter) = units.into_iter().find(fits).unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}

/// How a program has ended: `exited with 3`.
pub(crate) fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "did not exit".to_owned(),
    }
}

/// A command of `cgi-session` that acts on the store of this configuration, to be copied.
pub(crate) fn command_for(config: &Config, command: &str) -> String {
    let file = config.file().map_or(String::new(), |file| {
        // Also for cron and for a user in another directory.
        let file = path::absolute(file).unwrap_or_else(|_| file.to_owned());
        format!(" --config {}", cgi_session::shell_word(&file))
    });
    format!("cgi-session {command}{file}")
}

/// A number with its noun: `1 session`, `3 sessions`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_said_as_people_read_them() {
        let said = |seconds| rough(Duration::from_secs(seconds));
        assert_eq!(
            [said(0), said(119), said(120), said(7_200), said(172_800)],
            ["0s", "119s", "2m", "2h", "2d"]
        );
        let said = |seconds| exact(Duration::from_secs(seconds));
        assert_eq!(
            [said(0), said(60), said(125), said(9_000), said(172_800)],
            ["0s", "60s", "125s", "150m", "2d"]
        );
        // date -u -d @951782399 +%FT%TZ
        let leap_day = UNIX_EPOCH + Duration::from_secs(951_782_400);
        assert_eq!(moment(leap_day), "2000-02-29T00:00:00Z");
        let numbers = [counted(1, "session"), counted(0, "session")];
        assert_eq!(numbers, ["1 session", "0 sessions"]);
    }
}
