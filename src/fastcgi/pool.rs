//! The workers: a fixed number of threads that share one epoll instance.
//!
//! A worker takes one event at a time: a connection to accept, or a connection that has something
//! to read. It reads on without waiting; when a request is complete it runs the handler, else it
//! hands the connection back. Every registration is one-shot, so a connection is in one worker's
//! hands or in `idle`, never in both.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use super::connection::{Connection, Progress};
use super::gate::{Gate, Job};
use super::listener::Listener;
use super::{FoundManager, Limits};
use crate::body::Body;
use crate::error::{Error, Result};
use crate::params::Params;
use crate::request::{Request, cookie_header};
use crate::runner::{Answer, Handler, answer, error_page, report};

/// Events of the two descriptors that are no connections.
const LISTENER: u64 = 0;
const STOP: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// How often connections that do nothing are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How long to wait when the process has no descriptor left for a connection.
const NO_DESCRIPTOR: Duration = Duration::from_millis(20);

pub(super) struct Pool<'a> {
    handler: &'a Handler<'a>,
    manager: FoundManager,
    limits: Limits,
    listener: Listener,
    epoll: OwnedFd,
    /// Connections that are in no worker's hands.
    idle: Mutex<HashMap<u64, Connection>>,
    next_number: AtomicU64,
    open: AtomicUsize,
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
            open: AtomicUsize::new(0),
            gate: Gate::new((workers / 4).max(2)),
            last_tick: Mutex::new(Instant::now()),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// What one thread does until the program is to end.
    pub(super) fn work(&self) {
        let mut out = Vec::new();
        while let Some(event) = self.next_event() {
            match event {
                LISTENER => {
                    if let Some(connection) = self.accept() {
                        self.drive(
                            self.next_number.fetch_add(1, Ordering::Relaxed),
                            connection,
                            true,
                            &mut out,
                        );
                    }
                }
                STOP => self.begin_stop(),
                number => {
                    let connection = self.idle().remove(&number);
                    if let Some(connection) = connection {
                        self.drive(number, connection, false, &mut out);
                    }
                }
            }
            self.tick(&mut out);
        }
    }

    fn next_event(&self) -> Option<u64> {
        let mut events = Vec::with_capacity(1);
        while !self.is_stopping.load(Ordering::Acquire) {
            let wait = Timespec::try_from(TICK).ok();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                wait.as_ref(),
            ) {
                Ok(_) => {
                    if let Some(event) = events.pop() {
                        return Some(event.data.u64());
                    }
                    self.tick(&mut Vec::new());
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
        let is_full = self.open.fetch_add(1, Ordering::Relaxed) >= self.limits.connections;
        if is_full && !self.close_one_idle() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Connection::new(socket, self.limits))
    }

    /// Reads on, and handles every request that is complete.
    fn drive(&self, number: u64, mut connection: Connection, is_new: bool, out: &mut Vec<u8>) {
        loop {
            match connection.advance() {
                Progress::Waiting => return self.hand_back(number, connection, is_new),
                Progress::Closed => return self.close(connection),
                Progress::BadRequest => {
                    let page = error_page(StatusCode::BAD_REQUEST);
                    if !connection.respond(&page, false, out) {
                        return self.close(connection);
                    }
                }
                Progress::Request(params) => {
                    let session = self.session_of(&params);
                    let job = Job {
                        number,
                        is_new,
                        connection,
                        params,
                        session,
                        arrived: Instant::now(),
                    };
                    let Some(job) = self.gate.enter(job) else {
                        return;
                    };
                    match self.handle_all(job, out) {
                        Some(kept) => connection = kept,
                        None => return,
                    }
                }
            }
        }
    }

    /// Handles a request, and then those of its session that wait for it. Returns the connection
    /// of the first if it serves another request.
    fn handle_all(&self, first: Job, out: &mut Vec<u8>) -> Option<Connection> {
        let (session, number) = (first.session.clone(), first.number);
        let mut kept = None;
        let mut next = Some(first);
        while let Some(job) = next {
            let (job_number, is_new) = (job.number, job.is_new);
            let connection = self.handle(job, out);
            next = session
                .as_ref()
                .and_then(|session| self.gate.leave(session));
            match connection {
                Some(connection) if job_number == number => kept = Some(connection),
                Some(connection) => self.hand_back(job_number, connection, is_new),
                None => {}
            }
        }
        kept
    }

    /// Runs the handler and answers. Returns the connection if it serves another request.
    fn handle(&self, job: Job, out: &mut Vec<u8>) -> Option<Connection> {
        let Job {
            connection, params, ..
        } = job;
        let connection = Rc::new(RefCell::new(connection));
        let body = Body::new(Box::new(Stdin(Rc::clone(&connection))), None);
        let manager = self.manager.clone();
        let request = Request::new(params, body, move || manager.get());
        let head_only = request.method() == Method::HEAD;
        let Answer { response, body, .. } = answer(self.handler, request);
        drop(body);
        let keeps = connection.borrow_mut().respond(&response, head_only, out);
        // The handler's request is gone, and with it the only other owner.
        let connection = Rc::into_inner(connection)?.into_inner();
        if keeps && !self.is_stopping.load(Ordering::Acquire) {
            return Some(connection);
        }
        self.close(connection);
        None
    }

    fn session_of(&self, params: &Params) -> Option<crate::SessionId> {
        self.manager.get().ok()?.session_id(cookie_header(params))
    }

    /// Leaves a connection to whichever worker sees its next bytes.
    fn hand_back(&self, number: u64, connection: Connection, is_new: bool) {
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
            self.close(connection);
        }
    }

    fn close(&self, connection: Connection) {
        drop(connection);
        self.open.fetch_sub(1, Ordering::Relaxed);
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
        connection.is_some_and(|connection| {
            self.close(connection);
            true
        })
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
        let overdue: Vec<_> = {
            let longest = self.limits.idle_timeout;
            self.idle()
                .extract_if(|_, connection| connection.last_active.elapsed() > longest)
                .collect()
        };
        for (_, connection) in overdue {
            self.close(connection);
        }
        let Ok(manager) = self.manager.get() else {
            return;
        };
        let longest = manager.config().lock_timeout();
        for mut job in self.gate.take_overdue(longest) {
            report(
                &Error::Busy {
                    waited: longest,
                    holder: None,
                }
                .one_line(),
            );
            let page = error_page(StatusCode::SERVICE_UNAVAILABLE);
            if job.connection.respond(&page, false, out) {
                self.hand_back(job.number, job.connection, job.is_new);
            } else {
                self.close(job.connection);
            }
        }
    }

    /// No new connection, no new request; what runs is finished by its worker.
    fn begin_stop(&self) {
        // The descriptor stays readable, so that every other worker wakes up too.
        self.is_stopping.store(true, Ordering::Release);
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body, as it comes over its connection.
struct Stdin(Rc<RefCell<Connection>>);

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read_body(buffer)
    }
}
