//! `cgi-session serve`: the demo site, for trying out.
//!
//! A small HTTP server that starts a program for every request, as Apache does with `mod_cgid`. The
//! examples are part of this binary: it starts itself with the CGI environment and the name of an
//! example, so that one file is a whole site.
//!
//! ```text
//! connection -> site (which page?) -> pages      what never changes
//!                                  -> inspect    the visitor's session file
//!                                  -> gateway    a process for this request, RFC 3875
//!                                  -> responders a process that stays, FastCGI 1.0 (--fastcgi)
//! ```

mod examples;
mod gateway;
mod head;
mod inspect;
mod pages;
mod programs;
mod responders;
mod site;
mod storage;
mod variables;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cgi_session_tools::report;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use examples::run_example;
use site::{Connection, Site};
use storage::Storage;

const EXAMPLES: &str = "\
Examples:
  cgi-session serve
  cgi-session serve --port 0 --programs ~/cgi-bin

It ends when it is interrupted (Ctrl-C). It is for trying out: for visitors, install the programs
behind a web server.";

/// Serve the demo site on this machine, each request a process of its own: for trying out
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The port to listen on; 0 takes any free one.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// Where the sessions live; made if it is missing and its parent exists.
    #[arg(long, value_name = "DIR")]
    storage_file_dir: Option<PathBuf>,
    /// A directory of your own CGI programs, served under /cgi-bin/ before the examples.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Run the examples as FastCGI responders, which stay, instead of a process for each request.
    #[arg(long)]
    fastcgi: bool,
}

/// A client that sends its request slower than this is no client.
const LONGEST_HEAD: Duration = Duration::from_secs(30);
/// How long to wait for a descriptor when the system has none left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is interrupted.
pub(crate) fn run(arguments: &Arguments, config: Option<&Path>) -> ExitCode {
    match start(arguments, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            report::error(&reason);
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments, config: Option<&Path>) -> Result<(), String> {
    let storage = Storage::find(config, arguments.storage_file_dir.as_deref())?;
    let site = Site::new(storage, arguments.programs.as_deref(), arguments.fastcgi)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let address = SocketAddr::new(arguments.listen, arguments.port);
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| cannot_listen(address, &error))?;
        announce(&site, &listener)?;
        tokio::select! {
            () = accept(listener, Arc::new(site)) => Ok(()),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| format!("cannot wait for Ctrl-C: {error}"))
            }
        }
    })
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "\n  try another port: --port 8081, or --port 0 for any free one"
        }
        std::io::ErrorKind::PermissionDenied => "\n  try a port from 1024 on: --port 8080",
        std::io::ErrorKind::AddrNotAvailable => "\n  --listen takes an address of this machine",
        _ => "",
    };
    format!("cannot listen on {address}: {error}{remedy}")
}

fn announce(site: &Site, listener: &TcpListener) -> Result<(), String> {
    let address = listener
        .local_addr()
        .map_err(|error| format!("cannot learn the address: {error}"))?;
    if !address.ip().to_canonical().is_loopback() {
        eprintln!(
            "warning: {} is not a loopback address: everybody who reaches this machine can use this server, \
             run its programs and see what sessions hold",
            address.ip()
        );
    }
    let text = format!(
        "The demo site of cgi-session, for trying out. In production, use Apache, nginx or lighttpd.\n\
         The sessions live in {}\n\
         Open http://{address}/ and press Ctrl-C here to end it.\n",
        site.storage().directory().display()
    );
    // With nobody listening there is nobody to tell.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                tokio::spawn(converse(stream, remote, Arc::clone(&site)));
            }
            Err(error) => {
                report::error(&format!("cannot accept a connection: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, remote: SocketAddr, site: Arc<Site>) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let connection = Connection { local, remote };
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, std::convert::Infallible>(site.answer(request, connection).await) }
    });
    // A connection that breaks off concerns nobody but its client.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
