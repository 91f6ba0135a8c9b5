//! `cgi-session`: the administrator's tool and the try-out server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod serve;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file, instead of the one that programs find.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the demo site, with every example as a CGI program. For trying out.
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    // The server starts this program again for each request to an example.
    if let Some(code) = serve::run_example() {
        return code;
    }
    let arguments = Arguments::parse();
    match &arguments.command {
        Command::Serve(serve) => serve::run(serve, arguments.config.as_deref()),
    }
}
