//! A program whose responses are streams. `?mode=` says which; the test's directory has its marks.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use cgi_session::{Program, Request, Response, StreamWriter};
use http::HeaderValue;
use http::header::CONTENT_LENGTH;

fn main() -> ExitCode {
    let timeout = env::var("STREAM_WRITE").ok();
    let timeout = timeout.and_then(|text| text.parse().ok()).unwrap_or(60_000);
    let program = Program::new().write_timeout(Duration::from_millis(timeout));
    program.run(page)
}

fn page(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let mode = request.query("mode").unwrap_or_default();
    let size = request.query("size");
    let size: u64 = size.unwrap_or_default().parse().unwrap_or(0);
    if mode.is_empty() {
        return Ok(Response::text("ok"));
    }
    let session = request.session()?;
    let count = session.get::<u64>("count")?.unwrap_or(0) + 1;
    session.insert("count", count)?;
    if mode == "count" {
        return Ok(Response::text(count.to_string()));
    }
    let announces = request.query("announce");
    let response = Response::stream("text/plain", move |out| {
        mark("began")?;
        writeln!(out, "count {count}")?;
        let written = produce(out, &mode, size);
        if written.is_err() {
            mark("failed")?;
        }
        written
    });
    Ok(match announces {
        Some(length) => response.with_header(CONTENT_LENGTH, HeaderValue::try_from(length)?),
        None => response,
    })
}

fn produce(out: &mut StreamWriter<'_>, mode: &str, size: u64) -> io::Result<()> {
    match mode {
        "wait" => {
            while !directory().join("go").exists() {
                thread::sleep(Duration::from_millis(5));
            }
            out.write_all(b"went on\n")
        }
        "blocks" => {
            let block = vec![b'x'; 64 << 10];
            (0..size / block.len() as u64).try_for_each(|_| out.write_all(&block))
        }
        // Longer than a write may be blocked.
        "silent" => {
            thread::sleep(Duration::from_secs(1));
            out.write_all(b"spoke again\n")
        }
        "until the end" => {
            while !out.is_stopping() {
                thread::sleep(Duration::from_millis(5));
            }
            out.write_all(b"bye\n")
        }
        "for ever" => loop {
            thread::sleep(Duration::from_secs(1));
        },
        "fail" => Err(io::Error::other("on\npurpose")),
        "panic" => panic!("on purpose"),
        "passes over errors" => {
            for _ in 0..1000 {
                // The client is gone, and the program does not care.
                let _ = out.write_all(&[b'x'; 1000]);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn mark(name: &str) -> io::Result<()> {
    fs::write(directory().join(name), "")
}

fn directory() -> PathBuf {
    PathBuf::from(env::var_os("ECHO_DIRECTORY").unwrap_or_default())
}
