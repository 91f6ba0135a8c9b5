//! What is measured, and for how long, as the environment says.

use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::measured::Outcome;
use crate::peer::Peer;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    FastCgi,
    Cgi,
    Flood,
    CleanUp,
    Lost,
    Killed,
}

impl Group {
    const ALL: [Group; 6] = [
        Group::FastCgi,
        Group::Cgi,
        Group::Flood,
        Group::CleanUp,
        Group::Lost,
        Group::Killed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::FastCgi => "fastcgi",
            Group::Cgi => "cgi",
            Group::Flood => "flood",
            Group::CleanUp => "cleanup",
            Group::Lost => "lost",
            Group::Killed => "killed",
        }
    }
}

pub(crate) struct Settings {
    pub(crate) groups: Vec<Group>,
    pub(crate) peers: Vec<Peer>,
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
        let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
        let is_known = |name: &str| {
            Group::ALL.iter().any(|group| group.name() == name)
                || Peer::ALL.iter().any(|peer| peer.key() == name)
        };
        if let Some(name) = only.iter().find(|name| !is_known(name)) {
            return Err(format!("PEERS_ONLY: there is no group or peer {name}").into());
        }
        let mut groups = Group::ALL.to_vec();
        if only
            .iter()
            .any(|name| groups.iter().any(|group| group.name() == *name))
        {
            groups.retain(|group| only.contains(&group.name()));
        }
        let mut peers = Peer::ALL.to_vec();
        if only
            .iter()
            .any(|name| peers.iter().any(|peer| peer.key() == *name))
        {
            // All ratios are to ours.
            peers.retain(|peer| *peer == Peer::Ours || only.contains(&peer.key()));
        }
        Ok(Settings {
            groups,
            peers,
            seconds: number("PEERS_SECONDS", 2)?,
            rounds: number("PEERS_ROUNDS", 3)?,
            sessions: number("PEERS_SESSIONS", 200_000)?,
            requests: number("PEERS_REQUESTS", 200)?,
            // Cargo starts a benchmark in the directory of its package.
            plots: env::var_os("PEERS_PLOTS")
                .map(|plots| Path::new(env!("CARGO_MANIFEST_DIR")).join(plots)),
        })
    }
}

/// A positive number, by default this one.
fn number<T: FromStr + PartialOrd + Default>(name: &str, default: T) -> Outcome<T> {
    let Ok(text) = env::var(name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(number) if number > T::default() => Ok(number),
        _ => Err(format!("{name} is not a positive number: {text}").into()),
    }
}
