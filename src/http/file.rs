//! [`Response::file`]: a file of a directory, whole, in part, or not at all when the client has it.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use httpdate::HttpDate;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::request::Request;
use super::response::Response;
use crate::error::Error;

/// A file up to this size is an answer in memory, which needs no thread of its own under FastCGI.
const IN_MEMORY: u64 = 64 << 10;
/// As much as a FastCGI record holds without padding.
const BUFFER: usize = 65_528;

/// How often to try a path that others rename.
#[cfg(target_os = "linux")]
const TRIES: usize = 8;

const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY)
    // To open a FIFO must not wait.
    .union(OFlags::NONBLOCK);
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::DIRECTORY);

/// What names end with, and what is in them then.
const TYPES: [(&str, &str); 22] = [
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
    ("zip", "application/zip"),
];
const OTHER_TYPE: &str = "application/octet-stream";

/// A file that was opened, and is read when the request is known.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    length: u64,
    etag: String,
    modified: Option<HttpDate>,
}

impl Response {
    /// A file below the directory `root`, by a path that may come from a client: `request.path_info()`, say. Nothing
    /// of a client, not even the name of a user, belongs into `root`: a `..` there would count.
    ///
    /// The method is not looked at: a handler that answers OPTIONS, say, does so before. Only a regular file is sent, also
    /// one whose name begins with a dot. What does not exist, is another kind of
    /// file, or lies outside of `root`, by `..` or by a symbolic link, is answered 404. The type follows from the name; set
    /// another with [`Response::with_header`].
    ///
    /// The response has `ETag` and `Last-Modified`. A client that has the file already is answered 304, one that
    /// asks for a part (`Range`) gets 206 with that part or 416; one that asks for several parts gets the whole, as does
    /// one whose `If-Range` is not this `ETag`.
    /// A long file is a stream, as [`Response::stream`] has it. Where the session was used, `cacheLimiter`
    /// says how the file may be cached, unless the response has a Cache-Control of its own.
    ///
    /// ```no_run
    /// use cgi_session::http::StatusCode;
    /// use cgi_session::{Request, Response, Result};
    ///
    /// fn download(request: &mut Request) -> Result<Response> {
    ///     let session = request.read_session()?;
    ///     if session.is_none_or(|session| session.user().is_none()) {
    ///         return Ok(Response::text("Log in first").with_status(StatusCode::FORBIDDEN));
    ///     }
    ///     Ok(Response::file("/srv/reports", request.path_info()))
    /// }
    /// ```
    #[must_use]
    pub fn file(root: impl AsRef<Path>, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        match OpenFile::below(root.as_ref(), path) {
            Ok(Some(file)) => file.response(path),
            Ok(None) => Response::text("Not found\n").with_status(StatusCode::NOT_FOUND),
            Err(error) => Response::of_unreadable(error.one_line()),
        }
    }

    /// The answer to this request, of a file that was not looked at yet (RFC 9110, 13.2.2 and 14.2).
    #[cold]
    pub(crate) fn of_file(mut self, file: Arc<OpenFile>, request: &Request) -> Self {
        let field = |name: HeaderName| request.header(name.as_str()).and_then(|it| it.to_str());
        let is_get = request.method() == Method::GET;
        let head_only = request.method() == Method::HEAD;
        let mut part = (0, file.length);
        if self.status() == StatusCode::OK && (is_get || head_only) {
            if file.is_another(field(IF_MATCH), field(IF_UNMODIFIED_SINCE)) {
                return self.with_status(StatusCode::PRECONDITION_FAILED);
            }
            if file.is_known(field(IF_NONE_MATCH), field(IF_MODIFIED_SINCE)) {
                return self.with_status(StatusCode::NOT_MODIFIED);
            }
            let range = field(RANGE).filter(|_| is_get && file.is_same(field(IF_RANGE)));
            match range.map_or(Part::Whole, |range| part_of(range, file.length)) {
                Part::Whole => {}
                Part::Bytes(start, end) => {
                    let range = format!("bytes {start}-{}/{}", end - 1, file.length);
                    part = (start, end);
                    self = self.with_status(StatusCode::PARTIAL_CONTENT);
                    self.insert(CONTENT_RANGE, &range);
                }
                Part::Nothing => {
                    part = (0, 0);
                    self = self.with_status(StatusCode::RANGE_NOT_SATISFIABLE);
                    self.insert(CONTENT_RANGE, &format!("bytes */{}", file.length));
                }
            }
        }
        let (start, end) = part;
        if head_only || end - start > IN_MEMORY {
            self.insert(CONTENT_LENGTH, &(end - start).to_string());
        }
        if head_only {
            return self;
        }
        if end - start > IN_MEMORY {
            return self.streamed(move |out| file.copy(start, end, out));
        }
        let mut bytes = Vec::new();
        match file.copy(start, end, &mut bytes) {
            Ok(()) => self.with_body(bytes),
            Err(error) => Response::of_unreadable(format!("a file cannot be read: {error}")),
        }
    }

