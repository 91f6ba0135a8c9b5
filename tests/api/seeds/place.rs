//! The example programs as web servers start them, and a visitor who keeps one cookie.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use testkit::example;
use testkit::fastcgi::client::{KEEP, STDIN, head, params, record, stream};
use testkit::fastcgi::server::{Server, Setup, Socket};
use testkit::program::Cgi;
use testkit::site::Site;

/// A site whose programs run in one of the two ways.
pub(crate) struct Place {
    pub(crate) site: Site,
    /// The one program that has all examples in it; none where each request is a process.
    responder: Option<Server>,
}

impl Place {
    /// Every request is a process of its own.
    pub(crate) fn cgi(settings: &str) -> Self {
        Place {
            site: Site::with_settings(settings),
            responder: None,
        }
    }

    /// One process for all requests.
    pub(crate) fn fastcgi(settings: &str) -> Self {
        let site = Site::with_settings(settings);
        let responder = Some(responder(&site));
        Place { site, responder }
    }

    /// A place of each kind.
    pub(crate) fn both(settings: &str) -> [Self; 2] {
        [Place::cgi(settings), Place::fastcgi(settings)]
    }

    /// Ends the program, if there is one that runs, and starts it again.
    pub(crate) fn restart(&mut self) {
        if let Some(running) = self.responder.take() {
            drop(running);
            self.responder = Some(responder(&self.site));
        }
    }

    /// The program's process id; none where each request is a process.
    pub(crate) fn program(&self) -> Option<&Server> {
        self.responder.as_ref()
    }

    /// The session files, without what the store keeps beside them.
    pub(crate) fn sessions(&self) -> Vec<PathBuf> {
        session_files(&self.site.sessions())
    }

    /// Sends a request for an example; `form` makes it a POST.
    #[track_caller]
    pub(crate) fn ask(&self, address: &str, cookie: Option<&str>, form: Option<&str>) -> Page {
        let (program, query) = address.split_once('?').unwrap_or((address, ""));
        match &self.responder {
            None => self.ask_cgi(program, query, cookie, form),
            Some(server) => ask_fastcgi(server, program, query, cookie, form),
        }
    }

    #[track_caller]
    fn ask_cgi(
        &self,
        program: &str,
        query: &str,
        cookie: Option<&str>,
        form: Option<&str>,
    ) -> Page {
        let mut request = Cgi::new(program, &self.site).query(query);
        if let Some(cookie) = cookie {
            request = request.cookie(cookie);
        }
        if let Some(form) = form {
            request = request.form(form);
        }
        let outcome = request.run();
        let cookies = outcome.headers.into_iter();
        let cookies = cookies.filter(|(name, _)| name == "set-cookie");
        Page::new(
            outcome.status,
            cookies.map(|(_, value)| value).collect(),
            outcome.body,
        )
    }
}

#[track_caller]
fn ask_fastcgi(
    server: &Server,
    program: &str,
    query: &str,
    cookie: Option<&str>,
    form: Option<&str>,
) -> Page {
    let path = format!("/{program}");
    let length = form.unwrap_or_default().len().to_string();
    let mut more = vec![("PATH_INFO", path.as_bytes())];
    more.extend(cookie.map(|cookie| ("HTTP_COOKIE", cookie.as_bytes())));
    if form.is_some() {
        let content_type = b"application/x-www-form-urlencoded".as_slice();
        more.push(("CONTENT_TYPE", content_type));
        more.push(("CONTENT_LENGTH", length.as_bytes()));
    }
    let method = if form.is_some() { "POST" } else { "GET" };
    let body = match form {
        Some(form) => stream(STDIN, 1, form.as_bytes(), 60_000),
        None => record(STDIN, 1, b""),
    };
    let request = [head(1, KEEP, &params(method, query, &more)), body].concat();
    let reply = server.connect().ask(1, &request);
    let lines = reply.head.lines();
    let cookies = lines.filter_map(|line| line.strip_prefix("Set-Cookie: "));
    Page::new(
        reply.status(),
        cookies.map(str::to_owned).collect(),
        reply.text(),
    )
}

fn responder(site: &Site) -> Server {
    // Built, if it is not; the setup only looks for it.
    example("app");
    Setup::new("app", Socket::StdinUnix)
        .variable("CGI_SESSION_CONFIG", site.config().display())
        .variable("CGI_SESSION_STORAGE_FILE_DIR", site.sessions().display())
        .start()
}

/// The session files of a directory, which need not exist.
pub(crate) fn session_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_session = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    paths.filter(is_session).collect()
}

/// Makes a file of the store look as if it was last used so long ago.
pub(crate) fn make_older(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(ago(seconds)).unwrap();
}

pub(crate) fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    /// The whole of the one Set-Cookie field, if there was one.
    pub(crate) set_cookie: Option<String>,
    pub(crate) body: String,
}

impl Page {
    #[track_caller]
    fn new(status: u16, mut cookies: Vec<String>, body: String) -> Self {
        assert!(cookies.len() <= 1, "several cookies: {cookies:?}");
        let set_cookie = cookies.pop();
        Page {
            status,
            set_cookie,
            body,
        }
    }

    /// Expects this status, and this text in the page.
    #[track_caller]
    pub(crate) fn expect(self, status: u16, text: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.body.contains(text), "no {text:?} in {}", self.body);
        self
    }

    /// Expects a page that sends no cookie.
    #[track_caller]
    pub(crate) fn sends_no_cookie(self) -> Self {
        assert_eq!(self.set_cookie, None);
        self
    }

    /// Expects a page that takes the cookie away.
    #[track_caller]
    pub(crate) fn removes_the_cookie(self) -> Self {
        let set_cookie = self.set_cookie.as_deref().expect("a cookie");
        assert!(set_cookie.starts_with("sessionId=;"), "{set_cookie}");
        assert!(set_cookie.contains("Max-Age=0"), "{set_cookie}");
        self
    }

    /// The number in the counter's page.
    #[track_caller]
    pub(crate) fn views(&self) -> u64 {
        let (_, rest) = self.body.split_once("been here ").expect("a count");
        let (number, _) = rest.split_once(' ').unwrap();
        number.parse().unwrap()
    }
}

/// A browser that keeps one cookie and goes back and forth between pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitor {
    /// As the Cookie header has it: `name=value`.
    pub(crate) cookie: Option<String>,
}

impl Visitor {
    pub(crate) fn new() -> Self {
        Visitor::default()
    }

    #[track_caller]
    pub(crate) fn get(&mut self, place: &Place, address: &str) -> Page {
        let page = place.ask(address, self.cookie.as_deref(), None);
        self.keep_cookie(&page);
        page
    }

    #[track_caller]
    pub(crate) fn post(&mut self, place: &Place, address: &str, form: &str) -> Page {
        let page = place.ask(address, self.cookie.as_deref(), Some(form));
        self.keep_cookie(&page);
        page
    }

    fn keep_cookie(&mut self, page: &Page) {
        let Some(set_cookie) = &page.set_cookie else {
            return;
        };
        let pair = set_cookie.split(';').next().unwrap();
        self.cookie = Some(pair.to_owned()).filter(|pair| !pair.ends_with('='));
    }
}
