//! The directory itself: there, ours, and closed to others.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cgi_session::shell_word;
use rustix::fs::Access;

use super::finding::{Finding, Findings};
use crate::account::Account;

const TOPIC: &str = "directory";
const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const OPEN_TO_OTHERS: u32 = 0o077;

/// Looks at `path`; `true` when session files could lie there.
pub(super) fn check(path: &Path, account: &Account, found: &mut Findings) -> bool {
    ancestors(path, found);
    match fs::symlink_metadata(path) {
        Ok(stat) => existing(path, &stat, account, found),
        Err(error) => {
            found.add(match error.kind() {
                ErrorKind::NotFound => missing(path, account),
                ErrorKind::PermissionDenied => unreachable(path, account),
                _ => Finding::problem(TOPIC, format!("cannot examine {}: {error}", path.display()))
                    .remedy(install(path, account)),
            });
            false
        }
    }
}

/// The command that makes the directory as it must be.
pub(super) fn install(path: &Path, account: &Account) -> String {
    // As root: the programs of a site should not run as root.
    let web_server = Account::of_web_server().filter(|_| account.is_root());
    let owner = web_server.as_ref().unwrap_or(account);
    format!(
        "install -d -m 0700 -o {} -g {} {}",
        owner.handle(),
        owner.gid,
        shell_word(path)
    )
}

fn existing(path: &Path, stat: &Metadata, account: &Account, found: &mut Findings) -> bool {
    let shown = path.display();
    if stat.file_type().is_symlink() {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let text = format!(
            "{shown} is a symbolic link; sessions are never kept behind one, \
                            because a user who may change it could lead them elsewhere"
        );
        let target = target.display();
        let remedy = format!("name the directory itself: storageFileDir = {target}");
        found.add(Finding::problem(TOPIC, text).at(path).remedy(remedy));
        return false;
    }
    if !stat.is_dir() {
        let text = format!("{shown} is not a directory");
        let remedy = "name a directory of its own in storageFileDir".to_owned();
        found.add(Finding::problem(TOPIC, text).at(path).remedy(remedy));
        return false;
    }
    let mut is_usable = true;
    if stat.uid() != account.uid {
        let text = format!(
            "{shown} belongs to uid {}, but programs run as {account}; \
                            the directory must be theirs",
            stat.uid()
        );
        let remedy = unless_shared(
            path,
            format!(
                "chown -R {}:{} {}",
                account.handle(),
                account.gid,
                shell_word(path)
            ),
        );
        found.add(Finding::problem(TOPIC, text).at(path).remedy(remedy));
        is_usable = false;
    }
    if stat.mode() & WRITABLE_BY_OTHERS != 0 {
        let text = format!(
            "{shown} can be written by others, who could plant or delete sessions; \
                            it is refused"
        );
        let remedy = unless_shared(path, format!("chmod 0700 {}", shell_word(path)));
        found.add(Finding::problem(TOPIC, text).at(path).remedy(remedy));
        is_usable = false;
    } else if stat.mode() & OPEN_TO_OTHERS != 0 {
        let text = format!(
            "{shown} can be listed or entered by others; the files in it are closed to them"
        );
        let remedy = unless_shared(path, format!("chmod 0700 {}", shell_word(path)));
        found.add(Finding::warning(TOPIC, text).at(path).remedy(remedy));
    } else if is_usable {
        let text = format!("{shown} belongs to {account}, closed to others");
        found.add(Finding::fine(TOPIC, text).at(path));
    }
    is_usable
}

/// A command that changes the directory, unless it holds other things too.
pub(super) fn unless_shared(path: &Path, command: String) -> String {
    if cgi_session::is_dedicated(path) {
        command
    } else {
        "name a directory of its own in storageFileDir".to_owned()
    }
}

fn missing(path: &Path, account: &Account) -> Finding {
    let shown = path.display();
    let parent = path.parent().unwrap_or(path);
    if !parent.exists() {
        let text =
            format!("{shown} does not exist, nor does its parent, so that no program can make it");
        return Finding::problem(TOPIC, text).remedy(install(path, account));
    }
    let may_make = Access::WRITE_OK | Access::EXEC_OK;
    if rustix::fs::access(parent, may_make).is_ok() {
        let text = format!("{shown} does not exist yet; the first session makes it");
        let finding = Finding::warning(TOPIC, text).at(parent);
        return finding.remedy(install(path, account));
    }
    let text = format!(
        "{shown} does not exist, and {account} cannot make it in {}",
        parent.display()
    );
    let finding = Finding::problem(TOPIC, text).at(parent);
    finding.remedy(install(path, account))
}

/// The first directory on the way that is closed to us is the one that counts.
fn unreachable(path: &Path, account: &Account) -> Finding {
    let is_closed = |above: &&Path| rustix::fs::access(*above, Access::EXEC_OK).is_err();
    let closed = path.ancestors().skip(1).filter(is_closed).last();
    let closed = closed.unwrap_or(path);
    let text = format!(
        "{account} cannot reach {}, because {} is closed to it",
        path.display(),
        closed.display()
    );
    // What another account has closed may be closed for a reason.
    let remedy = if Account::owning(closed).is_some_and(|owner| owner.uid == account.uid) {
        format!("chmod u+x {}", shell_word(closed))
    } else {
        "name a directory elsewhere in storageFileDir, such as /var/lib/cgi-session".to_owned()
    };
    Finding::problem(TOPIC, text).at(closed).remedy(remedy)
}

/// A user who may rename the directory away may put another one in its place.
fn ancestors(path: &Path, found: &mut Findings) {
    for above in path.ancestors().skip(1) {
        let Ok(stat) = fs::metadata(above) else {
            continue;
        };
        if stat.mode() & WRITABLE_BY_ALL != 0 && stat.mode() & STICKY == 0 {
            let text = format!(
                "everybody can write in {}, and so put another directory in the place of {}",
                above.display(),
                path.display()
            );
            // Others keep what they may do there, but for removing what is not theirs.
            let remedy = format!("chmod +t {}", shell_word(above));
            found.add(Finding::problem("parent", text).at(above).remedy(remedy));
        }
    }
}
