//! `cgi-session new`: a project for a program with sessions, which builds at once.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::{self, Ended};

const EXAMPLES: &str = "\
Examples:
  cgi-session new guestbook
  cd guestbook && cargo test && cargo build --release

  # A program that keeps running, with units for systemd
  cgi-session new ~/src/guestbook --fastcgi

The project is a page that counts its views, with a test. Cargo.toml and .cargo/config.toml have the
settings with which a CGI program starts fast; README.md says how to build, try and deploy it.
Nothing that is there already is changed.

Exit status: 0 done, 1 the project cannot be written, 2 wrong usage.";

/// The files of every project.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("new/manifest.toml")),
    ("src/main.rs", include_str!("new/main.rs")),
    ("cgi-session.ini", include_str!("new/cgi-session.ini")),
    (".gitignore", include_str!("new/gitignore")),
    ("README.md", include_str!("new/readme.md")),
];
const DEPLOY_CGI: &str = include_str!("new/deploy_cgi.md");
const DEPLOY_FASTCGI: &str = include_str!("new/deploy_fastcgi.md");
const CARGO_CONFIG: &str = include_str!("new/cargo_config.toml");
/// Made by `.ci/start-order`.
const START: &str = include_str!("new/start.ld");
/// Most of a CGI program's time is spent on bringing its code into memory.
const SMALL: &str = "opt-level = \"s\" # Small code starts faster.\n";
const WITHOUT: &str =
    "# Without the feature fastcgi: a program that is CGI alone starts a little faster.\n";
/// By the ends of their names.
const UNITS: [(&str, &str); 2] = [
    ("socket", include_str!("new/unit.socket")),
    ("service", include_str!("new/unit.service")),
];
/// What cargo, Rust or this library has for itself.
const RESERVED: &str = "abstract alloc as async await become box break build cgi-session cgi_session const continue \
    core crate deps do dyn else enum examples extern false final fn for gen if impl in incremental let loop macro \
    match mod move mut override priv proc_macro pub ref return self static std struct super test trait true try \
    type typeof unsafe unsized use virtual where while yield";

/// Create a project for a CGI program with sessions
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The directory to create, whose name is that of the program
    #[arg(value_name = "NAME")]
    directory: PathBuf,

    /// For a program that keeps running and answers by FastCGI
    #[arg(long)]
    fastcgi: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Ended> {
    let directory = &arguments.directory;
    // `.` has a name too.
    let full = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
    let name = full.file_name().unwrap_or_default().to_string_lossy();
    if let Some(reason) = unfit(&name) {
        let line = format!("{name:?} cannot be the name of a program: {reason}");
        return Err(Ended::saying(&line, report::USAGE));
    }
    let project = Project {
        name: name.into_owned(),
        is_fastcgi: arguments.fastcgi,
        checkout: checkout(),
        // What keeps running gains nothing from a fast start.
        musl: musl().filter(|_| !arguments.fastcgi),
    };
    project.write(directory).map_err(|error| {
        let shown = directory.display();
        if error.kind() == ErrorKind::DirectoryNotEmpty {
            let line = format!("{shown} is not empty: choose another name, or remove it first");
            return Ended::saying(&line, report::USAGE);
        }
        format!("cannot create {shown}: {error}").into()
    })?;
    report::output(&project.summary(directory));
    Ok(())
}

/// Why this cannot be the name of a program, as cargo and rustc have it.
fn unfit(name: &str) -> Option<&'static str> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || !name.bytes().all(is_usual) {
        Some("it begins with a letter, and has letters, digits, - and _ alone")
    } else if RESERVED.split(' ').any(|reserved| reserved == name) {
        Some("it is reserved")
    } else {
        None
    }
}

/// The checkout of the library from which this program was built, if it still exists. A program that is built to be
/// the same wherever it is built knows of none.
fn checkout() -> Option<&'static str> {
    if option_env!("SOURCE_DATE_EPOCH").is_some() {
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    root.join("src/lib.rs").exists().then(|| root.to_str())?
}

