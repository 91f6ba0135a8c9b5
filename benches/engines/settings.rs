//! [`Settings`]: what the environment asks for.

use std::env;
use std::str::FromStr;

use crate::measured::Outcome;

pub(crate) struct Settings {
    /// The stores to measure; empty for all.
    pub(crate) only: Vec<String>,
    pub(crate) rounds: usize,
    /// How many sessions a clean-up finds, a tenth of them expired.
    pub(crate) sessions: u64,
}

impl Settings {
    pub(crate) fn from_environment() -> Outcome<Self> {
        let only = env::var("ENGINES_ONLY").unwrap_or_default();
        let only = only.split(',').filter(|name| !name.is_empty());
        Ok(Settings {
            only: only.map(str::to_owned).collect(),
            rounds: number("ENGINES_ROUNDS", 20)?,
            sessions: number("ENGINES_SESSIONS", 20_000)?,
        })
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }
}

fn number<T: FromStr>(name: &str, default: T) -> Outcome<T> {
    match env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name} = {text} is no number").into()),
    }
}
