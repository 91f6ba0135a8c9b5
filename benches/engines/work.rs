//! What every store does: page views in sessions of some 500 bytes.

use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Session, SessionId, SessionManager, Sweep};
use rustix::fd::OwnedFd;
use testkit::fastcgi::client::{Address, Client, visit};
use testkit::outside::Killed;
use testkit::program::Outcome as Page;

use crate::measured::{Outcome, number};
use crate::relay;
use crate::subject::Subject;

/// Something that is timed, by its name: it tells how long one of it took.
pub(crate) type Task = (&'static str, fn(&Subject) -> Outcome<Duration>);

pub(crate) const TASKS: [Task; 8] = [
    ("A page view: open, count, commit", page_view),
    ("A snapshot", snapshot),
    ("A new session", creation),
    (
        "A page view of a process of its own, which connects first",
        first_page_view,
    ),
    ("A page view of a CGI program", cgi),
    ("A page view of a FastCGI program", fastcgi),
    ("Page views of four threads, each of its own session", own),
    ("Page views of four threads of one session", shared),
];
pub(crate) const CLEAN_UP: Task = ("A clean-up, a tenth expired", clean_up);

const THREADS: u32 = 4;
const TIMES: u32 = 50;
const PADDING: usize = 420;
const PATIENCE: Duration = Duration::from_secs(10);

/// The time of one of so many.
fn timed(times: u32, mut one: impl FnMut() -> Outcome<()>) -> Outcome<Duration> {
    let started = Instant::now();
    for _ in 0..times {
        one()?;
    }
    Ok(started.elapsed() / times)
}

fn count(mut session: Session) -> Outcome<()> {
    let views = session.get::<u64>("pageViews")?.unwrap_or_default();
    session.insert("pageViews", views + 1)?;
    session.commit()?;
    Ok(())
}

/// A new session of the usual size.
fn make(manager: &SessionManager) -> Outcome<SessionId> {
    let mut session = manager.start("")?;
    session.insert("padding", "x".repeat(PADDING))?;
    session.insert("pageViews", 0)?;
    session.save()?;
    let id = session.id().cloned();
    Ok(id.ok_or("a session that was saved has an id")?)
}

/// The cookie of a new session.
fn begin(manager: &SessionManager) -> Outcome<String> {
    Ok(format!("sessionId={}", make(manager)?.secret()))
}

fn page_view(subject: &Subject) -> Outcome<Duration> {
    let cookie = begin(&subject.manager)?;
    timed(TIMES, || count(subject.manager.start(&cookie)?))
}

fn snapshot(subject: &Subject) -> Outcome<Duration> {
    let cookie = begin(&subject.manager)?;
    timed(TIMES, || {
        let snapshot = subject.manager.read(&cookie)?.ok_or("it is gone")?;
        let views: u64 = snapshot.require("pageViews")?;
        (views == 0).then_some(()).ok_or("it is another's")?;
        Ok(())
    })
}

fn creation(subject: &Subject) -> Outcome<Duration> {
    timed(TIMES, || begin(&subject.manager).map(drop))
}

fn first_page_view(subject: &Subject) -> Outcome<Duration> {
    let cookie = begin(&subject.manager)?;
    timed(TIMES, || count(subject.open()?.start(&cookie)?))
}

/// The page view of a process of its own: the program is started, and has ended.
fn cgi(subject: &Subject) -> Outcome<Duration> {
    let cookie = begin(&subject.manager)?;
    timed(TIMES, || {
        let mut page = subject.page()?;
        page.env("GATEWAY_INTERFACE", "CGI/1.1");
        page.env("REQUEST_METHOD", "GET")
            .env("HTTP_COOKIE", &cookie);
        let output = page.stdin(Stdio::null()).output()?;
        let [out, log] = [output.stdout, output.stderr].map(String::from_utf8);
        Page::parse(&out?, log?).expect(200, "");
        Ok(())
    })
}

/// The page view of a program that stays, from the request's bytes to the last of the answer.
fn fastcgi(subject: &Subject) -> Outcome<Duration> {
    let cookie = begin(&subject.manager)?;
    let place = tempfile::tempdir()?;
    let path = place.path().join("page.sock");
    let listener = OwnedFd::from(UnixListener::bind(&path)?);
    let _program = Killed(subject.page()?.stdin(Stdio::from(listener)).spawn()?);
    let mut client = Client::connect(&Address::Unix(path))?;
    let mut view = || {
        let reply = client.ask(1, &visit(1, 1, "", &cookie));
        let is_served = reply.status() == 200;
        is_served.then_some(()).ok_or_else(|| reply.text().into())
    };
    view()?;
    timed(TIMES, view)
}

/// How often a page view waits for the server's answer: the first on a connection of its own, and one on a kept one.
pub(crate) fn round_trips(subject: &Subject) -> Outcome<[u64; 2]> {
    let Some(socket) = &subject.socket else {
        return Ok([0; 2]);
    };
    let (cookie, relay) = (begin(&subject.manager)?, relay::before(socket)?);
    let own = socket.parent().ok_or("it has a directory")?;
    let [own, other] = [own, relay.directory()].map(|path| path.display().to_string());
    let manager = subject.open_by(&own, &other)?;
    // The server learns the scripts.
    count(subject.manager.start(&cookie)?)?;
    count(manager.start(&cookie)?)?;
    let first = relay.turns();
    count(manager.start(&cookie)?)?;
    Ok([first, relay.turns() - first])
}

/// Page views by as many threads as there are cookies. The time of one is that of all by their number.
fn crowd(subject: &Subject, cookies: &[String]) -> Outcome<Duration> {
    let started = Instant::now();
    let work = |cookie: &String| -> Result<(), String> {
        for _ in 0..TIMES {
            let session = subject.manager.start(cookie);
            let session = session.map_err(|error| error.to_string())?;
            count(session).map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = cookies
            .iter()
            .map(|cookie| scope.spawn(|| work(cookie)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.collect::<Result<Vec<()>, _>>()
    })?;
    Ok(started.elapsed() / (THREADS * TIMES))
}

fn own(subject: &Subject) -> Outcome<Duration> {
    let cookies = (0..THREADS).map(|_| begin(&subject.manager));
    crowd(subject, &cookies.collect::<Outcome<Vec<_>>>()?)
}

fn shared(subject: &Subject) -> Outcome<Duration> {
    let cookie = begin(&subject.manager)?;
    let cookies = vec![cookie.clone(); THREADS as usize];
    let time = crowd(subject, &cookies)?;
    let snapshot = subject.manager.read(&cookie)?.ok_or("it is gone")?;
    let views: u32 = snapshot.require("pageViews")?;
    if views != THREADS * TIMES {
        return Err(format!("{}: {views} of {} counted", subject.name, THREADS * TIMES).into());
    }
    Ok(time)
}

/// Makes a session one that was last used two hours ago.
fn expire(manager: &SessionManager, id: &SessionId) -> Outcome<()> {
    let now = SystemTime::now();
    let found = manager.store().lock(&id.digest(), PATIENCE, now)?;
    let (_, mut lease) = found.ok_or("it is gone")?;
    lease.touch(now - Duration::from_secs(7200))?;
    Ok(())
}

fn clean_up(subject: &Subject) -> Outcome<Duration> {
    let manager = subject.place_of_its_own()?;
    let sessions = number("ENGINES_SESSIONS", 20_000)?;
    let expired = sessions / 10;
    for at in 0..sessions {
        let id = make(&manager)?;
        if at < expired {
            expire(&manager, &id)?;
        }
    }
    let started = Instant::now();
    let report = manager.delete_expired(&Sweep::new())?;
    let time = started.elapsed();
    let live = sessions - expired;
    if report.live != live {
        return Err(format!("{}: {} live, not {live}", subject.name, report.live).into());
    }
    if let Some(error) = manager.uninstall().errors.into_iter().next() {
        return Err(error.one_line().into());
    }
    Ok(time)
}
