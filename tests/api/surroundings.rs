//! Real programs in hostile surroundings: full, failing and read-only disks, limits of the process,
//! holders that are stopped, clocks that jump, directories and files that are not what they seem. A
//! request is served, or refused with a whole page and a reason in the log; what was acknowledged is never lost
//! or damaged, nothing hangs, and when the trouble is over the next request goes on.

mod clock;
mod disks;
mod holders;
mod limits;
mod planted;
mod resident;
mod swap;
mod visitor;

use testkit::prelude::*;
use testkit::program::{end_of, piped};

/// Cleans up by the tool, as cron would: how it ended, and what it said.
#[track_caller]
fn clean_up(directory: &Path, variables: &[(&str, &str)]) -> (ExitStatus, String) {
    let mut command = Command::new(testkit::tool("cgi-session-cleanup"));
    command.arg("--storage-file-dir").arg(directory);
    command.env_remove("CGI_SESSION_CONFIG");
    command.envs(variables.iter().copied());
    let (status, _, stderr) = end_of(piped(&mut command));
    (status, stderr)
}