    fn insert(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers_mut().insert(name, value);
        }
    }
}

impl OpenFile {
    /// Opens a regular file below `root`; `None` when there is none of this path.
    fn below(root: &Path, path: &Path) -> Result<Option<Self>, Error> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Ok(None),
            }
        }
        let relative: std::path::PathBuf = names.iter().collect();
        let has_slash = path.as_os_str().as_bytes().ends_with(b"/");
        if names.is_empty() || has_slash {
            return Ok(None);
        }
        let root_failed = |errno: Errno| Error::io("cannot open the directory", root, errno.into());
        let directory = openat(CWD, root, DIRECTORY, Mode::empty()).map_err(root_failed)?;
        let failed = |error| Error::io("cannot open", root.join(&relative), error);
        let file: File = match open_below(directory, &relative) {
            Ok(file) => file.into(),
            Err(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::XDEV
                | Errno::ACCESS
                | Errno::PERM
                | Errno::NAMETOOLONG
                | Errno::INVAL
                | Errno::MLINK
                // A socket.
                | Errno::NXIO,
            ) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        // Not by std, which on 32 bits knows no time after January 2038.
        let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
        let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
        Ok(is_file.then(|| OpenFile::new(file, &stat)))
    }

    fn new(file: File, stat: &Stat) -> Self {
        let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec);
        let (inode, length) = (stat.st_ino, u64::try_from(stat.st_size).unwrap_or_default());
        let since = u64::try_from(seconds).map(Duration::from_secs).ok();
        let modified = since.and_then(|since| UNIX_EPOCH.checked_add(since));
        OpenFile {
            file,
            length,
            etag: format!("\"{inode:x}-{length:x}-{seconds:x}.{nanoseconds:x}\""),
            // A date to come tells a cache nothing (RFC 9110, 8.8.2.1).
            modified: modified
                .filter(|modified| *modified <= SystemTime::now())
                .map(HttpDate::from),
        }
    }

    fn response(self, path: &Path) -> Response {
        let end = path.extension().unwrap_or_default().to_string_lossy();
        let known = TYPES
            .iter()
            .find(|(name, _)| end.eq_ignore_ascii_case(name));
        let content_type = known.map_or(OTHER_TYPE, |(_, content_type)| content_type);
        let mut response = Response::new(HeaderValue::from_static(content_type), "");
        response.insert(ETAG, &self.etag);
        if let Some(date) = self.modified {
            response.insert(LAST_MODIFIED, &date.to_string());
        }
        response.insert(ACCEPT_RANGES, "bytes");
        response.insert(X_CONTENT_TYPE_OPTIONS, "nosniff");
        response.with_file(Arc::new(self))
    }

    /// Whether the client wants the file only as it was (RFC 9110, 13.1.1 and 13.1.4).
    fn is_another(&self, matches: Option<&str>, unmodified_since: Option<&str>) -> bool {
        if let Some(tags) = matches {
            let mut tags = tags.split(',').map(str::trim);
            return !tags.any(|tag| tag == "*" || tag == self.etag);
        }
        let since = unmodified_since.and_then(date);
        since
            .zip(self.modified)
            .is_some_and(|(since, modified)| modified > since)
    }

    /// Whether the client has the file as it is (RFC 9110, 13.1.2 and 13.1.3).
    fn is_known(&self, none_match: Option<&str>, modified_since: Option<&str>) -> bool {
        if let Some(tags) = none_match {
            let mut tags = tags.split(',').map(str::trim);
            return tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.etag);
        }
        let since = modified_since.and_then(date);
        since
            .zip(self.modified)
            .is_some_and(|(since, modified)| modified <= since)
    }

    /// Whether a client has a part of this very file (RFC 9110, 13.1.5). A date does not tell: the file may have
    /// changed twice in its second.
    fn is_same(&self, if_range: Option<&str>) -> bool {
        if_range.is_none_or(|known| known == self.etag)
    }

    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.copy(0, self.length, &mut bytes).map(|()| bytes)
    }

    fn copy(&self, mut start: u64, end: u64, out: &mut dyn io::Write) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        while start < end {
            let left = usize::try_from(end - start).unwrap_or(BUFFER);
            let read = self.file.read_at(&mut buffer[..left.min(BUFFER)], start)?;
            if read == 0 {
                return Err(io::Error::other("the file is shorter than it was"));
            }
            out.write_all(&buffer[..read])?;
            start += read as u64;
        }
        Ok(())
    }
}

