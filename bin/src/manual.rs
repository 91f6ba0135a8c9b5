//! `cgi-session man` and `cgi-session completions`: made from the command line's own help.

use std::fs;
use std::path::PathBuf;

use clap_complete::Shell;
use clap_mangen::Man;

use crate::report::{self, Ended};

const MAN_EXAMPLES: &str = "\
Examples:
  cgi-session man | man -l -
  sudo cgi-session man --all /usr/local/share/man/man1";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  cgi-session completions bash > ~/.local/share/bash-completion/completions/cgi-session
  cgi-session completions fish > ~/.config/fish/completions/cgi-session.fish";

/// Print the manual page
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct Manual {
    /// Write one page for each command into this directory, which is made if missing
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
}

/// Print a script with which a shell completes commands and options
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

pub(crate) fn man(arguments: &Manual, command: clap::Command) -> Result<(), Ended> {
    let Some(directory) = &arguments.all else {
        let mut page = Vec::new();
        let rendered = Man::new(command).render(&mut page);
        rendered.map_err(|error| format!("cannot write the manual page: {error}"))?;
        report::output(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    let shown = directory.display();
    Ok(written.map_err(|error| format!("cannot write manual pages into {shown}: {error}"))?)
}

pub(crate) fn completions(arguments: &Completions, mut command: clap::Command) {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    report::output(&String::from_utf8_lossy(&script));
}
