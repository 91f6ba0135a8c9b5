//! The workers: a fixed number of threads that share one epoll instance.
//!
//! A worker takes one event at a time: a connection to accept, or a connection that has something
//! to read. It reads on without waiting, but for a moment after accepting; when a request is complete
//! it runs the handler, else it hands the connection back. Every registration is one-shot, so a
//! connection is in one worker's hands or in `idle`, never in both.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use super::connection::{Connection, Place, Progress};
use super::gate::{Gate, Job, Open};
use super::listener::Listener;
use super::{FoundManager, Limits};
use crate::body::Body;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::error_log::{self, report};
use crate::id::SessionId;
use crate::params::Params;
use crate::request::{Request, cookie_header};
use crate::runner::{Answer, Handler, answer, error_page, failure};

/// Events of the two descriptors that are no connections.
const LISTENER: u64 = 0;
const STOP: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// How often connections that do nothing are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How long a worker waits once for the rest of a new connection's first request. A web server connects
/// when it has one, so that it mostly spares handing the connection to another worker. Whoever
/// connects and says nothing costs a worker no more than this.
const FIRST_WORD: Duration = Duration::from_millis(1);
/// How long to wait when the process has no descriptor left for a connection.
const NO_DESCRIPTOR: Duration = Duration::from_millis(20);
/// How long the rest of answered requests is read away when the program ends.
const LAST_DRAIN: Duration = Duration::from_secs(2);
/// The largest buffer that a worker keeps for the next response.
const KEPT_BUFFER: usize = 64 << 10;

pub(super) struct Pool<'a> {
    handler: &'a Handler<'a>,
    manager: FoundManager,
    limits: Limits,
    listener: Listener,
    epoll: OwnedFd,
    /// Connections that are in no worker's hands.
    idle: Mutex<HashMap<u64, Connection>>,
    next_number: AtomicU64,
    open: Arc<AtomicUsize>,
    gate: Gate,
    last_tick: Mutex<Instant>,
    is_stopping: AtomicBool,
}

