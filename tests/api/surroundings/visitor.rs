//! A visitor who keeps a ledger: what the site has acknowledged must be there when the trouble is
//! over, and a page that is no success must say so in full, and in the log why.

use testkit::prelude::*;
use testkit::program::{end_of, piped};

pub(crate) struct Visitor<'a> {
    site: &'a Site,
    id: String,
    views: u64,
    name: String,
    attempts: usize,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Served,
    /// A complete page of this status, and one line in the log.
    Refused(u16),
    /// The program was killed, or could not even begin.
    Died,
}

impl<'a> Visitor<'a> {
    pub(crate) fn begin(site: &'a Site) -> Self {
        let form = "myname=x&firstname=0-";
        let answer = Cgi::new("begin", site).form(form).run();
        Visitor {
            site,
            id: answer.expect(200, "x").id(),
            views: 0,
            name: "0-".to_owned(),
            attempts: 0,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// One more view, by a program that this shell command prepares.
    #[track_caller]
    pub(crate) fn count(&mut self, prepare: &str) -> End {
        let request = Cgi::new("counter", self.site).visitor(&self.id);
        let expected = format!("here {} time", self.views + 1);
        let end = self.send(&request, prepare, &expected);
        match end {
            End::Served => self.views += 1,
            End::Refused(_) => {}
            End::Died => self.views = self.views_found(),
        }
        end
    }

    /// Another name of this length, which may need a larger file.
    #[track_caller]
    pub(crate) fn rename(&mut self, length: usize, prepare: &str) -> End {
        self.attempts += 1;
        let name = format!("{}-{}", self.attempts, "J".repeat(length));
        let form = format!("myname=x&firstname={name}");
        let request = Cgi::new("begin", self.site).form(&form).visitor(&self.id);
        let end = self.send(&request, prepare, "Your name is x");
        match end {
            End::Served => self.name = name,
            End::Refused(_) => {}
            End::Died if self.name_is(&name) => self.name = name,
            End::Died => assert!(self.name_is(&self.name), "neither the old name nor the new"),
        }
        end
    }

    /// Without trouble everything goes on from what was acknowledged last.
    #[track_caller]
    pub(crate) fn goes_on(&mut self) {
        assert_eq!(self.count(""), End::Served);
        assert!(self.name_is(&self.name), "another name than {}", self.name);
    }

    /// Somebody else has changed the number; this is the next one.
    #[track_caller]
    pub(crate) fn sees(&mut self, views: u64) {
        self.views = views - 1;
        assert_eq!(self.count(""), End::Served);
    }

    fn name_is(&self, name: &str) -> bool {
        let answer = Cgi::new("follow", self.site).visitor(&self.id).run();
        answer
            .expect(200, "Your first name is ")
            .body
            .contains(&format!("name is {name}."))
    }

    /// A program that died may have counted.
    #[track_caller]
    fn views_found(&self) -> u64 {
        let answer = Cgi::new("counter", self.site).visitor(&self.id).run();
        let found = [1, 2].map(|more| self.views + more);
        let counted = |views: &u64| answer.body.contains(&format!("here {views} time"));
        let counted = found.into_iter().find(counted);
        counted.unwrap_or_else(|| panic!("{} views before, and now {answer:#?}", self.views))
    }

    #[track_caller]
    fn send(&self, request: &Cgi, prepare: &str, expected: &str) -> End {
        let end = send(self.site, request, prepare, expected);
        if let (End::Refused(_), Some(log)) = &end {
            assert!(!log.contains(&self.id), "the id is in the log: {log}");
        }
        end.0
    }
}

/// Runs a program that a shell command prepares.
#[track_caller]
fn send(site: &Site, request: &Cgi, prepare: &str, expected: &str) -> (End, Option<String>) {
    let mut child = piped(&mut request.by_shell(&format!("{prepare}\nexec \"$0\"")));
    request.write_body(&mut child);
    let (status, stdout, stderr) = end_of(child);
    if !status.success() {
        // Nobody takes half a page for a whole one.
        assert!(!stdout.contains(expected), "{status}, but {stdout}");
        return (End::Died, None);
    }
    let answer = Outcome::parse(&stdout, stderr);
    if answer.status == 200 {
        let answer = answer.expect_complete(expected);
        return (End::Served, Some(answer.stderr));
    }
    let (status, log) = (answer.status, answer.stderr.clone());
    let path = site.path().to_str().unwrap();
    assert!(log.contains(path), "no path in {log}");
    assert!([500, 503].contains(&status), "{answer:#?}");
    answer.expect_failure(status, [path]);
    (End::Refused(status), Some(log))
}

/// Somebody new comes: is served, or refused without a trace.
#[track_caller]
pub(crate) fn newcomer(site: &Site, prepare: &str) -> End {
    send(site, &Cgi::new("counter", site), prepare, "here 1 time").0
}
