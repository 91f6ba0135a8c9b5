//! The workers: threads that share one epoll instance.
//!
//! A worker takes one event at a time: a connection to accept, or a connection that has something
//! to read. It reads on without waiting, but for a moment after accepting; when a request is complete
//! it runs the handler, else it hands the connection back. Every registration of a connection is one-shot,
//! so it is in one worker's hands or in `idle`, never in both.
//!
//! Of several processes on one socket the kernel wakes one for each connection (`EPOLLEXCLUSIVE`), and
//! says so once (`EPOLLET`). So who takes a connection looks for more as long as another worker is
//! free, and leaves a note in `may_be_more` where none is.

use std::cell::RefCell;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::connection::{Connection, ConnectionPermit, OpenConnections, Progress, finish};
use super::idle::IdleConnections;
use super::listener::Listener;
use super::streams::Streams;
use super::workers::{StreamPermit, Turn, Workers};
use super::write_lines;
use crate::error::{Error, Result};
use crate::gateway::error_log::{self, report};
use crate::gateway::error_page::Reason;
use crate::gateway::limits::Limits;
use crate::gateway::runner::{Answer, Handler, answer, clean_up, report_request};
use crate::http::body::Body;
use crate::http::params::Params;
use crate::http::request::Request;
use crate::mutex::lock;
use crate::session;
use crate::session::lazy_manager::LazyManager;

/// Events of the two descriptors that are no connections.
const LISTENER: u64 = 0;
const STOP: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// How often connections that do nothing are looked for.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a worker waits once for the rest of a new connection's first request. A web server connects
/// when it has one, so that it mostly spares handing the connection to another worker. A silent peer
/// costs a worker no more than this.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(1);
/// How long the connections that were made before the program was to end have, all together, for requests that
/// are still under way. One that is answered is closed at once, so that its peer sends no other into the void.
const LAST_REQUESTS_TIMEOUT: Duration = Duration::from_millis(100);
/// How long to wait when the process has no descriptor left for a connection.
const NO_DESCRIPTOR: Duration = Duration::from_millis(20);
/// How often it is looked whether there is room for another response.
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// For how many seconds all workers are busy before it is reported.
const BUSY: u32 = 5;
/// The largest buffer that a worker keeps for the next response.
const KEPT_BUFFER: usize = 64 << 10;

