//! [`Directory`]: a directory of CGI programs and files as a site.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, StatusCode, Uri};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::process::Command;

use super::gateway::Gateway;
use super::reply::{Connection, Failure, Reply, whole};
use super::server::Site;
use super::storage::Storage;
use super::trace::Trace;
use super::variables;
use crate::location::Location;
use crate::report;

const HTML: &str = "text/html; charset=utf-8";
/// The files that are served as they are, by the ends of their names.
const MEDIA_TYPES: [(&str, &str); 14] = [
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", HTML),
    ("html", HTML),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
];
/// What answers for a directory.
const INDEXES: [&str; 2] = ["index.html", "index.cgi"];

/// The programs and files below a directory, and the files below another.
pub(super) struct Directory {
    root: PathBuf,
    documents: Option<PathBuf>,
    /// What programs get besides the variables of a request.
    variables: Vec<(OsString, OsString)>,
    storage: Storage,
    gateway: Gateway,
}

/// What a path of a request leads to.
enum Found {
    /// A file, and how much of the request's path names it, as it is written there.
    File(PathBuf, usize),
    /// A directory that was named without the slash at the end.
    Unfinished,
    Nothing,
}

impl Directory {
    pub(super) fn new(
        programs: &Path,
        documents: Option<&Path>,
        variables: &[(OsString, OsString)],
        storage: Storage,
    ) -> Result<Self, String> {
        let documents = documents.map(|directory| existing("--documents", directory));
        Ok(Directory {
            root: existing("--programs", programs)?,
            documents: documents.transpose()?,
            variables: variables
                .iter()
                .cloned()
                .chain(storage.variables())
                .collect(),
            storage,
            gateway: Gateway::default(),
        })
    }

    async fn run(
        &self,
        file: &Path,
        script: &str,
        path_info: &str,
        (parts, body, connection): (&Parts, Incoming, Connection),
    ) -> Result<Reply, Failure> {
        let variables = variables::of(parts, connection, script, path_info)?;
        let mut command = Command::new(file);
        command.env_clear().env("SCRIPT_FILENAME", file);
        let documents = self.documents.as_ref().unwrap_or(&self.root);
        command.env("DOCUMENT_ROOT", documents);
        command.current_dir(file.parent().unwrap_or(&self.root));
        command.stderr(Stdio::piped());
        // In this order: the last of several variables of one name counts.
        command.envs(variables).envs(self.variables.iter().cloned());
        let answer = self.gateway.run(command, &parts.method, body).await;
        answer.map_err(|failure| failure.of_program(script))
    }

    async fn respond(
        &self,
        parts: Parts,
        body: Incoming,
        connection: Connection,
    ) -> Result<Reply, Failure> {
        let path = parts.uri.path();
        let (mut found, mut may_run) = (find(&self.root, path), true);
        if let (Found::Nothing, Some(documents)) = (&found, &self.documents) {
            (found, may_run) = (find(documents, path), false);
        }
        let (file, end) = match found {
            Found::File(file, end) => (file, end),
            Found::Unfinished => return Ok(moved(&parts.uri)),
            Found::Nothing => {
                let reason = format!("There is no program and no page {path}.");
                return Err(Failure::new(StatusCode::NOT_FOUND, reason));
            }
        };
        let (script, path_info) = path.split_at(end);
        // First: the source of a program is not shown, whatever its name ends in.
        if may_run && is_executable(&file) {
            let request = (&parts, body, connection);
            return self.run(&file, script, path_info, request).await;
        }
        if let Some(media_type) = media_type(&file).filter(|_| path_info.is_empty()) {
            return send(&file, media_type, &parts.method);
        }
        let name = file.file_name().unwrap_or_default();
        let word = cgi_session::shell_word(Path::new(name));
        let name = name.display();
        let reason = if may_run {
            format!("{name} is there, but it is not executable: chmod +x {word}")
        } else {
            format!("{name} is not served from the directory of documents.")
        };
        Err(Failure::new(StatusCode::FORBIDDEN, reason))
    }
}

impl Site for Directory {
    fn greeting(&self) -> String {
        format!(
            "The programs and files of {}, for trying out. In production, use Apache, nginx or lighttpd.\n\
             The sessions live in {}\n",
            self.root.display(),
            Location::of(self.storage.config())
        )
    }

