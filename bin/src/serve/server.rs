//! [`serve`]: a small HTTP server on this machine, for trying out.

use std::future::Future;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::reply::{Connection, Failure, Reply};
use crate::report;

/// A client that sends its request slower than this is no client.
const MAX_HEAD_TIME: Duration = Duration::from_secs(30);
/// How long to wait for a descriptor when the system has none left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a server listens, and where its sessions are.
#[derive(Debug, clap::Args)]
pub struct Listen {
    /// The port to listen on; 0 takes any free one.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// The address to listen on.
    #[arg(long = "listen", value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Where the sessions live; made if it is missing and its parent exists.
    #[arg(long, value_name = "DIR")]
    pub storage_file_dir: Option<PathBuf>,
}

/// The pages of a server.
pub trait Site: Send + Sync + 'static {
    /// What is served and where its sessions are, in two lines.
    fn greeting(&self) -> String;

    /// The name of the page to open first, where `/` has none.
    fn first_page(&self) -> Option<String> {
        None
    }

    /// Answers a request.
    fn answer(
        &self,
        parts: Parts,
        body: Incoming,
        connection: Connection,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// A page that says why there is no other answer.
    fn page(&self, failure: &Failure) -> Reply;
}

/// Serves until it is interrupted.
///
/// # Errors
///
/// The text says why that is not possible.
pub fn serve(listen: &Listen, site: impl Site) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let address = SocketAddr::new(listen.address, listen.port);
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
        ErrorKind::AddrInUse => "\n  try another port: --port 8081, or --port 0 for any free one",
        ErrorKind::PermissionDenied => "\n  try a port from 1024 on: --port 8080",
        ErrorKind::AddrNotAvailable => "\n  --listen takes an address of this machine",
        _ => "",
    };
    format!("cannot listen on {address}: {error}{remedy}")
}

fn announce(site: &impl Site, listener: &TcpListener) -> Result<(), String> {
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
    let (greeting, page) = (site.greeting(), site.first_page().unwrap_or_default());
    let text = format!("{greeting}Open http://{address}/{page} and press Ctrl-C here to end it.\n");
    // The output may be closed.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

async fn accept(listener: TcpListener, site: Arc<impl Site>) {
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

async fn converse(stream: TcpStream, remote: SocketAddr, site: Arc<impl Site>) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let connection = Connection { local, remote };
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, std::convert::Infallible>(answer(&*site, request, connection).await) }
    });
    // A connection that breaks off concerns its client alone.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(site: &impl Site, request: Request<Incoming>, connection: Connection) -> Reply {
    let (parts, body) = request.into_parts();
    let answered = if is_ours(&parts, connection.local.ip()) {
        site.answer(parts, body, connection).await
    } else {
        let reason = "This server answers under its address alone, or as localhost.";
        Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, reason))
    };
    answered.unwrap_or_else(|failure| {
        let mut reply = site.page(&failure);
        if failure.status == StatusCode::METHOD_NOT_ALLOWED {
            let methods = HeaderValue::from_static("GET, HEAD");
            reply.headers_mut().insert(ALLOW, methods);
        }
        reply
    })
}

/// Whether a request is meant for this server: under a name of their own, other sites could have a visitor's
/// browser read its pages and run its programs (DNS rebinding).
fn is_ours(parts: &Parts, local: IpAddr) -> bool {
    let fields = parts.headers.get_all(HOST).into_iter();
    let named = fields.map(|text| text.to_str().ok()?.parse::<Authority>().ok());
    let mut named = named
        .chain(parts.uri.authority().cloned().map(Some))
        .peekable();
    if named.peek().is_none() {
        // A browser always says which server it asks.
        return parts.version < Version::HTTP_11;
    }
    named.all(|authority| {
        authority.is_some_and(|authority| {
            let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
            let address = host.trim_start_matches('[').trim_end_matches(']').parse();
            let is_own = |ip: IpAddr| ip.to_canonical().is_loopback() || ip == local.to_canonical();
            host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(is_own)
        })
    })
}
