//! What is lost when eight clients count in one session at once, and when workers are killed meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::contest::Section;
use crate::measured::Outcome;
use crate::nginx::{self, Site};
use crate::peer::Peer;
use crate::server::Server;
use crate::settings::Settings;
use crate::throughput::FOUR_WORKERS;
use crate::visitor::{self, Page};
use crate::workshop::{Installed, Workshop};

const CLIENTS: u64 = 8;
/// Those who have not counted so far by then have counted enough.
const LIMIT: Duration = Duration::from_secs(20);

/// What became of the requests.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    unanswered: AtomicU64,
    /// Answers that this is the first visit.
    begun_again: AtomicU64,
    is_over: AtomicBool,
}

/// What was lost of what had been acknowledged.
struct Loss {
    acknowledged: u64,
    unanswered: u64,
    begun_again: u64,
    lost: u64,
    kills: u64,
}

pub(crate) fn undisturbed(settings: &Settings, installed: &[Installed]) -> Outcome<Section> {
    let rows = losses(installed, Peer::Unlocked, CLIENTS * settings.requests)?.into_iter();
    let rows = rows.map(|[program, _, counted, lost, unanswered, _]| {
        vec![program, counted, lost, unanswered] // Nothing is killed.
    });
    Ok(Section {
        title: "Eight clients count in one session, workers: 4".to_owned(),
        head: vec!["program", "acknowledged", "lost of these", "not answered"],
        rows: rows.collect(),
        ..Section::default()
    })
}

pub(crate) fn killed(settings: &Settings, installed: &[Installed]) -> Outcome<Section> {
    let rows = losses(installed, Peer::Torn, 5 * CLIENTS * settings.requests)?;
    let head = "program|kills|acknowledged|lost of these|not answered|the session survived";
    Ok(Section {
        title: "The same while workers are killed at random (SIGKILL)".to_owned(),
        head: head.split('|').collect(),
        rows: rows.into_iter().map(Vec::from).collect(),
        ..Section::default()
    })
}

/// What every peer loses, and a broken one that must lose something; workers are killed where that shows its fault.
fn losses(installed: &[Installed], control: Peer, requests: u64) -> Outcome<Vec<[String; 6]>> {
    let has_c = installed.iter().any(|one| one.peer == Peer::C);
    let broken = has_c.then(|| Workshop::open()?.c(control)).transpose()?;
    let mut rows = Vec::new();
    for installed in installed.iter().chain(&broken) {
        let site = Site::start(&[installed], &[FOUR_WORKERS])?;
        let loss = count(&site, &site.servers[0], requests, control == Peer::Torn)?;
        let (peer, lost) = (installed.peer, loss.lost);
        // Ours may lose nothing, and a harness that never sees a loss proves nothing.
        if peer == Peer::Ours && (lost > 0 || loss.begun_again > 0) {
            return Err(format!("cgi-session has lost {lost} acknowledged views").into());
        }
        if peer == control && lost == 0 {
            return Err(format!("{} lost nothing: nothing is proved", peer.name()).into());
        }
        let numbers = [loss.kills, loss.acknowledged, lost, loss.unanswered];
        let [kills, acknowledged, lost, unanswered] = numbers.map(|number| number.to_string());
        let survived = match loss.begun_again {
            0 => "yes".to_owned(),
            times => format!("no: {times} answers began again at 1"),
        };
        let program = peer.name().to_owned();
        rows.push([program, kills, acknowledged, lost, unanswered, survived]);
    }
    Ok(rows)
}

fn count(site: &Site, server: &Server, requests: u64, kills: bool) -> Outcome<Loss> {
    let cookie = site.first_visit(server)?;
    let path = nginx::path(server, false);
    let tally = Tally::default();
    let deadline = Instant::now() + LIMIT;
    let kills = thread::scope(|scope| -> Outcome<u64> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    while Instant::now() < deadline
                        && tally.sent.fetch_add(1, Ordering::Relaxed) < requests
                    {
                        // No server sends a POST a second time by itself.
                        let page = visitor::visit(site.port, "POST", &path, Some(&cookie));
                        tally.take(page.ok().as_ref());
                    }
                })
            })
            .collect();
        let killer = scope.spawn(|| {
            let kills = kills.then(|| kill_at_random(server, &tally)).transpose();
            kills.map_err(|error| error.to_string())
        });
        for client in clients {
            client.join().map_err(|_| "a client panicked")?;
        }
        tally.is_over.store(true, Ordering::Relaxed);
        let kills = killer.join().map_err(|_| "the killer panicked")??;
        Ok(kills.unwrap_or_default())
    })?;
    let acknowledged = tally.acknowledged.into_inner();
    // The first visit counted, and so does this one.
    let counted = last_visit(site, &path, &cookie)?.saturating_sub(2);
    Ok(Loss {
        acknowledged,
        unanswered: tally.unanswered.into_inner(),
        begun_again: tally.begun_again.into_inner(),
        lost: acknowledged.saturating_sub(counted),
        kills,
    })
}

impl Tally {
    fn take(&self, page: Option<&Page>) {
        let counter = match page {
            Some(Page {
                status: 200,
                views: Some(views),
                ..
            }) => {
                let again = u64::from(*views == 1);
                self.begun_again.fetch_add(again, Ordering::Relaxed);
                &self.acknowledged
            }
            _ => &self.unanswered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Kills a worker, again and again, after some more requests and at any instruction.
fn kill_at_random(server: &Server, tally: &Tally) -> Outcome<u64> {
    let mut kills = 0;
    loop {
        let more = rand::rng().random_range(5..=50);
        let target = tally.acknowledged.load(Ordering::Relaxed) + more;
        while tally.acknowledged.load(Ordering::Relaxed) < target {
            if tally.is_over.load(Ordering::Relaxed) {
                return Ok(kills);
            }
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_micros(rand::rng().random_range(0..3000)));
        server.kill_one()?;
        kills += 1;
    }
}

/// The number of the next view, asked for until a worker is there again.
fn last_visit(site: &Site, path: &str, cookie: &str) -> Outcome<u64> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let page = visitor::visit(site.port, "GET", path, Some(cookie));
        if let Ok(Page {
            status: 200,
            views: Some(views),
            ..
        }) = page
        {
            return Ok(views);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{path} does not answer any more").into())
}
