//! What is measured, and for how long, as the environment says.

use std::env;
use std::path::{Path, PathBuf};

use crate::GROUPS;
use crate::measured::{Outcome, number};
use crate::peer::Peer;

pub(crate) struct Settings {
    /// The names of the chosen groups and peers.
    only: Vec<String>,
    /// How long one load lasts.
    pub(crate) seconds: u64,
    pub(crate) rounds: usize,
    /// How many there are before a clean-up.
    pub(crate) sessions: usize,
    /// How often each of several clients counts in one session.
    pub(crate) requests: u64,
    /// Where figures are drawn.
    pub(crate) plots: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn from_environment() -> Outcome<Self> {
        let only = env::var("PEERS_ONLY").unwrap_or_default();
        let only = only.split(',').filter(|name| !name.is_empty());
        let only: Vec<String> = only.map(str::to_owned).collect();
        let known: Vec<&str> = group_names().chain(peer_keys()).collect();
        if let Some(name) = only.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("PEERS_ONLY: there is no group or peer {name}").into());
        }
        // Cargo starts a benchmark in the directory of its package.
        let in_package = |plots| Path::new(env!("CARGO_MANIFEST_DIR")).join(plots);
        Ok(Settings {
            only,
            seconds: number("PEERS_SECONDS", 2)?,
            rounds: number("PEERS_ROUNDS", 3)?,
            sessions: number("PEERS_SESSIONS", 200_000)?,
            requests: number("PEERS_REQUESTS", 200)?,
            plots: env::var_os("PEERS_PLOTS").map(in_package),
        })
    }

    pub(crate) fn wants_group(&self, name: &str) -> bool {
        self.wants(name, group_names())
    }

    pub(crate) fn wants_peer(&self, peer: Peer) -> bool {
        // All ratios are to ours.
        peer == Peer::Ours || self.wants(peer.key(), peer_keys())
    }

    /// Whether one of these was chosen, or none of them.
    fn wants(&self, name: &str, mut all: impl Iterator<Item = &'static str>) -> bool {
        let is_chosen = |name: &str| self.only.iter().any(|only| only == name);
        is_chosen(name) || !all.any(is_chosen)
    }
}

fn group_names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().map(|(name, _)| *name)
}

fn peer_keys() -> impl Iterator<Item = &'static str> {
    Peer::ALL.iter().map(|peer| peer.key())
}