/// Opens a file without leaving the directory. A link within it may be followed where the kernel can tell.
fn open_below(directory: OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match openat2(&directory, path, FILE, Mode::empty(), beneath) {
                // Something on the way was renamed meanwhile.
                Err(Errno::AGAIN) => {}
                // Before Linux 5.6, or kept from us by a container.
                Err(Errno::NOSYS | Errno::PERM) => break,
                opened => return opened,
            }
        }
    }
    open_without_links(directory, path)
}

/// Opens a file step by step, through no link at all.
fn open_without_links(mut directory: OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        let flags = if names.peek().is_some() {
            DIRECTORY
        } else {
            FILE
        };
        directory = openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(directory)
}

/// Reads a date in any form that HTTP has had (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<HttpDate> {
    text.parse().ok()
}

enum Part {
    Whole,
    /// From the first to before the second.
    Bytes(u64, u64),
    Nothing,
}

/// The part that a Range field asks for. One that makes no sense, or asks for several, is no field at all.
fn part_of(range: &str, length: u64) -> Part {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than fit are beyond every end.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let unit = range
        .split_once('=')
        .filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"));
    let Some((first, last)) = unit.and_then(|(_, set)| set.trim().split_once('-')) else {
        return Part::Whole;
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Part::Whole,
        (Some(first), _) if first >= length && (last.is_empty() || number(last).is_some()) => {
            Part::Nothing
        }
        (Some(first), Some(last)) => Part::Bytes(first, length.min(last.saturating_add(1))),
        (Some(first), None) if last.is_empty() => Part::Bytes(first, length),
        (None, Some(0)) if first.is_empty() => Part::Nothing,
        (None, Some(_)) if first.is_empty() && length == 0 => Part::Nothing,
        (None, Some(suffix)) if first.is_empty() => {
            Part::Bytes(length.saturating_sub(suffix), length)
        }
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_kernel_cannot_keep_within_a_directory_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("a")).unwrap();
        std::fs::write(path.join("a/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", path.join("a/link")).unwrap();
        std::os::unix::fs::symlink("a", path.join("b")).unwrap();
        let open = |name: &str| {
            let root = openat(CWD, path, DIRECTORY, Mode::empty()).unwrap();
            open_without_links(root, Path::new(name)).map(drop)
        };
        assert_eq!(open("a/file"), Ok(()));
        assert_eq!(open("a/link"), Err(Errno::LOOP));
        assert_eq!(open("b/file"), Err(Errno::NOTDIR));
    }
}
