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

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser as _};

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

Executable files are CGI programs, each request a process of its own; the rest of the path after their
name is PATH_INFO. Other pages, scripts, styles, images and text are served as they are, index.html or
index.cgi for a directory. Names that begin with a dot, links, and files of other kinds are not served.
Files of --documents are never run.

Programs get the variables of the request and, of this command's environment, PATH, CGI_SESSION_* and
those of --env, which replace the request's: --env HTTPS=on. They use the configuration of this command.

Each request is a line: its status, the time to the beginning of the answer, the first digits of its
session's digest, and what was asked for; below it are the session's values, if they have changed.
What a program writes to stderr is printed, and is on the page when it gives no answer.

Ctrl-C ends it. It is for trying out: for visitors, install the programs behind a web server.";

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
    /// Give programs this variable, without =VALUE that of this command's environment; may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(|text| variables::given(&text)))]
    env: Vec<(OsString, OsString)>,
}

pub(crate) fn run(arguments: &Arguments, config: Option<&Path>) -> Result<(), Ended> {
    let directory = arguments.listen.storage_file_dir.as_deref();
    let storage = Storage::find(config, directory)?;
    let documents = arguments.documents.as_deref();
    let site = Directory::new(&arguments.programs, documents, &arguments.env, storage)?;
    Ok(serve(&arguments.listen, site)?)
}
