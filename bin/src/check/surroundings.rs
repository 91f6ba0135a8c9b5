//! Where the directory lies: not where it is emptied, hidden, or served to the world.

use std::fs;
use std::path::{Path, PathBuf};

use cgi_session::shell_word;

use super::directory::install;
use super::finding::Findings;
use crate::account::Account;
use crate::location::resolved;

const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
const SERVED: [&str; 4] = [
    "/var/www",
    "/srv/www",
    "/usr/share/nginx",
    "/usr/lib/cgi-bin",
];
const SERVED_NAMES: [&str; 3] = ["public_html", "htdocs", "cgi-bin"];
const SIGNS_OF_A_SITE: [&str; 4] = ["index.html", "index.htm", "index.php", ".htaccess"];
const UNIT_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNITS: [&str; 5] = ["apache2", "httpd", "nginx", "lighttpd", "fcgiwrap"];
const BETTER: &str = "/var/lib/cgi-session";
const BETTER_KEY: &str = "/etc/cgi-session.key";

/// Looks at the directory or the file that the configuration names in `key`.
pub(super) fn check(path: &Path, key: &str, account: &Account, found: &mut Findings) {
    let path = resolved(path);
    let shown = path.display();
    let (topic, text) = if let Some(top) = TEMPORARY.iter().find(|top| path.starts_with(top)) {
        ("temporary", format!("{shown} {}", fate(top)))
    } else if let Some(reason) = served_by(&path) {
        let text = format!("{shown} {reason}: a web server may hand out what is in it");
        ("documentRoot", text)
    } else {
        found.fine("place", "neither in a document root nor in /tmp");
        return;
    };
    let remedy = elsewhere(&path, key, account);
    found.problem(topic, text).at(&path).remedy(remedy);
}

/// A better place, and what becomes of that which is at `path`.
fn elsewhere(path: &Path, key: &str, account: &Account) -> String {
    if key == "secretKeyFile" {
        let setting = format!("{key} = {BETTER_KEY}");
        // Other keys would end all sessions.
        let command = format!("mv -n {} {BETTER_KEY}, and ", shell_word(path));
        return if path.exists() {
            command
        } else {
            String::new()
        } + &setting;
    }
    let install = install(Path::new(BETTER), account);
    let name = path.file_name().filter(|_| key != "storageFileDir");
    let better = name.map_or(BETTER.into(), |name| Path::new(BETTER).join(name));
    let how = match key {
        "snapshotFile" => "it is moved while the programs are stopped",
        _ => "cgi-session copy takes them there (docs/operation.md, Move the directory)",
    };
    let better = better.display();
    format!("{install}, and {key} = {better}; present sessions stay behind unless {how}")
}

fn fate(top: &str) -> String {
    match private_unit() {
        Some(unit) => format!(
            "is in {top}, and {} has PrivateTmp: the web server sees a {top} of its own, cron never \
             cleans it, and it is gone when the server restarts",
            unit.display()
        ),
        None => format!(
            "is in {top}, which is emptied at times; a web server under systemd often sees a {top} \
             of its own (PrivateTmp)"
        ),
    }
}

/// The unit of an installed web server that has a /tmp of its own.
fn private_unit() -> Option<PathBuf> {
    let in_directory =
        |directory| UNITS.map(|unit| PathBuf::from(format!("{directory}/{unit}.service")));
    let mut files = UNIT_DIRECTORIES.into_iter().flat_map(in_directory);
    files.find(|file| fs::read_to_string(file).is_ok_and(|text| is_private(&text)))
}

fn is_private(unit: &str) -> bool {
    let mut values = unit
        .lines()
        .filter_map(|line| line.trim().strip_prefix("PrivateTmp="));
    let last = values.next_back().map(str::to_ascii_lowercase);
    matches!(
        last.as_deref(),
        Some("true" | "yes" | "on" | "1" | "disconnected")
    )
}

/// Why a web server may serve files of this directory.
fn served_by(path: &Path) -> Option<String> {
    if let Some(top) = SERVED.iter().find(|top| path.starts_with(top)) {
        return Some(format!("is below {top}"));
    }
    let has_part = |name: &str| path.components().any(|part| part.as_os_str() == name);
    if let Some(name) = SERVED_NAMES.iter().find(|name| has_part(name)) {
        return Some(format!("is below a directory named {name}"));
    }
    let signs = path
        .ancestors()
        .flat_map(|above| SIGNS_OF_A_SITE.map(|sign| above.join(sign)));
    let sign = signs.into_iter().find(|sign| sign.exists())?;
    Some(format!("is beside or below {}", sign.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_tmp_is_read_from_a_unit_as_systemd_reads_it() {
        assert!(is_private("[Service]\nPrivateTmp=true\n"));
        assert!(is_private("PrivateTmp=no\n PrivateTmp=Yes\n"));
        assert!(!is_private("#PrivateTmp=true\nPrivateTmp=false\n"));
        assert!(!is_private("[Service]\n"));
    }

    #[test]
    fn the_usual_document_roots_are_known() {
        for path in [
            "/var/www/html/sessions",
            "/usr/lib/cgi-bin/s",
            "/home/me/public_html/s",
        ] {
            assert!(served_by(Path::new(path)).is_some(), "{path}");
        }
        assert_eq!(served_by(Path::new("/var/www-data")), None);
        assert_eq!(served_by(Path::new("/var/lib/cgi-session")), None);
    }
}
