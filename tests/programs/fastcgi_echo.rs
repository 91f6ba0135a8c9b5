//! A FastCGI program for the tests: what it does is in the query, its limits are in the environment.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, thread};

use cgi_session::{
    CustomFunctions, CustomResult, CustomStore, Program, Request, Response, SessionManager,
    StoreKind,
};
use http::{HeaderName, HeaderValue};

type Outcome = Result<Response, Box<dyn Error + Send + Sync>>;

const NO_LIMIT: u64 = u64::MAX;

/// `storageType = custom`: a store that panics.
const PANICS: StoreKind = StoreKind::new("custom", |config| {
    Ok(Box::new(CustomStore::new(config, Panics)?))
});

fn main() -> ExitCode {
    let idle = milliseconds("ECHO_IDLE", 60_000);
    let read = milliseconds("ECHO_READ", 60_000);
    let write = milliseconds("ECHO_WRITE", 60_000);
    let params = env::var("ECHO_PARAMS").ok();
    let params = params.and_then(|text| text.parse().ok());
    let program = Program::new()
        .max_params_bytes(params.unwrap_or(512 << 10))
        .max_params(params.unwrap_or(1000))
        .idle_timeout(idle);
    let program = program.read_timeout(read).write_timeout(write);
    let mut program = program.store(PANICS);
    if env::var_os("ECHO_AUTHORIZES").is_some() {
        program = program.authorizer();
    }
    match env::var_os("ECHO_STORE") {
        Some(sign) => program.manager(move || store_behind(Path::new(&sign))),
        None => program,
    }
    .run(echo)
}

/// Functions that keep nothing, and panic as long as the directory has a file of their name.
struct Panics;

impl CustomFunctions for Panics {
    fn save(&self, _: &str, _: &str, _: u64) -> CustomResult<()> {
        panic_if("save");
        Ok(())
    }

    fn load(&self, _: &str) -> CustomResult<Option<(String, u64)>> {
        panic_if("load");
        Ok(None)
    }

    fn clean_up(&self, _: u64) -> CustomResult<u64> {
        panic_if("clean-up");
        Ok(0)
    }
}

fn panic_if(name: &str) {
    let directory = PathBuf::from(env::var_os("ECHO_DIRECTORY").unwrap_or_default());
    assert!(!directory.join(name).exists(), "as the file {name} asks");
}

/// A store that is there when this file is, and notes who looked for it.
fn store_behind(sign: &Path) -> Result<SessionManager, cgi_session::Error> {
    if sign.exists() {
        return SessionManager::find();
    }
    let tries = fs::File::options()
        .create(true)
        .append(true)
        .open(sign.with_extension("tries"));
    let noted = tries.and_then(|mut tries| tries.write_all(b"."));
    noted.map_err(|error| cgi_session::Error::store("cannot note a try", error))?;
    Err(cgi_session::Error::unavailable(
        "cannot reach the store",
        "it is not there yet",
    ))
}

fn milliseconds(name: &str, default: u64) -> Duration {
    let given = env::var(name).ok().and_then(|text| text.parse().ok());
    Duration::from_millis(given.unwrap_or(default))
}