impl<'a> Pool<'a> {
    pub(super) fn new(
        handler: &'a Handler<'a>,
        manager: FoundManager,
        limits: Limits,
        workers: usize,
        listener: Listener,
        stop: &UnixStream,
    ) -> Result<Self> {
        let failed =
            |errno: Errno| Error::io("cannot wait for events on", "the socket", errno.into());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), once).map_err(failed)?;
        let always = epoll::EventFlags::IN;
        epoll::add(&epoll, stop, epoll::EventData::new_u64(STOP), always).map_err(failed)?;
        Ok(Pool {
            handler,
            manager,
            limits,
            listener,
            epoll,
            idle: Mutex::new(HashMap::new()),
            next_number: AtomicU64::new(FIRST_CONNECTION),
            open: Arc::default(),
            gate: Gate::new(workers),
            last_tick: Mutex::new(Instant::now()),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// What one thread does until the program is to end.
    pub(super) fn work(&self) {
        let mut out = Vec::new();
        while let Some(event) = self.next_event(&mut out) {
            match event {
                LISTENER => {
                    if let Some(connection) = self.accept() {
                        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
                        let is_new = true;
                        let open = Open {
                            number,
                            is_new,
                            connection,
                        };
                        self.drive(Turn::Accepted(open), &mut out);
                    }
                }
                STOP => self.is_stopping.store(true, Ordering::Release),
                number => {
                    let connection = self.idle().remove(&number);
                    if let Some(connection) = connection {
                        let is_new = false;
                        let open = Open {
                            number,
                            is_new,
                            connection,
                        };
                        self.drive(Turn::Read(open), &mut out);
                    }
                }
            }
            if out.capacity() > KEPT_BUFFER {
                out = Vec::new();
            }
            self.tick(&mut out);
        }
    }

    fn next_event(&self, out: &mut Vec<u8>) -> Option<u64> {
        let mut events = Vec::with_capacity(1);
        while !self.is_stopping.load(Ordering::Acquire) {
            let wait = Timespec::try_from(TICK).ok();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                wait.as_ref(),
            ) {
                // A connection that comes with the signal, or after it, is not served.
                Ok(_) if self.is_stopping.load(Ordering::Acquire) => break,
                Ok(_) => {
                    if let Some(event) = events.pop() {
                        return Some(event.data.u64());
                    }
                    self.tick(out);
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    report(&format!("cannot wait for events: {errno}"));
                    thread::sleep(NO_DESCRIPTOR);
                }
            }
        }
        None
    }

    /// Takes one connection and lets another worker take the next.
    fn accept(&self) -> Option<Connection> {
        let accepted = self.listener.accept();
        let accepted = match accepted {
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                // Whoever has been idle longest makes room.
                if !self.close_one_idle() {
                    thread::sleep(NO_DESCRIPTOR);
                }
                None
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => None,
            Err(errno) => {
                report(&format!("cannot accept a connection: {errno}"));
                thread::sleep(NO_DESCRIPTOR);
                None
            }
            Ok(socket) => socket,
        };
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let data = epoll::EventData::new_u64(LISTENER);
        if let Err(errno) = epoll::modify(&self.epoll, &self.listener, data, once) {
            report(&format!("cannot wait for connections: {errno}"));
        }
        let socket = accepted?;
        let (place, taken) = Place::take(&self.open);
        if taken >= self.limits.connections && !self.close_one_idle() {
            return None;
        }
        Some(Connection::new(socket, self.limits, place))
    }

    /// Reads a connection, and handles every request that is complete and everything that may go
    /// on because of it. In turns, so that nobody's next request waits for all of somebody else's.
    fn drive(&self, first: Turn, out: &mut Vec<u8>) {
        let mut turns = VecDeque::from([first]);
        while let Some(turn) = turns.pop_front() {
            match turn {
                Turn::Accepted(open) => {
                    turns.extend(self.read(open, true, out).map(Turn::Handle));
                }
                Turn::Read(open) => turns.extend(self.read(open, false, out).map(Turn::Handle)),
                Turn::Handle(job) => {
                    let session = job.session.clone();
                    // What panics here is no handler; the worker lives on all the same.
                    let handled = panic::catch_unwind(AssertUnwindSafe(|| self.handle(job, out)));
                    turns.extend(handled.ok().flatten().map(Turn::Read));
                    let next = session.and_then(|session| self.gate.leave(&session));
                    turns.extend(next.map(Turn::Handle));
                }
            }
        }
    }

    /// Reads on, until a request may be handled or nothing more has come.
    fn read(&self, mut open: Open, mut may_wait: bool, out: &mut Vec<u8>) -> Option<Job> {
        loop {
            match open.connection.advance() {
                Progress::Waiting if may_wait && open.connection.speaks_within(FIRST_WORD) => {
                    may_wait = false;
                }
                Progress::Waiting => {
                    self.hand_back(open);
                    return None;
                }
                Progress::Closed => return None,
                Progress::BadRequest => {
                    let page = error_page(StatusCode::BAD_REQUEST);
                    if !open.connection.respond(&page, false, out) {
                        return None;
                    }
                }
                Progress::Request(params) => {
                    return self.gate.enter(Job {
                        open,
                        session: self.session_of(&params),
                        params,
                        arrived: Instant::now(),
                    });
                }
            }
        }
    }

    /// Runs the handler and answers. Returns the connection if there is more to read.
    fn handle(&self, job: Job, out: &mut Vec<u8>) -> Option<Open> {
        let Job {
            open,
            params,
            arrived,
            ..
        } = job;
        let Open {
            number,
            is_new,
            connection,
        } = open;
        let connection = Rc::new(RefCell::new(connection));
        let stdin = Box::new(Stdin(Rc::clone(&connection)));
        let length = params.get("CONTENT_LENGTH").map(OsStrExt::as_bytes);
        let body = Body::with_end(stdin, length);
        let manager = self.manager.clone();
        let request = Request::new(params, body, move || manager.get(), arrived);
        let head_only = request.method() == Method::HEAD;
        let (answer, lines) = error_log::keep(|| answer(self.handler, request));
        error_log::write_all(&lines);
        let Answer { response, body, .. } = answer;
        drop(body);
        let goes_on = connection.borrow_mut().respond(&response, head_only, out);
        // The handler's request is gone, and with it the only other owner.
        let connection = Rc::into_inner(connection)?.into_inner();
        if self.is_stopping.load(Ordering::Acquire) {
            connection.close_at_end(Instant::now() + LAST_DRAIN);
            return None;
        }
        goes_on.then_some(Open {
            number,
            is_new,
            connection,
        })
    }

    /// The session that a request names, without a look into its body.
    fn session_of(&self, params: &Params) -> Option<SessionId> {
        let manager = self.manager.get().ok()?;
        let shown = manager.session_id(cookie_header(params));
        shown.or_else(|| linked_session(manager.config(), params))
    }

    /// Leaves a connection to whichever worker sees its next bytes.
    fn hand_back(&self, open: Open) {
        let Open {
            number,
            is_new,
            connection,
        } = open;
        let once = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ONESHOT;
        let data = epoll::EventData::new_u64(number);
        let mut idle = self.idle();
        // In the map first: the event may come before this function returns.
        let connection = idle.entry(number).insert_entry(connection);
        let socket = connection.get().as_fd();
        let armed = if is_new {
            epoll::add(&self.epoll, socket, data, once)
        } else {
            match epoll::modify(&self.epoll, socket, data, once) {
                Err(Errno::NOENT) => epoll::add(&self.epoll, socket, data, once),
                armed => armed,
            }
        };
        if armed.is_err() || self.is_stopping.load(Ordering::Acquire) {
            let connection = connection.remove();
            drop(idle);
            connection.close_at_end(Instant::now() + LAST_DRAIN);
        }
    }

    /// Closes the connection that has been idle longest; tells whether there was one.
    fn close_one_idle(&self) -> bool {
        let mut idle = self.idle();
        let oldest = idle
            .iter()
            .min_by_key(|(_, connection)| connection.last_active)
            .map(|(number, _)| *number);
        let connection = oldest.and_then(|number| idle.remove(&number));
        drop(idle);
        connection.is_some()
    }

    /// Once in a while: closes what has been idle too long, and sends away who waited too long.
    fn tick(&self, out: &mut Vec<u8>) {
        {
            let Ok(mut last) = self.last_tick.try_lock() else {
                return;
            };
            if last.elapsed() < TICK {
                return;
            }
            *last = Instant::now();
        }
        let overdue = |_: &u64, connection: &mut Connection| connection.is_overdue();
        let overdue: Vec<_> = self.idle().extract_if(overdue).collect();
        drop(overdue);
        let Ok(manager) = self.manager.get() else {
            return;
        };
        let longest = manager.config().lock_timeout();
        for job in self.gate.take_overdue(longest) {
            let busy = Error::Busy {
                waited: longest,
                holder: None,
            };
            let Job {
                mut open,
                params,
                session,
                ..
            } = job;
            let session = session.map(|id| id.digest());
            let head_only = params.get("REQUEST_METHOD").is_some_and(|it| it == "HEAD");
            if open
                .connection
                .respond(&failure(&busy, session, false), head_only, out)
            {
                self.drive(Turn::Read(open), out);
            }
        }
    }

    /// No new connection, no new request; what runs is finished by its worker.
    pub(super) fn begin_stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        let idle = std::mem::take(&mut *self.idle());
        let deadline = Instant::now() + LAST_DRAIN;
        for connection in idle.into_values() {
            connection.close_at_end(deadline);
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session that a link names, where `idFrom` allows that.
fn linked_session(config: &Config, params: &Params) -> Option<SessionId> {
    if !config.id_from.query {
        return None;
    }
    let query = params.get("QUERY_STRING")?.as_bytes();
    let mut pairs = form_urlencoded::parse(query);
    let (_, id) = pairs.find(|(name, _)| *name == config.cookie_name)?;
    SessionId::parse(id.as_bytes())
}

/// What a worker does next with a connection.
enum Turn {
    Accepted(Open),
    Read(Open),
    Handle(Job),
}

/// A request's body, as it comes over its connection.
struct Stdin(Rc<RefCell<Connection>>);

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read_body(buffer)
    }
}
