//! The FastCGI responder: FastCGI 1.0, role Responder, without multiplexing.
//!
//! [`connection`] turns records into requests, [`pool`] handles them, and [`workers`] keeps enough
//! threads for that. A response is written after its session is committed.

mod connection;
mod idle;
pub(crate) mod listener;
mod maintenance;
mod pool;
mod record;
mod stream;
mod streams;
mod workers;

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};

use crate::error::{Error, Result};
use crate::gateway::error_log::{self, report};
use crate::gateway::limits::Limits;
use crate::gateway::runner::Handler;
use crate::session::lazy_manager::{LazyManager, RETRY};
use listener::{Bind, Listener};
use maintenance::Maintenance;
use pool::{Load, Pool};
use workers::Workers;

/// How long a program that is to end waits for the requests that run.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// How often it is looked whether all workers are busy.
const LOOK: Duration = Duration::from_secs(1);

/// Where the listening socket comes from.
pub(crate) enum Socket {
    Stdin,
    Systemd,
    Bind(Bind),
}

/// Serves requests until one of the signals that end a program.
pub(crate) fn run(
    handler: &Handler<'_>,
    limits: Limits,
    manager: &LazyManager,
    socket: &Socket,
) -> ExitCode {
    match serve(handler, limits, manager, socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error.one_line());
            ExitCode::FAILURE
        }
    }
}

/// Whether systemd has handed over a socket (`sd_listen_fds(3)`).
pub(crate) fn is_given_by_systemd() -> bool {
    let pid = std::env::var("LISTEN_PID")
        .ok()
        .and_then(|pid| pid.parse().ok());
    pid == Some(std::process::id()) && std::env::var_os("LISTEN_FDS").is_some()
}

fn serve(
    handler: &Handler<'_>,
    limits: Limits,
    manager: &LazyManager,
    socket: &Socket,
) -> Result<()> {
    // First of all: where it is missing, its number is the next that is free.
    let given = match socket {
        Socket::Systemd => Some(Listener::from_systemd()?),
        _ => None,
    };
    // Before another socket exists: once it does, a signal must end the program in order.
    let stop = stop_signal().map_err(|error| Error::io("cannot watch for", "SIGTERM", error))?;
    let listener = match (given, socket) {
        (Some(given), _) => given,
        (None, Socket::Bind(bind)) => Listener::bind(bind)?,
        (None, _) => Listener::from_stdin()?,
    };
    if let Err(error) = manager.get(RETRY) {
        // Every request that asks for a session will say so too.
        report(&error.one_line());
    }
    let workers = Arc::new(Workers::new(&limits));
    let pool = Pool::new(handler, manager.clone(), limits, &workers, listener)?;
    thread::scope(|scope| {
        for number in 1..=workers.size {
            if let Err(error) = pool.start_worker(scope, format!("worker {number}"), false) {
                report(&format!(
                    "cannot start worker {number} of {}: {error}",
                    workers.size
                ));
                if workers.lose(workers.size - number + 1) == 0 {
                    return Err(Error::Config("no worker could be started".to_owned()));
                }
                break;
            }
        }
        pool.start_spare(scope);
        let maintenance = Maintenance::start(scope, manager, &workers.is_stopping);
        // In the thread that is never busy with a request.
        let mut load = Load::default();
        let waited = loop {
            match (&stop).read_exact(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => load.look_at(&pool),
                waited => break waited,
            }
        };
        workers.is_stopping.store(true, Ordering::Relaxed);
        let deadline = pool.begin_stop() + LAST_REQUESTS;
        let all_answered = workers.wait_for_end(deadline);
        let has_ended = maintenance.end(manager, deadline);
        if !all_answered {
            report("ends with requests that took longer than 10 s; they are not answered");
        }
        if !(all_answered && has_ended) {
            std::process::exit(0);
        }
        waited.map_err(|error| Error::io("cannot wait for", "SIGTERM", error))
    })
}

/// What a signal to end writes to. SIGHUP stays ignored where it is,
/// as by nohup(1).
fn stop_signal() -> io::Result<UnixStream> {
    // A file that may not grow is an error of the one request that writes it, not the end of all.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let (read, write) = UnixStream::pair()?;
    read.set_read_timeout(Some(LOOK))?;
    let ignored = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let is_ignored = |signal: i32| ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1);
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2] {
        if signal == SIGHUP && is_ignored(signal) {
            continue;
        }
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Writes what is reported of a request to stderr, and returns it for the server's log, as `errorLog` says.
fn write_lines(lines: Vec<String>, manager: &LazyManager) -> Vec<String> {
    let setting = manager.created().map(|it| it.config().error_log);
    let setting = setting.unwrap_or_default();
    if setting.stderr {
        error_log::write_all(&lines);
    }
    if setting.server { lines } else { Vec::new() }
}

/// Names and values in their order, and the body.
#[cfg(fuzzing)]
pub type ParamsAndBody = (Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>);

/// The requests that a connection reads out of records that come in these pieces, for the fuzz targets.
/// Once the parameters are complete the rest of the bytes comes at once, as the body is waited for.
#[cfg(fuzzing)]
#[must_use]
pub fn read_requests(pieces: &[&[u8]]) -> Vec<ParamsAndBody> {
    use connection::{Connection, ConnectionPermit, Progress};
    use std::io::Write as _;
    use std::net::Shutdown;

    let mut requests = Vec::new();
    let Ok((server, program)) = UnixStream::pair() else {
        return requests;
    };
    if program.set_nonblocking(true).is_err() || server.set_nonblocking(true).is_err() {
        return requests;
    }
    let (place, _) = ConnectionPermit::take(&Arc::default());
    let mut connection = Connection::new(0, program.into(), Limits::default(), place);
    let (mut pieces, mut out) = (pieces.iter(), Vec::new());
    loop {
        let response = match connection.advance() {
            Progress::Closed => return requests,
            Progress::Waiting => {
                // A peer that has nothing more to say says so.
                let said = match pieces.next() {
                    Some(piece) => (&server).write_all(piece),
                    None => server.shutdown(Shutdown::Write),
                };
                if said.is_err() {
                    return requests;
                }
                continue;
            }
            Progress::BadRequest => crate::Response::text("bad"),
            Progress::Request(params) => {
                // What the socket does not take at once is not needed to find a mistake.
                let rest: Vec<_> = pieces.by_ref().copied().collect();
                let _ = (&server).write_all(&rest.concat());
                let _ = server.shutdown(Shutdown::Write);
                let mut body = Vec::new();
                let mut buffer = [0; 100];
                while let Ok(length @ 1..) = connection.read_body(&mut buffer) {
                    body.extend_from_slice(&buffer[..length]);
                }
                let pairs = params.iter();
                let pairs = pairs.map(|(name, value)| (name.to_vec(), value.to_vec()));
                requests.push((pairs.collect(), body));
                crate::Response::text("ok")
            }
        };
        if !matches!(
            connection.respond(&response, false, &[], &mut out),
            Ok(true)
        ) {
            return requests;
        }
    }
}
