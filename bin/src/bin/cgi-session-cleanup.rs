//! `cgi-session-cleanup`: deletes expired sessions, for cron.

use std::process::ExitCode;

fn main() -> ExitCode {
    cgi_session_tools::cgi_session_cleanup()
}
