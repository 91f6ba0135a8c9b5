//! Requests per second: under FastCGI behind nginx, as CGI behind Apache, and when every request makes a session.

use std::fs;
use std::path::Path;

use crate::apache::{self, Apache};
use crate::contest::{
    BESIDE, Better, Chart, Contest, FIGURE, PROGRAM, RATIO, Sample, Section, WRONG,
};
use crate::load::{CONNECTIONS, Expected, load};
use crate::measured::{Outcome, in_turns};
use crate::nginx::{self, Site};
use crate::peer::Peer;
use crate::server::{Deployment, Server};
use crate::settings::Settings;
use crate::visitor;
use crate::workshop::Installed;

/// How peers are started where nothing else is being compared.
pub(crate) const FOUR_WORKERS: Deployment = Deployment {
    workers: 4,
    minutes: 60,
};

const ONE_WORKER: Deployment = Deployment {
    workers: 1,
    minutes: 60,
};

/// Who answers, and under which name in the table.
struct Contestant<'a> {
    server: &'a Server,
    kept: bool,
    name: String,
}

pub(crate) fn fastcgi(settings: &Settings, installed: &[Installed]) -> Outcome<Section> {
    let all: Vec<&Installed> = installed.iter().collect();
    let site = Site::start(&all, &[ONE_WORKER, FOUR_WORKERS])?;
    let head = "workers|sessions|program|requests/s (quartiles)|processor µs/request|ours to it|wrong answers";
    let mut section = Section {
        title: "Behind nginx".to_owned(),
        head: head.split('|').collect(),
        ..Section::default()
    };
    for workers in [1, 4] {
        let contestants = contestants(&site, workers);
        let names: Vec<String> = contestants.iter().map(|one| one.name.clone()).collect();
        let samples = in_turns(names.len(), settings.rounds, |at| {
            let it = &contestants[at];
            // New ones, for what a load leaves unfinished may still count in the old ones.
            let cookies = (0..CONNECTIONS).map(|_| site.first_visit(it.server));
            let cookies = cookies.collect::<Outcome<Vec<_>>>()?;
            let own = it.sample(&site, settings, Expected::Next, &cookies)?;
            let one = it.sample(&site, settings, Expected::Any, &cookies[..1])?;
            Ok([own, one])
        })?;
        let kinds = [
            ("own", "a session for each client"),
            ("one", "one session for all"),
        ];
        for (which, (sessions, kind)) in kinds.into_iter().enumerate() {
            let of_kind = |its: &Vec<[Sample; 2]>| its.iter().map(|both| both[which]).collect();
            let samples = samples.iter().map(of_kind).collect();
            let contest = Contest::new(&names, samples, Better::Greater, 0);
            for [name, figure, cost, ratio, wrong] in contest.rows() {
                let (workers, sessions) = (workers.to_string(), sessions.to_owned());
                let row = vec![workers, sessions, name, figure, cost, ratio, wrong];
                section.rows.push(row);
            }
            section.charts.push(Chart {
                name: format!("peers-fastcgi-{workers}-{sessions}"),
                title: format!("Requests/s behind nginx, workers: {workers}, {kind}"),
                bars: contest.bars(),
            });
        }
    }
    Ok(section)
}

/// Those with so many workers, without and then with connections that nginx keeps.
fn contestants(site: &Site, workers: usize) -> Vec<Contestant<'_>> {
    let mut contestants = Vec::new();
    for kept in [false, true] {
        let servers = site
            .servers
            .iter()
            .filter(|server| server.workers == workers);
        for server in servers.filter(|server| !kept || server.peer.keeps_connections()) {
            let name = server.peer.name();
            contestants.push(Contestant {
                server,
                kept,
                name: format!("{name}{}", if kept { ", kept connections" } else { "" }),
            });
        }
    }
    contestants
}

impl Contestant<'_> {
    fn sample(
        &self,
        site: &Site,
        settings: &Settings,
        expected: Expected,
        cookies: &[String],
    ) -> Outcome<Sample> {
        let url = url(site.port, &nginx::path(self.server, self.kept));
        let before = self.server.processor_time()?;
        let load = load(&url, settings.seconds, expected, cookies)?;
        let spent = self.server.processor_time()?.saturating_sub(before);
        Ok(load.sample(spent.as_secs_f64() * 1e6))
    }
}

pub(crate) fn cgi(settings: &Settings, installed: &[Installed]) -> Outcome<Section> {
    let programs: Vec<&Installed> = installed.iter().filter(|peer| peer.cgi.is_some()).collect();
    let apache = Apache::start(&programs)?;
    let samples = in_turns(programs.len(), settings.rounds, |at| {
        let peer = programs[at].peer;
        let url = url(apache.port, &apache::path(peer));
        let cookies = first_visits(&apache, peer)?;
        let load = load(&url, settings.seconds, Expected::Next, &cookies)?;
        Ok(load.sample(0.0))
    })?;
    let title = "CGI behind Apache (mod_cgid), a session for each client";
    let columns = [
        ("program", PROGRAM),
        ("requests/s (quartiles)", FIGURE),
        ("ours to it", RATIO),
        ("wrong answers", WRONG),
    ];
    let chart = ("peers-cgi", format!("Requests/s, {title}"));
    let contest = Contest::new(&names(&programs), samples, Better::Greater, 1);
    Ok(contest.section(title, &columns, chart))
}

fn names(installed: &[&Installed]) -> Vec<String> {
    let names = installed.iter().map(|one| one.peer.name().to_owned());
    names.collect()
}

/// New sessions, for what a load leaves unfinished may still count in the old ones.
fn first_visits(apache: &Apache, peer: Peer) -> Outcome<Vec<String>> {
    let visits = (0..CONNECTIONS).map(|_| {
        let page = visitor::visit(apache.port, "GET", &apache::path(peer), None)?;
        let (name, status) = (peer.name(), page.status);
        let none = || format!("{name} as CGI sets no cookie, status {status}");
        Ok(page.cookie.ok_or_else(none)?)
    });
    visits.collect()
}

pub(crate) fn flood(settings: &Settings, installed: &[Installed]) -> Outcome<Section> {
    let all: Vec<&Installed> = installed.iter().collect();
    let site = Site::start(&all, &[FOUR_WORKERS])?;
    let samples = in_turns(all.len(), settings.rounds, |at| {
        let server = &site.servers[at];
        // Nobody pays for what the one before left to the disk.
        rustix::fs::sync();
        let url = url(site.port, &nginx::path(server, false));
        let load = load(&url, settings.seconds, Expected::First, &[])?;
        Ok(load.sample(1000.0 * empty(&server.sessions)?))
    })?;
    let columns = [
        ("program", PROGRAM),
        ("sessions/s (quartiles)", FIGURE),
        ("files per 1,000 sessions", BESIDE),
        ("ours to it", RATIO),
        ("wrong answers", WRONG),
    ];
    let title = "Every request makes a session: behind nginx, workers: 4";
    let chart = "New sessions/s behind nginx, workers: 4".to_owned();
    let contest = Contest::new(&names(&all), samples, Better::Greater, 0);
    Ok(contest.section(title, &columns, ("peers-flood", chart)))
}

/// Deletes what is in a directory, and tells how many files that were.
fn empty(directory: &Path) -> Outcome<f64> {
    let mut files = 0.0;
    for file in fs::read_dir(directory)? {
        let file = file?;
        if file.file_type()?.is_file() {
            // A server may just have renamed it.
            files += f64::from(u8::from(fs::remove_file(file.path()).is_ok()));
        }
    }
    Ok(files)
}

fn url(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
}