    fn first_page(&self) -> Option<String> {
        let mut roots = [Some(&self.root), self.documents.as_ref()]
            .into_iter()
            .flatten();
        if roots.any(|root| matches!(find(root, "/"), Found::File(..))) {
            return None;
        }
        let entries = fs::read_dir(&self.root).ok()?.flatten();
        let programs = entries.filter(|it| is_file(&it.path()) && is_executable(&it.path()));
        let names = programs.filter_map(|program| program.file_name().into_string().ok());
        names.filter(|name| is_plain(name)).min()
    }

    async fn answer(
        &self,
        parts: Parts,
        body: Incoming,
        connection: Connection,
    ) -> Result<Reply, Failure> {
        let trace = Trace::begin(self.storage.manager(), &parts).await;
        let answered = self.respond(parts, body, connection).await;
        trace.end(&answered).await;
        answered
    }

    fn page(&self, failure: &Failure) -> Reply {
        let (title, text) = failure.page();
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
             <h1>{title}</h1>\n{text}\n</html>\n"
        );
        let mut reply = whole(failure.status, page);
        let html = HeaderValue::from_static(HTML);
        reply.headers_mut().insert(CONTENT_TYPE, html);
        reply
    }
}

/// The real path of a directory that an option names.
fn existing(option: &str, directory: &Path) -> Result<PathBuf, String> {
    let failed = |reason: String| format!("{option} {}: {reason}", directory.display());
    let root = fs::canonicalize(directory).map_err(|error| failed(error.to_string()))?;
    if root.is_dir() {
        Ok(root)
    } else {
        Err(failed("not a directory".to_owned()))
    }
}

/// Looks a path of a request up, each name decoded by itself: `%2F` is a part of a name, and no name has it. `/cgi-bin/`
/// stands for the directory itself if it has none of this name.
fn find(root: &Path, path: &str) -> Found {
    let mut directory = root.to_owned();
    let mut end = 0;
    for encoded in path.split('/').skip(1) {
        end += 1 + encoded.len();
        if encoded.is_empty() {
            // The slash at the end of a directory's name.
            let indexes = INDEXES.map(|index| directory.join(index));
            let index = indexes.into_iter().find(|index| is_file(index));
            let index = index.filter(|_| end == path.len());
            return index.map_or(Found::Nothing, |index| Found::File(index, end));
        }
        let name: Cow<'_, [u8]> = percent_decode_str(encoded).into();
        if !is_name(&name) {
            return Found::Nothing;
        }
        let is_alias = end == "/cgi-bin".len() && encoded == "cgi-bin";
        let next = directory.join(OsStr::from_bytes(&name));
        // Not metadata(): a link may lead out of the directory.
        match fs::symlink_metadata(&next) {
            Ok(found) if found.is_file() => return Found::File(next, end),
            Ok(found) if found.is_dir() => directory = next,
            Err(_) if is_alias => {}
            _ => return Found::Nothing,
        }
    }
    Found::Unfinished
}

/// Sends a file as it is.
fn send(file: &Path, media_type: &'static str, method: &Method) -> Result<Reply, Failure> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let reason = "This page can only be read.";
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    let bytes = fs::read(file).map_err(|error: io::Error| {
        report::error(&format!("cannot read {}: {error}", file.display()));
        Failure::new(StatusCode::FORBIDDEN, "The file cannot be read.")
    })?;
    let mut reply = whole(StatusCode::OK, bytes);
    let media_type = HeaderValue::from_static(media_type);
    reply.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(reply)
}

/// Sends the client to the name with a slash at its end, from which relative links lead right.
fn moved(uri: &Uri) -> Reply {
    let mut reply = whole(StatusCode::MOVED_PERMANENTLY, "");
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    if let Ok(location) = HeaderValue::try_from(format!("{}/{query}", uri.path())) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}

fn media_type(file: &Path) -> Option<&'static str> {
    let end = file.extension()?.to_str()?;
    let mut known = MEDIA_TYPES.iter();
    let (_, media_type) = known.find(|(known, _)| known.eq_ignore_ascii_case(end))?;
    Some(media_type)
}

/// Whether this is a regular file, and no link to one.
#[must_use]
pub fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Whether some user may execute the file.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
}

/// Whether a decoded name is that of one file in a directory: neither hidden nor a step up, of no control characters.
fn is_name(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    !name.is_empty()
        && !text.starts_with(['.', '#'])
        && !text.ends_with('~')
        && !text.contains(|c: char| c == '/' || c.is_control())
}

/// Whether a name is a file's name and nothing but that, however it is written.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_usual)
}
