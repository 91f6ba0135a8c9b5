//! What two processes have left behind: the live sessions, and every file that should not be there.

use testkit::prelude::*;

use super::task::id;
use crate::requests::Requests;
use crate::subject::Subject;

/// The sessions whose ids both processes know.
const KNOWN: [(u64, &str); 2] = [(0, "first"), (1, "second")];

/// Like `first=marker, new=4 of ada`: sessions by name and number, then what else there is.
pub(crate) fn left(subject: &Subject, directory: &Path) -> String {
    let requests = Requests::of(subject, directory, || ());
    let sessions = match requests.all() {
        Ok(sessions) => sessions,
        Err(error) => return format!("cannot be listed: {error}"),
    };
    let mut all = Vec::new();
    for seen in &sessions {
        let (name, number) = (name_of(seen.session.as_str()), seen.number);
        let user = seen.user.as_ref().map(|user| format!(" of {user}"));
        let user = user.unwrap_or_default();
        let listed = if seen.is_listed { "" } else { " (not found)" };
        let replaced = ["", " (replaced)"][usize::from(is_replaced(&requests, name))];
        all.push(format!("{name}={number}{user}{replaced}{listed}"));
    }
    for name in file_names(directory) {
        let digest = name.strip_suffix(".json").unwrap_or_default();
        if let Some(session) = SessionDigest::parse(digest.as_bytes())
            && requests.is_marker(&session).unwrap()
        {
            all.push(format!("{}=marker", name_of(digest)));
            continue;
        }
        let mut files = sessions.iter().map(|seen| format!("{}.json", seen.session));
        let is_live = files.any(|file| file == name);
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

/// Of all files, those in shards too.
fn file_names(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            names.extend(file_names(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names
}

/// Whether the session of one of the known ids goes on under another.
fn is_replaced(requests: &Requests, name: &str) -> bool {
    let mut known = KNOWN.into_iter();
    let known = known.find(|(_, known)| *known == name);
    known.is_some_and(|(number, _)| requests.is_replaced(&id(number)).unwrap())
}

/// What a session is called here; every session that was not there before is the new one.
pub(crate) fn name_of(digest: &str) -> &'static str {
    let mut known = KNOWN.into_iter();
    let found = known.find(|(number, _)| id(*number).digest().as_str() == digest);
    found.map_or("new", |(_, name)| name)
}
