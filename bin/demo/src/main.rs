//! The demo site, for trying out: `cargo run -- serve` in a checkout.
//!
//! The examples are part of this program: it starts itself with the CGI environment and the name of an
//! example, so that one file is a whole site. Other commands are those of `cgi-session`.
//!
//! ```text
//! connection -> site (which page?) -> pages      what never changes
//!                                  -> inspect    the visitor's session file
//!                                  -> gateway    a process for this request, RFC 3875
//!                                  -> responders a process that stays, FastCGI 1.0 (--fastcgi)
//! ```

mod examples;
mod inspect;
mod pages;
mod programs;
mod responders;
mod site;
mod storage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cgi_session_tools::report;
use cgi_session_tools::serve::{Listen, serve};
use clap::Parser;

use site::DemoSite;
use storage::DemoStorage;

const EXAMPLES: &str = "\
Examples:
  cargo run -- serve
  cargo run -- serve --port 0 --programs ~/cgi-bin

It ends when it is interrupted (Ctrl-C). It is for trying out: for visitors, install the programs
behind a web server.";

/// Lets you try sessions out in a browser, and runs the commands of cgi-session.
#[derive(Debug, Parser)]
#[command(name = "cgi-session-demo", version)]
struct Command {
    /// The configuration file; without it, the one that the programs of the site find
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    subcommand: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Serve(Arguments),
    #[command(external_subcommand)]
    Other(#[expect(dead_code, reason = "the tools read the command line again")] Vec<OsString>),
}

/// Serve the demo site on this machine, each request a process of its own: for trying out
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// A directory of your own CGI programs, served under /cgi-bin/ before the examples.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Run the examples as FastCGI responders, which stay, instead of a process for each request.
    #[arg(long)]
    fastcgi: bool,
}

fn main() -> ExitCode {
    // The server starts this program again for each request to an example.
    if let Some(code) = examples::run_example() {
        return code;
    }
    if let Some(code) = cgi_session_tools::take_part_in_trial() {
        return code;
    }
    let command = Command::parse();
    let Subcommand::Serve(arguments) = command.subcommand else {
        return cgi_session_tools::cgi_session();
    };
    match run(&arguments, command.config.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            report::error(&reason);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, config: Option<&Path>) -> Result<(), String> {
    let directory = arguments.listen.storage_file_dir.as_deref();
    let storage = DemoStorage::find(config, directory)?;
    let programs = arguments.programs.as_deref();
    let site = DemoSite::new(storage, programs, arguments.fastcgi)?;
    serve(&arguments.listen, site)
}
