//! [`Stores`]: the two stores of a copy, and whether it can be done.

use std::path::Path;

use cgi_session::{Config, Origin};

use crate::account::Account;
use crate::location::Location;
use crate::report::{self, Ended};
use crate::sessions;

/// A password in the environment is of use where only one of the stores needs one.
const PASSWORD: &str = "databasePassword";

pub(super) struct Stores {
    pub(super) from: Config,
    pub(super) to: Config,
    pub(super) old: Location,
    pub(super) new: Location,
}

impl Stores {
    /// Reads both configurations.
    pub(super) fn find(from: &Path, to: &Path) -> Result<Self, Ended> {
        let from = Config::find_with(Some(from), &[])?;
        let to = Config::find_with(Some(to), &[])?;
        let (old, new) = (Location::of(&from), Location::of(&to));
        for location in [&old, &new] {
            can_be_listed(location)?;
        }
        let engines = [&old, &new].map(Location::is_in_engine);
        refuse_environment(&from, engines == [true, true])?;
        if old.is(&new) {
            let line = format!("--from and --to are the same store: {old}");
            return Err(Ended::saying(&line, report::USAGE));
        }
        if old.is_missing() {
            return Err(format!("there are no sessions to copy: {old} does not exist").into());
        }
        // What is there already is not to be evicted.
        let to = to.set("whenFull", "refuse")?;
        Ok(Stores { from, to, old, new })
    }

    /// The user as whom root must continue; `None` when this process can.
    pub(super) fn owner(&self) -> Result<Option<Account>, Ended> {
        if !Account::current().is_root() {
            return Ok(None);
        }
        let owners = [&self.old, &self.new].map(Location::owner);
        let mut owners = owners.into_iter().flatten();
        let (first, second) = (owners.next(), owners.next());
        match (first, second) {
            (Some(first), Some(second)) if first.uid != second.uid => {
                let (old, new) = (&self.old, &self.new);
                let line = format!(
                    "{old} belongs to {first}, {new} to {second}: no user can use both; \
                     copy to a store that belongs to {first}, too"
                );
                Err(Ended::saying(&line, report::CONFIGURATION))
            }
            (owner, _) => {
                if owner.is_none() {
                    sessions::refuse_to_own(&self.to)?;
                }
                Ok(owner.filter(|owner| !owner.is_root()))
            }
        }
    }
}

fn can_be_listed(location: &Location) -> Result<(), Ended> {
    let reason = match location.kind() {
        "cookie" => "the sessions are at the clients, who will not be asked",
        "ram" => "the sessions are in the memory of one program, which no other program can read",
        "custom" => "only the program that brings the store can use it",
        _ => return Ok(()),
    };
    let line = format!("{location} cannot be copied: {reason}");
    Err(Ended::saying(&line, report::USAGE))
}

/// A variable would override both files.
fn refuse_environment(config: &Config, are_both_engines: bool) -> Result<(), Ended> {
    for key in Config::keys() {
        let is_needed = key == PASSWORD && !are_both_engines;
        if let Origin::Environment(name) = config.origin(key)
            && !is_needed
        {
            let line = format!(
                "{name} is set and would hold for both stores; unset it, and set {key} in their files"
            );
            return Err(Ended::saying(&line, report::USAGE));
        }
    }
    Ok(())
}