/// The target of static programs for this machine, and whether the compiler has it.
fn musl() -> Option<(&'static str, bool)> {
    let target = match (OS, ARCH) {
        ("linux", "x86_64") => "x86_64-unknown-linux-musl",
        ("linux", "x86") => "i686-unknown-linux-musl",
        ("linux", "aarch64") => "aarch64-unknown-linux-musl",
        ("linux", "arm") => "armv7-unknown-linux-musleabihf",
        _ => return None,
    };
    let mut rustc = Command::new("rustc");
    let printed = rustc.args(["--print", "target-libdir", "--target", target]);
    let is_installed = printed.output().is_ok_and(|printed| {
        Path::new(String::from_utf8_lossy(&printed.stdout).trim_end()).is_dir()
    });
    Some((target, is_installed))
}

struct Project {
    name: String,
    is_fastcgi: bool,
    checkout: Option<&'static str>,
    musl: Option<(&'static str, bool)>,
}

impl Project {
    fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        if fs::read_dir(directory)?.next().is_some() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let write = |path: &str, text: &str| {
            let path = directory.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, self.filled(text))
        };
        for (path, text) in FILES {
            write(path, text)?;
        }
        if self.musl.is_some() {
            write(".cargo/config.toml", CARGO_CONFIG)?;
            write(".cargo/start.ld", START)?;
        }
        if self.is_fastcgi {
            for (end, text) in UNITS {
                write(&format!("{}.{end}", self.name), text)?;
            }
        }
        Ok(())
    }

    /// A template with what is true of this project.
    fn filled(&self, template: &str) -> String {
        let source = match self.checkout {
            Some(checkout) => format!("path = {checkout:?}"),
            None => format!("version = {:?}", env!("CARGO_PKG_VERSION")),
        };
        let (kind, deploy, features, small) = if self.is_fastcgi {
            ("FastCGI", DEPLOY_FASTCGI, "", "")
        } else {
            let features = ", default-features = false, features = [\"dlmalloc\"]";
            ("CGI", DEPLOY_CGI, features, SMALL)
        };
        let (musl, is_installed) = self.musl.unwrap_or_default();
        let programs = if is_installed {
            format!("target/{musl}/release")
        } else {
            "target/release".to_owned()
        };
        template
            .replace("{{deploy}}\n", deploy)
            .replace("{{dependency}}", &format!("{{ {source}{features} }}"))
            .replace("{{kind}}", kind)
            .replace("{{musl}}", musl)
            .replace("{{name}}", &self.name)
            .replace("{{programs}}", &programs)
            .replace("{{small}}", small)
            .replace("{{without}}", if self.is_fastcgi { "" } else { WITHOUT })
            .replace("{{unless_installed}}", if is_installed { "" } else { "#" })
    }

    fn summary(&self, directory: &Path) -> String {
        let shown = directory.display();
        let checkout = self.checkout.map_or(String::new(), |checkout| {
            format!("it uses the library in {checkout}, from which this program was built\n")
        });
        let target = match self.musl {
            Some((musl, false)) => format!(
                "for a static program: rustup target add {musl}, and remove the # before `target` in \
                 .cargo/config.toml; it is in target/{musl}/release then, and not where README.md says\n"
            ),
            _ => String::new(),
        };
        format!(
            "created {shown}: README.md says how to build, try and deploy it\n{checkout}{target}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_library_is_used_where_there_is_no_checkout() {
        let project = Project {
            name: "guestbook".to_owned(),
            is_fastcgi: false,
            checkout: None,
            musl: Some(("m68k-unknown-linux-musl", false)),
        };
        let version = env!("CARGO_PKG_VERSION");
        let dependency = format!(
            "cgi-session = {{ version = \"{version}\", default-features = false, features = [\"dlmalloc\"] }}\n"
        );
        for (template, line) in [
            (FILES[0].1, dependency.as_str()),
            (CARGO_CONFIG, "\n#target = \"m68k-unknown-linux-musl\"\n"),
            (FILES[4].1, "--programs target/release "),
        ] {
            let text = project.filled(template);
            assert!(text.contains(line), "{text}");
        }
    }
}
