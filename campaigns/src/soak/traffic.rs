//! [`Traffic`]: what visitors do, in one thread, and what they must be answered.

use http::StatusCode;

use super::troubles::Troubles;
use super::visitor::Visitor;
use testkit::client::{Answer, Client};
use testkit::counting::Tally;
use testkit::prelude::*;
use testkit::servers::Way;

/// So many visitors take turns in each thread.
const VISITORS: usize = 4;
/// The sizes that a session gets, from nothing to several pages.
const SIZES: [usize; 4] = [0, 100, 3000, 30_000];
/// As much as nginx takes unless it is told otherwise.
const LARGE_BODY: usize = 1 << 20;

/// The visitors of one thread.
pub(crate) struct Traffic<'a> {
    pub(crate) ways: &'a [Way],
    pub(crate) troubles: &'a Troubles,
    /// Sessions that all threads count in.
    pub(crate) shared: &'a [Client],
    pub(crate) visitors: Vec<Visitor>,
    pub(crate) tally: Tally,
    pub(crate) requests: u64,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(ways: &'a [Way], troubles: &'a Troubles, shared: &'a [Client]) -> Self {
        Traffic {
            ways,
            troubles,
            shared,
            visitors: std::iter::repeat_with(Visitor::new)
                .take(VISITORS)
                .collect(),
            tally: Tally::default(),
            requests: 0,
        }
    }

    /// Sends requests until the end, with a pause of about this length after each.
    pub(crate) fn run(mut self, pause: Duration, is_over: &AtomicBool) -> Self {
        while !is_over.load(Ordering::Relaxed) {
            self.act();
            self.requests += 1;
            thread::sleep(pause.mul_f64(0.2 + 1.6 * fastrand::f64()));
        }
        self
    }

    fn act(&mut self) {
        match fastrand::u32(0..100) {
            0..45 => self.come_back(),
            45..60 => self.count_in_a_shared_session(),
            60..70 => self.look_around(),
            70..77 => self.count_once(),
            77..81 => self.leave(),
            81..86 => self.send_broken_cookies(),
            86..91 => self.hang_up(),
            91..94 => self.send_slowly(),
            94..96 => self.send_much(),
            _ => self.miss(),
        }
    }

    fn way(&self) -> Way {
        self.ways[fastrand::usize(0..self.ways.len())]
    }

    /// A request's answer, if it was answered as it should be. Whatever else happened must have a
    /// reason.
    fn ask(&self, client: &mut Client, head: &str, body: &[u8], status: u16) -> Option<Answer> {
        let began = Instant::now();
        let answer = client.try_request(head.as_bytes(), body);
        match answer {
            Ok(answer) if answer.status.as_u16() == status => Some(answer),
            _ if self.troubles.excuse(began) => None,
            Ok(answer) => {
                self.troubles
                    .report(format!("{} to {head:?}: {}", answer.status, answer.body));
                None
            }
            Err(error) => {
                self.troubles.report(format!("{error} at {head:?}"));
                None
            }
        }
    }

    /// Asks for a page, whose answer must be like this. What is wrong with another one is reported.
    fn expect(
        &self,
        client: &mut Client,
        way: Way,
        page: &str,
        wrong: &str,
        is_right: impl Fn(&Answer) -> bool,
    ) {
        let head = format!("GET {} HTTP/1.1\r\n", way.path(page));
        if let Some(answer) = self.ask(client, &head, b"", 200)
            && !is_right(&answer)
        {
            self.troubles.report(format!("{wrong}: {answer:?}"));
        }
    }

    /// A visitor counts, and now and then the session grows, shrinks, or gets another id.
    fn come_back(&mut self) {
        let way = self.way();
        let turn = fastrand::usize(0..self.visitors.len());
        let renews = self.visitors[turn].has_session() && fastrand::u32(0..20) == 0;
        let size = SIZES[fastrand::usize(0..SIZES.len())];
        let query = match (renews, fastrand::u32(0..4)) {
            (true, _) => "?renew=1".to_owned(),
            (_, 0) => format!("?bytes={size}"),
            _ => String::new(),
        };
        // By POST: no server sends that a second time by itself.
        let path = way.path("/ledger");
        let head = format!("POST {path}{query} HTTP/1.1\r\nContent-Length: 0\r\n");
        let mut client = self.visitors[turn].client.at(way.port);
        let before = client.clone();
        let answer = self.ask(&mut client, &head, b"", 200);
        let visitor = &mut self.visitors[turn];
        visitor.client = client;
        let Some(answer) = answer else {
            visitor.note_none(renews);
            return;
        };
        if let Err(wrong) = visitor.note(&answer) {
            self.troubles.report(wrong);
        }
        if renews {
            self.expect_gone(&before);
        }
    }

    /// An id that was replaced or whose session was destroyed leads to nothing, by no way.
    fn expect_gone(&self, old: &Client) {
        let way = self.way();
        let is_gone = |answer: &Answer| answer.body.contains("no session");
        let wrong = "a session came back";
        self.expect(&mut old.at(way.port), way, "/lookup", wrong, is_gone);
    }

    fn count_in_a_shared_session(&mut self) {
        let way = self.way();
        let session = fastrand::usize(0..self.shared.len());
        let mut client = self.shared[session].at(way.port);
        self.tally
            .count(session, &mut client, &way.path("/counter"));
    }

    /// Who stores nothing gets no cookie.
    fn look_around(&self) {
        let way = self.way();
        let has_none = |answer: &Answer| answer.set_cookies().is_empty();
        let wrong = "a cookie for nothing";
        self.expect(&mut way.client(), way, "/lookup", wrong, has_none);
    }

    /// Comes, counts, and is never seen again: clean-up has to notice.
    fn count_once(&self) {
        let way = self.way();
        let is_first = |answer: &Answer| answer.count() == Some(1);
        let wrong = "a new visitor is not the first";
        self.expect(&mut way.client(), way, "/counter", wrong, is_first);
    }

    /// A visitor's session is destroyed, and another visitor comes.
    fn leave(&mut self) {
        let way = self.way();
        let turn = fastrand::usize(0..self.visitors.len());
        if !self.visitors[turn].has_session() {
            return;
        }
        let visitor = std::mem::replace(&mut self.visitors[turn], Visitor::new());
        let head = format!("GET {} HTTP/1.1\r\n", way.path("/lookup?expire=1"));
        let mut client = visitor.client.at(way.port);
        let before = client.clone();
        if self.ask(&mut client, &head, b"", 200).is_some() {
            self.expect_gone(&before);
        }
    }

    fn send_broken_cookies(&self) {
        let way = self.way();
        let cookies = [
            "sessionId=../../etc/passwd",
            "sessionId=%2e%2e%2f; sessionId=\"",
            "=; ;;,,sessionId",
            "sessionId=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ];
        let cookie = cookies[fastrand::usize(0..cookies.len())];
        let path = way.path("/lookup");
        let head = format!("GET {path} HTTP/1.1\r\nCookie: {cookie}\r\n");
        if let Some(answer) = self.ask(&mut way.client(), &head, b"", 200)
            && !answer.body.contains("no session")
        {
            self.troubles
                .report(format!("{cookie} found a session: {answer:?}"));
        }
    }

    /// Ends the connection in the middle of a body. What becomes of it is the server's affair.
    fn hang_up(&self) {
        let way = self.way();
        let path = way.path("/upload");
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
        let half = |mut stream: TcpStream| stream.write_all(format!("{head}half").as_bytes());
        let sent = TcpStream::connect(("127.0.0.1", way.port)).and_then(half);
        // While the server restarts there may be nobody to hang up on.
        drop(sent);
    }

    /// A body that comes in drops.
    fn send_slowly(&self) {
        let way = self.way();
        let began = Instant::now();
        let drip = || -> io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(("127.0.0.1", way.port))?;
            stream.set_read_timeout(Some(DEADLINE))?;
            let path = way.path("/upload");
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"
            )?;
            for _ in 0..10 {
                thread::sleep(Duration::from_millis(100));
                stream.write_all(b"x")?;
            }
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = drip();
        let is_right = |answer: &Vec<u8>| answer.starts_with(b"HTTP/1.1 200");
        if !answer.as_ref().is_ok_and(is_right) && !self.troubles.excuse(began) {
            let answer = answer.map(|answer| String::from_utf8_lossy(&answer).into_owned());
            self.troubles.report(format!("a slow body: {answer:?}"));
        }
    }

    fn send_much(&self) {
        let way = self.way();
        let path = way.path("/upload");
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: {LARGE_BODY}\r\n");
        let body = vec![b'x'; LARGE_BODY];
        let answer = self.ask(&mut way.client(), &head, &body, 200);
        let is_whole = |answer: &Answer| answer.body.contains(&LARGE_BODY.to_string());
        if let Some(answer) = answer.filter(|answer| !is_whole(answer)) {
            let wrong = format!("a body was cut off: {answer:?}");
            self.troubles.report(wrong);
        }
    }

    fn miss(&self) {
        let way = self.way();
        let head = format!("GET {} HTTP/1.1\r\n", way.path("/nothing"));
        let status = StatusCode::NOT_FOUND.as_u16();
        self.ask(&mut way.client(), &head, b"", status);
    }
}
