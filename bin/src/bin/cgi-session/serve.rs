//! `cgi-session serve`: the demo site.

use std::path::Path;
use std::process::ExitCode;

use cgi_session_tools::report;

/// Serve the demo site on this machine, for trying out
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_arguments: &Arguments, _config: Option<&Path>) -> ExitCode {
    report::error("serve is not part of this build");
    ExitCode::from(report::FAILED)
}
