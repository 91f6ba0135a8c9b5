//! A form with files: it is protected by a token, and its files are read as they come.
//!
//! Nothing is written here: a program that keeps files gives them names of its own.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read as _;
use std::process::ExitCode;

use cgi_session::http::Method;
use cgi_session::{Request, Response};
use html_escape::encode_text;

/// The largest file, in bytes.
const MAX_FILE: u64 = 4 << 30;

fn main() -> ExitCode {
    cgi_session::run(upload)
}

fn upload(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    if request.method() != Method::POST {
        let token = request.session()?.csrf_field()?;
        // The token first: it is checked before a file is read.
        return Ok(Response::html(format!(
            r#"<!doctype html><title>Upload</title>
<form method="post" enctype="multipart/form-data">{token}
<input type="file" name="file" multiple> <input name="title"> <button>Send</button></form>"#
        )));
    }
    request.check_csrf_token()?;
    // The session is not held while a slow client sends its files.
    request.commit_session()?;
    let mut list = String::new();
    let mut buffer = vec![0; 64 << 10];
    while let Some(mut file) = request.next_file(MAX_FILE)? {
        let (mut size, mut sum) = (0, 0_u64);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            size += read;
            sum += buffer[..read].iter().copied().map(u64::from).sum::<u64>();
        }
        let name = encode_text(file.file_name());
        writeln!(list, "<li>{name}: {size} bytes, sum {sum}</li>")?;
    }
    // It comes after the files.
    let title = request.form("title")?.unwrap_or_default();
    request.update_session(|session| session.insert("lastUpload", &title))?;
    let title = encode_text(&title);
    Ok(Response::html(format!("<p>{title}</p>\n<ul>{list}</ul>")))
}
