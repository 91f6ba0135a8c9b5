//! [`Browser`]: a visitor of the login page.

use testkit::prelude::*;

pub(crate) const ADA: &str = "name=ada&password=lovelace";
pub(crate) const CHARLES: &str = "name=charles&password=babbage";
pub(crate) const SESSION: &str = "sessionId";
pub(crate) const REMEMBERED: &str = "rememberMe";

/// Somebody who keeps cookies and the token of the last form.
#[derive(Clone)]
pub(crate) struct Browser<'s> {
    site: &'s Site,
    pub(crate) cookies: BTreeMap<String, String>,
    pub(crate) token: String,
}

impl<'s> Browser<'s> {
    pub(crate) fn new(site: &'s Site) -> Self {
        Browser {
            site,
            cookies: BTreeMap::new(),
            token: String::new(),
        }
    }

    /// One who has just logged in.
    #[track_caller]
    pub(crate) fn inside(site: &'s Site, form: &str) -> Self {
        let mut browser = Browser::new(site);
        browser.log_in(form);
        browser
    }

    #[track_caller]
    pub(crate) fn log_in(&mut self, form: &str) {
        self.visit();
        self.log_in_by_last_form(form);
    }

    #[track_caller]
    pub(crate) fn log_in_by_last_form(&mut self, form: &str) {
        assert_eq!(self.send(form).status, 303);
        let name = form.split(['=', '&']).nth(1).unwrap();
        self.sees(&format!("{name} is logged in."));
    }

    pub(crate) fn visit(&mut self) -> Outcome {
        self.ask(Cgi::new("login", self.site))
    }

    /// Sends the form of the last page.
    pub(crate) fn send(&mut self, form: &str) -> Outcome {
        let form = format!("csrfToken={}&{form}", self.token);
        self.ask(Cgi::new("login", self.site).form(&form))
    }

    pub(crate) fn ask(&mut self, request: Cgi) -> Outcome {
        let pairs = self.cookies.iter();
        let header = pairs.map(|(name, value)| format!("{name}={value}"));
        let header: Vec<_> = header.collect();
        let outcome = request.cookie(header.join("; ")).run();
        for (_, value) in outcome
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
        {
            let (pair, attributes) = value.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax"));
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some((_, rest)) = outcome.body.split_once("name=\"csrfToken\" value=\"") {
            rest[..40].clone_into(&mut self.token);
        }
        outcome
    }

    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        self.visit().expect(200, text);
    }

    #[track_caller]
    pub(crate) fn is_outside(&mut self) {
        self.sees("<h1>Log in</h1>");
    }

    /// The id that the browser shows was changed a moment ago.
    #[track_caller]
    pub(crate) fn is_to_reload(&mut self) {
        let page = self.visit();
        let page = page.expect_failure(503, "the session has a new id");
        assert_eq!(page.header("refresh"), Some("1"));
        assert!(page.body.contains("reload the page"));
    }

    pub(crate) fn cookie(&self, name: &str) -> &str {
        self.cookies.get(name).map_or("", String::as_str)
    }

    /// The browser was closed, or the session has come to its end.
    pub(crate) fn loses_its_session(&mut self) {
        self.cookies.remove(SESSION);
    }
}
