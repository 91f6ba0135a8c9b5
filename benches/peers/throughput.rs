//! Requests per second: under FastCGI behind nginx, as CGI behind Apache, and when every request makes a session.

use std::fs;
use std::path::Path;

use rand::seq::SliceRandom as _;

use crate::apache::{self, Apache};
use crate::contest::{Better, Chart, Contest, Sample, Section};
use crate::load::{CONNECTIONS, Expected, load};
use crate::measured::Outcome;
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

pub(crate) fn fastcgi(settings: &Settings, installed: &[Installed]) -> Outcome<Vec<Section>> {
    let all: Vec<&Installed> = installed.iter().collect();
    let site = Site::start(&all, &[ONE_WORKER, FOUR_WORKERS])?;
    let mut section = Section {
        title: "Behind nginx".to_owned(),
        head: vec![
            "workers",
            "sessions",
            "program",
            "requests/s (quartiles)",
            "processor µs/request",
            "ours to it",
            "wrong answers",
        ],
        ..Section::default()
    };
    for workers in [1, 4] {
        let contestants = contestants(&site, workers);
        let names: Vec<String> = contestants.iter().map(|one| one.name.clone()).collect();
        let (mut own, mut one) = (Contest::default(), Contest::default());
        for _ in 0..settings.rounds {
            let mut order: Vec<&Contestant> = contestants.iter().collect();
            order.shuffle(&mut rand::rng());
            for it in order {
                // New ones, for what a load leaves unfinished may still count in the old ones.
                let cookies = (0..CONNECTIONS).map(|_| site.first_visit(it.server));
                let cookies = cookies.collect::<Outcome<Vec<_>>>()?;
                own.add(
                    &it.name,
                    it.sample(&site, settings, Expected::Next, &cookies)?,
                );
                one.add(
                    &it.name,
                    it.sample(&site, settings, Expected::Any, &cookies[..1])?,
                );
            }
        }
        for (sessions, mut contest) in [("own", own), ("one", one)] {
            contest.sort_like(&names);
            for row in contest.rows(Better::Greater, 0) {
                let [name, figure, cost, ratio, wrong] = row;
                let workers = workers.to_string();
                section.rows.push(vec![
                    workers,
                    sessions.to_owned(),
                    name,
                    figure,
                    cost,
                    ratio,
                    wrong,
                ]);
            }
            let kind = match sessions {
                "own" => "a session for each client",
                _ => "one session for all",
            };
            section.charts.push(Chart {
                name: format!("peers-fastcgi-{workers}-{sessions}"),
                title: format!("Requests/s behind nginx, workers: {workers}, {kind}"),
                bars: contest.bars(),
            });
        }
    }
    Ok(vec![section])
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
        Ok(Sample {
            figure: load.per_second,
            beside: spent.as_secs_f64() * 1e6 / load.requests.max(1.0),
            wrong: load.wrong,
        })
    }
}

pub(crate) fn cgi(settings: &Settings, installed: &[Installed]) -> Outcome<Vec<Section>> {
    let programs: Vec<&Installed> = installed.iter().filter(|peer| peer.cgi.is_some()).collect();
    let apache = Apache::start(&programs)?;
    let mut order: Vec<Peer> = programs.iter().map(|program| program.peer).collect();
    let names: Vec<String> = programs
        .iter()
        .map(|one| one.peer.name().to_owned())
        .collect();
    let mut contest = Contest::default();
    for _ in 0..settings.rounds {
        order.shuffle(&mut rand::rng());
        for peer in &order {
            let url = url(apache.port, &apache::path(*peer));
            let cookies = first_visits(&apache, *peer)?;
            let load = load(&url, settings.seconds, Expected::Next, &cookies)?;
            contest.add(
                peer.name(),
                Sample {
                    figure: load.per_second,
                    beside: load.requests,
                    wrong: load.wrong,
                },
            );
        }
    }
    contest.sort_like(&names);
    let title = "CGI behind Apache (mod_cgid), a session for each client";
    Ok(vec![Section {
        title: title.to_owned(),
        head: vec![
            "program",
            "requests/s (quartiles)",
            "ours to it",
            "wrong answers",
        ],
        rows: contest
            .rows(Better::Greater, 1)
            .into_iter()
            .map(|[name, figure, _, ratio, wrong]| vec![name, figure, ratio, wrong])
            .collect(),
        charts: vec![Chart {
            name: "peers-cgi".to_owned(),
            title: format!("Requests/s, {title}"),
            bars: contest.bars(),
        }],
    }])
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

pub(crate) fn flood(settings: &Settings, installed: &[Installed]) -> Outcome<Vec<Section>> {
    let all: Vec<&Installed> = installed.iter().collect();
    let site = Site::start(&all, &[FOUR_WORKERS])?;
    let names: Vec<String> = all.iter().map(|one| one.peer.name().to_owned()).collect();
    let mut contest = Contest::default();
    for _ in 0..settings.rounds {
        let mut servers: Vec<&Server> = site.servers.iter().collect();
        servers.shuffle(&mut rand::rng());
        for server in servers {
            // Nobody pays for what the one before left to the disk.
            rustix::fs::sync();
            let url = url(site.port, &nginx::path(server, false));
            let load = load(&url, settings.seconds, Expected::First, &[])?;
            contest.add(
                server.peer.name(),
                Sample {
                    figure: load.per_second,
                    beside: 1000.0 * empty(&server.sessions)? / load.requests.max(1.0),
                    wrong: load.wrong,
                },
            );
        }
    }
    contest.sort_like(&names);
    let title = "Every request makes a session: behind nginx, workers: 4";
    Ok(vec![Section {
        title: title.to_owned(),
        head: vec![
            "program",
            "sessions/s (quartiles)",
            "files per 1,000 sessions",
            "ours to it",
            "wrong answers",
        ],
        rows: contest
            .rows(Better::Greater, 0)
            .into_iter()
            .map(Vec::from)
            .collect(),
        charts: vec![Chart {
            name: "peers-flood".to_owned(),
            title: "New sessions/s behind nginx, workers: 4".to_owned(),
            bars: contest.bars(),
        }],
    }])
}

/// Deletes what is in a directory, and tells how many files that were.
fn empty(directory: &Path) -> Outcome<f64> {
    let mut files = 0.0;
    for file in fs::read_dir(directory)? {
        let file = file?;
        if file.file_type()?.is_file() {
            // A server may just have renamed it.
            files += if fs::remove_file(file.path()).is_ok() {
                1.0
            } else {
                0.0
            };
        }
    }
    Ok(files)
}

fn url(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
}
