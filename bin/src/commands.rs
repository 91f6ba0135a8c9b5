//! The command line of `cgi-session`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    check, cleanup, config, copy, destroy, guard, init, list, manual, new, report, serve, show,
    start, stats, uninstall, value,
};

const EXAMPLES: &str = "\
Examples:
  # Begin a program of your own
  cgi-session new guestbook

  # Try your own CGI programs out in a browser, with nothing installed
  cgi-session serve --programs ~/cgi-bin

  # Which settings hold, and where does each come from?
  cgi-session config

  # Will it work behind the web server, whose user is www-data?
  sudo cgi-session check --as www-data

  # Who is there, and what does one session hold?
  sudo cgi-session list
  sudo cgi-session show 9692e67b8378

  # End one session, or all of a user
  sudo cgi-session destroy 9692e67b8378
  sudo cgi-session destroy --user ada

  # Take all sessions to another store, while the site runs
  sudo cgi-session copy --from /etc/cgi-session.ini --to /etc/cgi-session-new.ini

  # A CGI program in sh, Perl, Python, PHP, ...: its first line gives it the session
  #!/usr/bin/env -S cgi-session start python3

The configuration is found as the programs of the site find it: the file that CGI_SESSION_CONFIG
names, cgi-session.ini beside this program, or /etc/cgi-session.ini; then variables such as
CGI_SESSION_TIMEOUT override single keys. Expired sessions are deleted by cgi-session-cleanup.";

/// Looks after the sessions of CGI programs, and lets you try them out.
#[derive(Debug, Parser)]
#[command(name = "cgi-session", version, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration file; without it, the one that the programs of the site find
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::Arguments),
    Serve(serve::Arguments),
    Config(config::Arguments),
    Check(check::Arguments),
    Stats(stats::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Destroy(destroy::Arguments),
    Get(value::Get),
    Set(value::Set),
    Unset(value::Unset),
    Start(start::Arguments),
    Copy(copy::Arguments),
    Cleanup(cleanup::Arguments),
    Guard(guard::Arguments),
    Init(init::Arguments),
    Uninstall(uninstall::Arguments),
    Man(manual::Manual),
    Completions(manual::Completions),
}

/// The program `cgi-session`.
#[must_use]
pub fn cgi_session() -> ExitCode {
    // `check --stress` starts this program for each process of its trial.
    if let Some(code) = check::take_part_in_trial() {
        return code;
    }
    let arguments: Arguments = report::command_line();
    cgi_session::report_everything();
    let file = arguments.config.as_deref();
    let done = match &arguments.command {
        Command::New(arguments) => new::run(arguments),
        Command::Serve(arguments) => serve::run(arguments, file),
        Command::Config(arguments) => config::run(arguments, file),
        Command::Check(arguments) => check::run(arguments, file),
        Command::Stats(arguments) => stats::run(arguments, file),
        Command::List(arguments) => list::run(arguments, file),
        Command::Show(arguments) => show::run(arguments, file),
        Command::Destroy(arguments) => destroy::run(arguments, file),
        Command::Get(arguments) => value::get(arguments, file),
        Command::Set(arguments) => value::set(arguments, file),
        Command::Unset(arguments) => value::unset(arguments, file),
        Command::Start(arguments) => start::run(arguments, file),
        Command::Copy(arguments) => copy::run(arguments, file),
        Command::Guard(arguments) => guard::run(arguments, file),
        Command::Cleanup(arguments) => cleanup::clean_up(arguments, file),
        Command::Init(arguments) => init::run(arguments, file),
        Command::Uninstall(arguments) => uninstall::run(arguments, file),
        Command::Man(arguments) => manual::man(arguments, Arguments::command()),
        Command::Completions(arguments) => {
            manual::completions(arguments, Arguments::command());
            Ok(())
        }
    };
    report::status_after(&done)
}
