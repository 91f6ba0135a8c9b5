//! `cgi-session init`: makes what the store needs, and tries it.

use std::fs;
use std::io;
use std::path::Path;

use cgi_session::{Config, Error};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::account::Account;
use crate::key_file;
use crate::location::Location;
use crate::owner;
use crate::report::{self, Ended};

const EXAMPLES: &str = "\
Examples:
  # As the administrator, for programs that run as www-data
  sudo cgi-session init --owner www-data

  # The table of a database, and as JSON what stands in the way
  cgi-session init --json | jq '.problems[]'

  # A new key for storageType = cookie; sessions under the old ones continue
  sudo cgi-session init --new-key

It makes the directory (mode 0700), the tables or the file of keys that the configured store
needs, tries what a session does, and may run again without harm. Every problem is reported, one line
each; no line means that all is done. For storageType = cookie it makes `secretKeyFile` if it is
missing, with 64 bytes from the operating system as one line of 128 hexadecimal digits, mode 0600.

Exit status: 0 done, 1 with problems, 2 wrong usage, 78 when the configuration cannot be used.";

/// Make what the store needs: the directory, the tables, the file of keys
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Make it for this user (name or number), as whom the web server runs programs; only for root
    #[arg(long, value_name = "USER")]
    owner: Option<String>,

    /// Put a new key before those in `secretKeyFile` (storageType = cookie)
    #[arg(long)]
    new_key: bool,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    let config = Config::find_with(file, &[])?;
    let owner = arguments.owner(&config)?;
    let is_cookie = config.get("storageType").as_deref() == Some("cookie");
    if arguments.new_key && !is_cookie {
        let line = "--new-key is for storageType = cookie; other stores have no keys";
        return Err(Ended::saying(line, report::USAGE));
    }
    let problems = if is_cookie {
        key_file::init(&config, owner.as_ref(), arguments.new_key)?
    } else {
        install(&config, owner.as_ref())?
    };
    for problem in &problems {
        report::error(problem);
    }
    if arguments.json {
        let object = json!({
            "store": Location::of(&config).to_string(),
            "isReady": problems.is_empty(),
            "problems": problems,
        });
        report::output_json(&object);
    }
    Ended::unless(problems.is_empty())
}

/// Makes what the store needs, for its owner; returns what stands in the way.
fn install(config: &Config, owner: Option<&Account>) -> Result<Vec<String>, Ended> {
    let location = Location::of(config);
    if Account::current().is_root() {
        match location.kind() {
            "file" => make_directory(config, owner)?,
            // It is made by the user whose programs will use it.
            "sqlite" if location.is_missing() => match owner {
                None => return Err(unowned(&location)),
                Some(owner) if owner.is_root() => {}
                Some(owner) => return Err(owner.run_this_program(config).into()),
            },
            "sqlite" => {
                if let (Some(path), Some(existing)) = (location.path(), location.owner()) {
                    must_own(owner, &existing, path)?;
                }
            }
            _ => {}
        }
    }
    owner::act_as_owner(config)?;
    let problems = crate::stores::manager(config.clone())?.install();
    Ok(problems.iter().map(Error::one_line).collect())
}

fn unowned(what: impl std::fmt::Display) -> Ended {
    let user = Account::current().programs_handle();
    let line =
        format!("{what} does not exist: say whose programs will use it, as in --owner {user}");
    Ended::saying(&line, report::USAGE)
}

impl Arguments {
    fn owner(&self, config: &Config) -> Result<Option<Account>, Ended> {
        let Some(name) = &self.owner else {
            return Ok(None);
        };
        let current = Account::current();
        let owner = Account::named(name, "--owner")?;
        if !current.is_root() && owner.uid != current.uid {
            let init = report::command_for(config, "init");
            let line =
                format!("only root can give a directory away; try: sudo {init} --owner {name}");
            return Err(Ended::saying(&line, report::USAGE));
        }
        Ok(Some(owner))
    }
}

/// Makes the directory as root, for the user whose programs will use it.
fn make_directory(config: &Config, owner: Option<&Account>) -> Result<(), Ended> {
    let directory = config.storage_file_dir()?;
    let shown = directory.display();
    let Some(existing) = Account::owning(directory) else {
        let Some(owner) = owner else {
            return Err(unowned(shown));
        };
        owner::act_where_others_can(directory, Some(owner), config)?;
        let given = give(directory, owner);
        return Ok(given.map_err(|error| format!("cannot make {shown} for {owner}: {error}"))?);
    };
    must_own(owner, &existing, directory)
}

/// Refuses to make for `owner` what another user has already.
fn must_own(owner: Option<&Account>, existing: &Account, path: &Path) -> Result<(), Ended> {
    let Some(owner) = owner.filter(|owner| owner.uid != existing.uid) else {
        return Ok(());
    };
    let (user, word) = (owner.handle(), cgi_session::shell_word(path));
    let advice = if path.is_file() {
        format!("if it holds sessions alone: chown -R {user} {word}*")
    } else if cgi_session::is_dedicated(path) {
        format!("to give it away: chown -R {user} {word}")
    } else {
        "it is not for sessions alone: name a directory of its own in storageFileDir".to_owned()
    };
    Err(format!("{} belongs to {existing}; {advice}", path.display()).into())
}

fn give(directory: &Path, owner: &Account) -> io::Result<()> {
    rustix::fs::mkdir(directory, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(directory, flags, Mode::empty())?;
    rustix::fs::fchmod(&made, Mode::RWXU)?; // what a umask has taken
    let given = std::os::unix::fs::fchown(&made, Some(owner.uid), Some(owner.gid));
    if given.is_err() {
        // It is empty, and the failure is reported.
        let _ = fs::remove_dir(directory);
    }
    given
}