pub(super) struct Pool<'a> {
    handler: Handler<'a>,
    manager: LazyManager,
    limits: Limits,
    listener: Listener,
    /// Wakes all workers.
    stop: OwnedFd,
    /// Connections that were made before the program was to end, and may hold one more request.
    late: Mutex<Vec<Connection>>,
    idle: Arc<IdleConnections>,
    next_number: AtomicU64,
    /// How many workers wait for an event.
    waiting: AtomicUsize,
    /// Connections may wait to be accepted that no event will tell of.
    may_be_more: AtomicBool,
    places: Arc<OpenConnections>,
    streams: Streams<Job>,
    workers: Arc<Workers>,
    last_tick: Mutex<Instant>,
    /// Since when the program is to end.
    stopped: OnceLock<Instant>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(
        handler: &Handler<'a>,
        manager: LazyManager,
        limits: Limits,
        workers: &Arc<Workers>,
        listener: Listener,
    ) -> Result<Self> {
        let failed =
            |errno: Errno| Error::io("cannot wait for events on", "the socket", errno.into());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let always = epoll::EventFlags::IN;
        let one = always | epoll::EventFlags::EXCLUSIVE | epoll::EventFlags::ET;
        epoll::add(
            &epoll,
            &listener.socket,
            epoll::EventData::new_u64(LISTENER),
            one,
        )
        .map_err(failed)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?;
        epoll::add(&epoll, &stop, epoll::EventData::new_u64(STOP), always).map_err(failed)?;
        let places = Arc::default();
        let limits = limits.within_descriptors();
        Ok(Pool {
            handler: *handler,
            manager,
            limits,
            listener,
            stop,
            late: Mutex::default(),
            idle: IdleConnections::new(epoll, &places),
            next_number: AtomicU64::new(FIRST_CONNECTION),
            waiting: AtomicUsize::new(0),
            may_be_more: AtomicBool::new(false),
            places,
            streams: Streams::new(workers.size, limits.places()),
            workers: Arc::clone(workers),
            last_tick: Mutex::new(Instant::now()),
            stopped: OnceLock::new(),
        })
    }

    /// Starts a thread that is ready to stand in for one that waits.
    pub(super) fn start_spare<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let started = self.start_worker(scope, "spare worker".to_owned(), true);
        if self.workers.started(started.is_ok())
            && let Err(error) = started
        {
            report(&format!(
                "no more requests may wait for sessions: cannot start a thread: {error}"
            ));
        }
    }

    pub(super) fn start_worker<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        name: String,
        is_spare: bool,
    ) -> io::Result<()> {
        let worker = handler_thread(name);
        let worker = worker.spawn_scoped(scope, move || {
            session::wait_in(Arc::clone(&self.workers) as Arc<_>);
            let mut turn = is_spare.then(|| self.workers.first_turn());
            // The panic hook has said why; the others are not to do this worker's work.
            while panic::catch_unwind(AssertUnwindSafe(|| self.work(scope, turn.take()))).is_err() {
            }
            self.workers.end_one();
        });
        worker.map(drop)
    }

    /// What one thread does until the program is to end, or the thread is needed no more.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, first: Option<Turn>) {
        let mut out = Vec::new();
        let mut turn = first.unwrap_or_else(|| self.workers.next_turn());
        loop {
            match turn {
                Turn::Serve => {}
                Turn::StartSpare => self.start_spare(scope),
                Turn::End => return,
            }
            let Some(event) = self.next_event(&mut out) else {
                while let Some(connection) = self.take_late() {
                    self.drive(connection, &mut out);
                    self.read_bodies(&mut out);
                }
                return;
            };
            self.serve(event, &mut out);
            if out.capacity() > KEPT_BUFFER {
                out = Vec::new();
            }
            self.tick(&mut out);
            turn = self.workers.next_turn();
        }
    }

    fn serve(&self, event: u64, out: &mut Vec<u8>) {
        let open = match event {
            LISTENER => self.accept(),
            // Its only use is to wake.
            STOP => None,
            number => self.idle.now().remove(&number),
        };
        if let Some(open) = open {
            self.drive(open, out);
        }
        self.read_bodies(out);
    }

    /// Handles the requests that read their bodies themselves, as long as one may.
    fn read_bodies(&self, out: &mut Vec<u8>) {
        while let Some((slot, job)) = self.streams.next() {
            let open = self.handle(job, out);
            drop(slot);
            if let Some(open) = open {
                self.drive(open, out);
            }
        }
    }

    fn next_event(&self, out: &mut Vec<u8>) -> Option<u64> {
        let mut events = Vec::with_capacity(1);
        while !self.idle.is_stopping() {
            // Before the look: who leaves a note looks whether anyone waits afterwards.
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let waited = if self.may_be_more.swap(false, Ordering::SeqCst) {
                Ok(None)
            } else {
                let wait = Timespec::try_from(MAINTENANCE_INTERVAL).ok();
                let buffer = rustix::buffer::spare_capacity(&mut events);
                epoll::wait(&self.idle.epoll, buffer, wait.as_ref()).map(Some)
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            match waited {
                // A connection that comes with the signal, or after it, is not served.
                Ok(_) if self.idle.is_stopping() => break,
                // A process that died may have been told of a connection, and no other.
                Ok(None | Some(0)) => {
                    self.tick(out);
                    return Some(LISTENER);
                }
                Ok(Some(_)) => {
                    if let Some(event) = events.pop() {
                        return Some(event.data.u64());
                    }
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

    /// Whether a connection has something to do, or waits to be accepted.
    fn is_waited_for(&self) -> bool {
        let mut polled = [
            PollFd::new(&self.idle.epoll, PollFlags::IN),
            PollFd::new(&self.listener.socket, PollFlags::IN),
        ];
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Takes one connection, and more for other workers that are free.
    fn accept(&self) -> Option<Connection> {
        let first = self.accept_one()?;
        loop {
            self.may_be_more.store(true, Ordering::SeqCst);
            if self.waiting.load(Ordering::SeqCst) == 0 {
                break;
            }
            match self.accept_one() {
                Some(next) => lock(&self.late).extend(self.idle.hand_back(next)),
                None => break,
            }
        }
        Some(first)
    }

    /// Takes a connection, if one waits that may be served.
    fn accept_one(&self) -> Option<Connection> {
        // Before the look: of what comes after it an event tells.
        self.may_be_more.store(false, Ordering::SeqCst);
        let begun = match self.listener.accept() {
            // The last when the program is to end.
            Err(Errno::AGAIN | Errno::INVAL) => return None,
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => None,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                // The connection that has been idle longest makes room.
                if !self.idle.close_one(None) {
                    thread::sleep(NO_DESCRIPTOR);
                }
                None
            }
            Err(errno) => {
                report(&format!("cannot accept a connection: {errno}"));
                thread::sleep(NO_DESCRIPTOR);
                None
            }
            Ok(socket) => socket.and_then(|socket| self.begin(socket)),
        };
        if begun.is_none() {
            self.may_be_more.store(true, Ordering::SeqCst);
        }
        begun
    }

    /// A connection that was accepted, if there is a place for it.
    fn begin(&self, socket: OwnedFd) -> Option<Connection> {
        let (place, taken) = ConnectionPermit::take(&self.places);
        if taken >= self.limits.connections && !self.idle.close_one(None) {
            self.idle.cut_off.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        Some(Connection::new(number, socket, self.limits(), place))
    }

    fn limits(&self) -> Limits {
        self.limits.configured(&self.manager)
    }

    /// Reads a connection, and handles every request that is complete.
    fn drive(&self, mut connection: Connection, out: &mut Vec<u8>) {
        let mut may_wait = connection.is_new || self.stopped.get().is_some();
        loop {
            let next = match connection.advance() {
                Progress::Waiting if may_wait && self.awaits(&connection) => Some(connection),
                Progress::Waiting => {
                    let ended = self.idle.hand_back(connection);
                    return self.finish(ended.into_iter().collect());
                }
                Progress::Closed => None,
                Progress::BadRequest => {
                    let line = "cannot use the variables of a request: they are too many, too long or make no sense";
                    let why = Reason::Status(StatusCode::BAD_REQUEST);
                    self.refuse(connection, None, why, line, out)
                }
                Progress::Request(params) => {
                    let arrived = Instant::now();
                    let job = Job {
                        connection,
                        params,
                        arrived,
                    };
                    if job.connection.has_whole_body() {
                        self.handle(job, out)
                    } else if let Some(job) = self.streams.add(job) {
                        let line = "a request with a long body is refused: too many others wait (--connections)";
                        self.refuse(job.connection, Some(&job.params), Reason::BUSY, line, out)
                    } else {
                        None
                    }
                }
            };
            let Some(again) = next else { return };
            connection = again;
            may_wait = self.stopped.get().is_some();
        }
    }

    /// Waits for more of the request of a connection that was accepted just now, or before the program was to end.
    fn awaits(&self, connection: &Connection) -> bool {
        let pause = match self.stopped.get() {
            Some(since) => LAST_REQUESTS_TIMEOUT.saturating_sub(since.elapsed()),
            None => FIRST_REQUEST_TIMEOUT,
        };
        !pause.is_zero() && connection.speaks_within(pause)
    }

    /// Runs the handler and answers. Returns the connection if there is more to read.
    fn handle(&self, job: Job, out: &mut Vec<u8>) -> Option<Connection> {
        let connection = Rc::new(RefCell::new(job.connection));
        let stdin = Box::new(RequestBody(Rc::clone(&connection)));
        let length = job.params.get("CONTENT_LENGTH").map(OsStrExt::as_bytes);
        let body = Body::with_end(stdin, length);
        let manager = self.manager.clone();
        let request = Request::new(job.params, body, manager, job.arrived);
        let head_only = request.method() == Method::HEAD;
        // What is sent to change something is done for a client that has left, too.
        let may_give_up = request.method().is_safe();
        // While a worker is free no request has waited for one.
        let has_waited = self.waiting.load(Ordering::Relaxed) == 0;
        if may_give_up && has_waited && connection.borrow().is_left() {
            return None;
        }
        session::wait_for(may_give_up.then(|| Rc::downgrade(&connection) as Weak<_>));
        let mut stream_thread = None;
        let (answer, lines) = error_log::keep(|| {
            answer(&self.handler, request, || {
                stream_thread = self.start_stream();
                stream_thread.is_some()
            })
        });
        let lines = write_lines(lines, &self.manager);
        let Answer {
            response,
            body,
            session,
            manager,
            ..
        } = answer;
        drop(body);
        if let Some(thread) = stream_thread
            && let Some(body) = response.stream_body(head_only).cloned()
        {
            let connection = Rc::into_inner(connection)?.into_inner();
            let (idle, manager) = (Arc::clone(&self.idle), self.manager.clone());
            // The thread waits for it.
            let _ = thread.send(Box::new(move |permit| {
                let whole = connection.stream(
                    &response,
                    &body,
                    &permit,
                    &lines,
                    &manager,
                    session.as_ref(),
                );
                let ended = whole.and_then(|connection| idle.hand_back(connection));
                finish(ended.into_iter().collect());
                drop(permit);
            }));
            return None;
        }
        let goes_on = connection
            .borrow_mut()
            .respond(&response, head_only, &lines, out);
        // By the clock the maintenance thread does so.
        if let Some(manager) = manager.filter(|it| it.config().clean_up_delay().is_none()) {
            clean_up(&manager);
        }
        // The handler's request is gone, and with it the only other owner.
        let mut connection = Rc::into_inner(connection)?.into_inner();
        self.await_room(&mut connection);
        if self.idle.is_stopping() {
            finish(vec![connection]);
            return None;
        }
        matches!(goes_on, Ok(true)).then_some(connection)
    }

    /// Stays with a connection whose peer is taking its response, as long as such responses are too much for memory:
    /// meanwhile no other one is made here.
    fn await_room(&self, connection: &mut Connection) {
        while self.places.owe_too_much() && connection.is_taking() && !self.idle.is_stopping() {
            self.idle.make_room(1);
            if connection.flush_within(ROOM_PAUSE).is_err() {
                return;
            }
        }
    }

    /// Starts the thread of a stream, before anything is saved; what is to be streamed follows when it was. Dropped, it
    /// ends. Says why there is none.
    fn start_stream(&self) -> Option<Sender<StreamWork>> {
        let Some(permit) = self.workers.take_stream() else {
            let most = self.limits.streams;
            report(&format!(
                "a response is not streamed: {most} others are (--streams)"
            ));
            return None;
        };
        let (sender, work) = channel::<StreamWork>();
        let thread = handler_thread("stream".to_owned());
        let started = thread.spawn(move || {
            if let Ok(work) = work.recv() {
                work(permit);
            }
        });
        if let Err(error) = &started {
            report(&format!(
                "a response is not streamed: cannot start a thread: {error}"
            ));
        }
        started.is_ok().then_some(sender)
    }

    /// Once in a while: closes what has been idle too long, and sends away what has waited too long.
    fn tick(&self, out: &mut Vec<u8>) {
        {
            let Ok(mut last) = self.last_tick.try_lock() else {
                return;
            };
            if last.elapsed() < MAINTENANCE_INTERVAL {
                return;
            }
            *last = Instant::now();
        }
        let cut_off = self.idle.cut_off.swap(0, Ordering::Relaxed);
        if cut_off > 0 {
            report(&format!(
                "{cut_off} connections are cut off amid requests: too many are open \
                 (--connections, or the limit of descriptors)"
            ));
        }
        let overdue = |_: &u64, connection: &mut Connection| connection.is_overdue();
        let overdue: Vec<_> = self.idle.now().extract_if(overdue).collect();
        let mut refused = Vec::new();
        for (_, mut connection) in overdue {
            if let Some(params) = connection.end_early() {
                let line = "cannot use the request's body: it came too slowly";
                let slow = Reason::Status(StatusCode::REQUEST_TIMEOUT);
                refused.extend(self.refuse(connection, Some(&params), slow, line, out));
            }
        }
        let is_left = |job: &Job| job.connection.is_left();
        let timeout = self.limits().body_timeout;
        let line = format!(
            "a request with a long body is refused: {} others are being read (--workers, bodyBuffer)",
            self.streams.most
        );
        for job in self.streams.take_overdue(timeout, is_left) {
            let params = Some(&job.params);
            refused.extend(self.refuse(job.connection, params, Reason::BUSY, &line, out));
        }
        for connection in refused {
            self.drive(connection, out);
        }
    }

    /// Answers a request that no handler gets, and reports why. Returns the connection if there is more to read.
    fn refuse(
        &self,
        mut connection: Connection,
        params: Option<&Params>,
        why: Reason,
        line: &str,
        out: &mut Vec<u8>,
    ) -> Option<Connection> {
        let (page, lines) = error_log::keep(|| {
            report_request(line, None, None);
            self.handler.page(why, params)
        });
        let lines = write_lines(lines, &self.manager);
        let goes_on = connection.respond(&page, false, &lines, out);
        matches!(goes_on, Ok(true)).then_some(connection)
    }

    /// Closes connections of which no request runs. One whose body was being collected is refused.
    fn finish(&self, open: Vec<Connection>) {
        let answered = open.into_iter().filter_map(|mut connection| {
            let Some(params) = connection.end_early() else {
                return Some(connection);
            };
            let line = "a request is refused: the program ends";
            self.refuse(
                connection,
                Some(&params),
                Reason::BUSY,
                line,
                &mut Vec::new(),
            )
        });
        finish(answered.collect());
    }

    /// No new connection, and no new request but the one that a connection may have been sent by now; what runs
    /// is finished by its worker. Returns since when.
    pub(super) fn begin_stop(&self) -> Instant {
        // Another program may keep the socket's directory for a while; until then the workers go on.
        let waiting = self.listener.end().into_iter();
        // The workers end when this list is empty.
        let mut late = lock(&self.late);
        late.extend(waiting.filter_map(|socket| self.begin(socket)));
        let since = *self.stopped.get_or_init(Instant::now);
        let idle = self.idle.begin_stop().into_values();
        let (between, others): (Vec<_>, Vec<_>) = idle.partition(Connection::is_between_requests);
        late.extend(between);
        // They are taken from the end: first those whose request has come.
        late.sort_by_cached_key(|connection| connection.speaks_within(Duration::ZERO));
        drop(late);
        // The workers look at the flag once a second in any case.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        self.workers.begin_stop();
        self.finish(others);
        since
    }

    fn take_late(&self) -> Option<Connection> {
        lock(&self.late).pop()
    }
}

/// How long all workers have been busy while requests wait: these get no answer, and no other line tells of them.
#[derive(Default)]
pub(super) struct Load {
    /// In looks, one a second.
    busy: u32,
    /// How many looks are to come before the next line.
    silent: u32,
}

impl Load {
    pub(super) fn look_at(&mut self, pool: &Pool<'_>) {
        let is_busy = pool.waiting.load(Ordering::Relaxed) == 0 && pool.is_waited_for();
        self.busy = if is_busy { self.busy + 1 } else { 0 };
        self.silent = self.silent.saturating_sub(1);
        if self.busy >= BUSY && self.silent == 0 {
            let (workers, seconds) = (pool.workers.size, self.busy);
            report(&format!(
                "all {workers} workers have been busy for {seconds} s while requests wait (--workers)"
            ));
            self.silent = 60;
        }
    }
}

/// A thread with as much stack as a CGI program mostly has, where there are enough addresses.
fn handler_thread(name: String) -> thread::Builder {
    let stack = if usize::BITS < 64 { 2 << 20 } else { 8 << 20 };
    thread::Builder::new().name(name).stack_size(stack)
}

/// A request that is ready for its handler.
struct Job {
    connection: Connection,
    params: Params,
    arrived: Instant,
}

type StreamWork = Box<dyn FnOnce(StreamPermit) + Send>;

/// A request's body, as it comes over its connection.
struct RequestBody(Rc<RefCell<Connection>>);

impl Read for RequestBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read_body(buffer)
    }
}

impl session::Client for RefCell<Connection> {
    fn is_left(&self) -> bool {
        self.try_borrow().is_ok_and(|it| it.is_left())
    }
}
