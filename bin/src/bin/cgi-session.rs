//! `cgi-session`: the administrator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    cgi_session_tools::cgi_session()
}
