//! `check --stress`: a storm on a store like the one of the site, on the same file system.

use std::process::ExitCode;

use cgi_session_tools::report;
use cgi_session_tools::storm::{Settings, Task};

/// Plays a part in a storm, if this process was started for that.
pub(crate) fn take_part_in_storm() -> Option<ExitCode> {
    let (task, settings) = (Task::find()?, Settings::find()?);
    report::show_warnings();
    Some(task.run(&settings))
}
