//! What two processes have left behind: the live sessions, and every file that should not be there.

use std::fs;
use std::path::Path;

use crate::subject::Subject;
use crate::task::id;

/// A directory in memory where there is one; the calls are the same.
pub(crate) fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Like `first=3, new=4 of ada`: sessions by name and number, then what else there is.
pub(crate) fn left(store: &str, directory: &Path) -> String {
    let subject = Subject::open(store, directory, || ());
    let sessions = match subject.all() {
        Ok(sessions) => sessions,
        Err(error) => return format!("cannot be listed: {error}"),
    };
    let mut all = Vec::new();
    for seen in &sessions {
        let (name, number) = (name_of(seen.session.as_str()), seen.number);
        let user = seen.user.as_ref().map(|user| format!(" of {user}"));
        let user = user.unwrap_or_default();
        let listed = if seen.is_listed { "" } else { " (not found)" };
        all.push(format!("{name}={number}{user}{listed}"));
    }
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let is_live = sessions
            .iter()
            .any(|seen| name == format!("{}.json", seen.session));
        let end = name.rsplit('.').next().unwrap_or_default();
        let is_own = ["gc", "count", "user"].contains(&end);
        if !is_live && !is_own {
            all.push(format!("a file .{end}"));
        }
    }
    all.sort();
    if all.is_empty() {
        return "nothing".to_owned();
    }
    all.join(", ")
}

/// What a session is called here; every session that was not there before is the new one.
pub(crate) fn name_of(digest: &str) -> &'static str {
    let mut known = [(0, "first"), (1, "second")].into_iter();
    let found = known.find(|(number, _)| id(*number).digest().as_str() == digest);
    found.map_or("new", |(_, name)| name)
}
