//! `cgi-session`: the administrator's tool and the try-out server.

mod check;
mod config;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use cgi_session_tools::report;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  # Try sessions out in a browser, with nothing installed
  cgi-session serve

  # Which settings hold, and where does each come from?
  cgi-session config

  # Will it work behind the web server, whose user is www-data?
  sudo cgi-session check --as www-data

The configuration is found as the programs of the site find it: the file that CGI_SESSION_CONFIG
names, cgi-session.ini beside this program, or /etc/cgi-session.ini; then variables such as
CGI_SESSION_TIMEOUT override single keys. Expired sessions are deleted by cgi-session-cleanup.";

/// Looks after the sessions of CGI programs, and lets you try them out.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration file; without it, the one that the programs of the site find
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Config(config::Arguments),
    Check(check::Arguments),
}

fn main() -> ExitCode {
    // The server starts this program again for each request to an example.
    if let Some(code) = serve::run_example() {
        return code;
    }
    let arguments = Arguments::parse();
    report::show_warnings();
    let config = arguments.config.as_deref();
    match &arguments.command {
        Command::Serve(arguments) => serve::run(arguments, config),
        Command::Config(arguments) => config::run(arguments, config),
        Command::Check(arguments) => check::run(arguments, config),
    }
}
