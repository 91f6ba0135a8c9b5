//! Debian's packages: those that are missing are installed with `--install`, and as root.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::measured::Outcome;

/// Installs the packages of those programs or files that are missing.
pub(crate) fn need(what: &[(&str, &str)]) -> Outcome<()> {
    let missing = |what: &[(&str, &str)]| -> Vec<String> {
        let missing = what.iter().filter(|(file, _)| find(file).is_none());
        missing.map(|(_, package)| (*package).to_owned()).collect()
    };
    let packages = missing(what);
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages);
    match missing(what) {
        packages if packages.is_empty() => Ok(()),
        packages => Err(not_installed(&packages.join(", "))),
    }
}

/// Where a program lies, or the file itself if it is there.
pub(crate) fn find(file: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    if file.starts_with('/') {
        return Some(PathBuf::from(file)).filter(|file| file.exists());
    }
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(file))
        .find(|program| program.is_file())
}

/// The version of an installed package.
pub(crate) fn version(package: &str) -> Outcome<String> {
    said(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]))
}

/// What a program that succeeds says, in one line.
pub(crate) fn said(command: &mut Command) -> Outcome<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{} fails", Path::new(command.get_program()).display()).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().replace('\n', " "))
}

/// Whether the command line allows to install anything.
pub(crate) fn may_install() -> bool {
    env::args().any(|argument| argument == "--install")
}

/// Says that something is missing, and how to get it.
pub(crate) fn not_installed(what: &str) -> Box<dyn Error> {
    let advice = if may_install() {
        ""
    } else {
        "; cargo bench --bench peers -- --install installs it"
    };
    format!("{what} not installed{advice}").into()
}

/// Tries to, as root; who asked looks whether it helped.
pub(crate) fn install(packages: &[String]) {
    if !may_install() || !rustix::process::geteuid().is_root() {
        return;
    }
    eprintln!("installing {}", packages.join(", "));
    for arguments in [
        &["update"][..],
        &["install", "--yes", "--no-install-recommends"],
    ] {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-o", "DPkg::Lock::Timeout=120"]);
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        if arguments.len() > 1 {
            apt.args(packages);
        }
        // The table goes to standard output.
        if let Err(error) = apt.stdout(Stdio::null()).status() {
            eprintln!("apt-get: {error}");
        }
    }
}