fn echo(request: &mut Request) -> Outcome {
    let mode = request.query("mode").unwrap_or_default();
    match mode.as_str() {
        "param" => {
            let name = request.query("name").unwrap_or_default();
            let value = request.param(&name).map(OsStrExt::as_bytes);
            Ok(Response::text(value.unwrap_or(b"(absent)")))
        }
        "header" => {
            let name = request.query("name").unwrap_or_default();
            let value = request.header(&name).map(OsStrExt::as_bytes);
            Ok(Response::text(value.unwrap_or(b"(absent)")))
        }
        "variables" => {
            let all = request.params().map(|(name, value)| {
                let (name, value) = (name.as_bytes(), value.as_bytes());
                [name, b"=", value, b"\n"].concat()
            });
            Ok(Response::text(all.collect::<Vec<_>>().concat()))
        }
        "cookie" => Ok(Response::text(request.cookie("none").unwrap_or_default())),
        "fields" => {
            let one = request.field("none")?.unwrap_or_default();
            let number = request.fields("a")?.len();
            Ok(Response::text(format!("{one}{number}")))
        }
        "save" => {
            request.save_fields(&[])?;
            request.load_fields(&[])?;
            let kept = request.fields("a")?.len();
            Ok(Response::text(kept.to_string()))
        }
        "link" => {
            request.session()?.insert("count", 0)?;
            let address = request.query("address").unwrap_or_default();
            let link = request.link(&address)?;
            Ok(Response::redirect(&link))
        }
        "body" => Ok(Response::text(digest(request)?)),
        "panic" => panic!("as the query asks"),
        "error" => Err("as the query asks".into()),
        "large" => Ok(Response::text(vec![b'x'; number(request, "size")?])),
        "head" => {
            let value = HeaderValue::try_from("h".repeat(number(request, "size")?))?;
            let name = HeaderName::from_static("x-large");
            Ok(Response::text("after a large head").with_header(name, value))
        }
        "warn" => {
            for _ in 0..10 {
                log::warn!("\u{1b}[2J\n{}", "\u{e9}".repeat(1_500));
            }
            let value = HeaderValue::try_from("h".repeat(number(request, "size")?))?;
            let name = HeaderName::from_static("x-large");
            Ok(Response::text("warned").with_header(name, value))
        }
        "deep" => Ok(Response::text(deep(2 << 10).to_string())),
        "wait" => {
            wait()?;
            Ok(Response::text("waited"))
        }
        "read" => {
            let snapshot = request.read_session()?;
            let count = snapshot.map(|session| session.require::<u64>("count"));
            let count = count.transpose()?;
            Ok(Response::text(format!("{}", count.unwrap_or_default())))
        }
        "count" => count(request).map(|count| Response::text(count.to_string())),
        "count-and-read" => {
            let count = count(request)?;
            digest(request)?;
            Ok(Response::text(count.to_string()))
        }
        "count-and-wait" => {
            let count = count(request)?;
            wait()?;
            Ok(Response::text(count.to_string()))
        }
        "count-and-panic" => {
            count(request)?;
            panic!("after counting")
        }
        "count-and-fail" => {
            count(request)?;
            Err("after counting".into())
        }
        _ => Ok(Response::text("ok")),
    }
}

/// Takes at least so many KiB of stack.
fn deep(kib: usize) -> usize {
    let frame = std::hint::black_box([0_u8; 1 << 10]);
    if kib == 0 {
        return 0;
    }
    deep(kib - 1) + 1 + usize::from(frame[kib % frame.len()])
}

fn number(request: &Request, name: &str) -> Result<usize, Box<dyn Error + Send + Sync>> {
    Ok(request.query(name).unwrap_or_default().parse()?)
}

fn count(request: &mut Request) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let session = request.session()?;
    let count = session.get::<u64>("count")?.unwrap_or(0) + 1;
    session.insert("count", count)?;
    Ok(count)
}

/// The length of the body and the sum of its bytes.
fn digest(request: &mut Request) -> io::Result<String> {
    let (mut length, mut sum) = (0_u64, 0_u64);
    let mut body = request.body(NO_LIMIT);
    let mut buffer = [0; 16 << 10];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(format!("{length} {sum}")),
            read => {
                length += u64::try_from(read).unwrap_or_default();
                sum += buffer[..read].iter().copied().map(u64::from).sum::<u64>();
            }
        }
    }
}

/// Tells that the handler runs, and waits until the test makes the file `go`.
fn wait() -> io::Result<()> {
    let directory = PathBuf::from(env::var_os("ECHO_DIRECTORY").unwrap_or_default());
    let name = format!("started-{:?}", thread::current().id());
    fs::write(directory.join(name), "")?;
    while !directory.join("go").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
