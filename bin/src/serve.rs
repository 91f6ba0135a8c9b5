//! `cgi-session serve`: the CGI programs and the files of a directory, for trying out.
//!
//! ```text
//! connection -> server (is it for us?) -> directory (which file?) -> gateway   a process for this request, RFC 3875
//! ```

mod directory;
mod gateway;
mod reply;
mod server;
mod storage;
mod trace;
pub mod variables;

use std::path::{Path, PathBuf};

pub use crate::head::Head;
use crate::report::Ended;
use directory::Directory;
pub use directory::{is_executable, is_file, is_plain};
pub use gateway::Gateway;
pub use reply::{Connection, Failure, Reply, whole};
pub use server::{Listen, Site, serve};
pub use storage::Storage;

const EXAMPLES: &str = "\
Examples:
  cgi-session serve --programs ~/site
  cgi-session serve --programs ~/cgi-bin --port 0 --storage-file-dir /tmp/sessions

Executable files are CGI programs, each request a process of its own; what is behind their name in
the path is PATH_INFO. Other pages, scripts, styles, images and text are served as they are, index.html or
index.cgi for a directory. Names that begin with a dot, links, and files of other kinds are not served.
With --documents, what is not among the programs is looked for there, and nothing of it is run. The
programs find their sessions in the configuration of this command.

Each request is a line: its status, how long the answer took to begin, the first digits of its
session's digest, and what was asked for; what its session holds now is below it, if that has
changed. What a program writes to stderr is printed, too, and is on the page when it gives no answer.

It ends when it is interrupted (Ctrl-C). It is for trying out: for visitors, install the programs
behind a web server.";

/// Serve a directory of your own CGI programs and files on this machine: for trying out
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// The directory of your CGI programs and files.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The directory of files that are no programs.
    #[arg(long, value_name = "DIR")]
    documents: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, config: Option<&Path>) -> Result<(), Ended> {
    let directory = arguments.listen.storage_file_dir.as_deref();
    let storage = Storage::find(config, directory)?;
    let documents = arguments.documents.as_deref();
    let site = Directory::new(&arguments.programs, documents, storage)?;
    Ok(serve(&arguments.listen, site)?)
}
