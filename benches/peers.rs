//! Compares the library with the file sessions of PHP, Perl, Python, Go and another Rust crate, and with a
//! C program that does the least possible: speed, clean-up, and what is lost when requests or kills coincide.
//!
//! ```sh
//! cargo bench --bench peers                                   # everything, in about a quarter of an hour
//! cargo bench --bench peers -- --install                      # after installing what is missing
//! PEERS_ONLY=fastcgi,php,c cargo bench --bench peers          # some groups and some peers
//! PEERS_SECONDS=10 PEERS_ROUNDS=9 cargo bench --bench peers   # longer
//! PEERS_PLOTS=docs/plots cargo bench --bench peers            # draws the figures besides
//! ```
//!
//! The groups are fastcgi, cgi, flood, cleanup, lost and killed; the peers c, php, perl, cherrypy, django,
//! gorilla and tower. All count page views in a session of some 500 bytes, and every answer is looked
//! at. Peers take turns, in an order shuffled anew for each round; figures are medians with quartiles, and a
//! ratio is that of figures of one round. With `--install` it installs Debian packages that are missing (as root),
//! and what comes from other registries into `target/peers`. A peer that is not there is left out with a word.

#[path = "peers/apache.rs"]
mod apache;
#[path = "peers/chart.rs"]
mod chart;
#[path = "peers/clean_up.rs"]
mod clean_up;
#[path = "peers/contest.rs"]
mod contest;
#[path = "peers/counting.rs"]
mod counting;
#[path = "peers/crowd.rs"]
mod crowd;
#[path = "peers/debian.rs"]
mod debian;
#[path = "peers/load.rs"]
mod load;
#[path = "measured/mod.rs"]
mod measured;
#[path = "peers/nginx.rs"]
mod nginx;
#[path = "peers/peer.rs"]
mod peer;
#[path = "peers/process.rs"]
mod process;
#[path = "peers/server.rs"]
mod server;
#[path = "peers/settings.rs"]
mod settings;
#[path = "peers/throughput.rs"]
mod throughput;
#[path = "peers/visitor.rs"]
mod visitor;
#[path = "peers/workshop.rs"]
mod workshop;

use std::process::ExitCode;
use std::time::Instant;

use contest::Section;
use measured::{Outcome, machine};
use settings::Settings;
use workshop::{Installed, Workshop};

type Group = fn(&Settings, &[Installed]) -> Outcome<Section>;

const GROUPS: [(&str, Group); 6] = [
    ("fastcgi", throughput::fastcgi),
    ("cgi", throughput::cgi),
    ("flood", throughput::flood),
    ("cleanup", clean_up::clean_ups),
    ("lost", counting::undisturbed),
    ("killed", counting::killed),
];

fn main() -> ExitCode {
    measured::main("cargo bench --bench peers", run)
}

fn run() -> Outcome<()> {
    let settings = Settings::from_environment()?;
    debian::need(&[("nginx", "nginx-light"), ("wrk", "wrk")])?;
    let installed = Workshop::open()?.install(&settings);
    let (machine, rounds, seconds) = (machine::description(), settings.rounds, settings.seconds);
    println!("{machine}. Rounds: {rounds}, of {seconds} s.\n");
    for peer in &installed {
        println!("* {}: {}", peer.peer.name(), peer.version);
    }
    for (name, group) in GROUPS {
        if !settings.wants_group(name) {
            continue;
        }
        eprintln!("measuring {name}");
        let started = Instant::now();
        let section = group(&settings, &installed)?;
        eprintln!("{name} took {:.0?}", started.elapsed());
        println!("\n{section}");
        if let Some(directory) = &settings.plots {
            section.draw(directory)?;
        }
    }
    Ok(())
}
