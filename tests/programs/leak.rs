//! The programs of the tests in a responder that keeps a file open and some memory after each request:
//! what a soak must notice.

use std::error::Error;
use std::fs::File;
use std::process::ExitCode;
use std::sync::Mutex;

use cgi_session::{Request, Response};

#[expect(dead_code, reason = "its main belongs to another program")]
#[path = "app.rs"]
mod app;

/// So much that few requests are enough: how many there are in ten seconds is for the machine to say.
const BYTES: usize = 1 << 20;

static KEPT: Mutex<Vec<(File, Vec<u8>)>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    cgi_session::run(leak)
}

fn leak(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let kept = (File::open("/dev/null")?, vec![1; BYTES]);
    if let Ok(mut all) = KEPT.lock() {
        all.push(kept);
    }
    app::app(request)
}
