//! [`Device`]: what a session remembers of the browsers that use it.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::error::printable;

/// The most bytes of a browser's name for itself.
const MAX_AGENT: usize = 200;

/// A browser, as a session remembers it with `recordClient = true`: enough for its user to know it again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Device {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

/// The browsers with which a session was made, and last used.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Devices {
    pub(crate) first: Device,
    pub(crate) last: Device,
}

impl Device {
    pub(crate) fn new(agent: Option<&OsStr>, address: Option<IpAddr>) -> Self {
        Device {
            agent: agent.map(|agent| {
                let mut agent = printable(&agent.to_string_lossy());
                let ends = agent.char_indices().map(|(at, it)| at + it.len_utf8());
                let end = ends.take_while(|end| *end <= MAX_AGENT).last();
                agent.truncate(end.unwrap_or(0));
                agent
            }),
            address: address.map(network_of),
        }
    }

    /// The `User-Agent` that it sent, at most 200 bytes of it.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// The network that it came from: `192.0.2.0/24`, `2001:db8:5::/48`.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }
}

/// An address without what tells one household from the next.
fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let network = Ipv4Addr::from_bits(address.to_bits() & (!0 << 8));
            format!("{network}/24")
        }
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (!0 << 80));
            format!("{network}/48")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_the_network_is_kept() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:5:1:2:3:4:5", "2001:db8:5::/48"),
            ("::1", "::/48"),
        ] {
            let device = Device::new(None, address.parse().ok());
            assert_eq!(device.address(), Some(network));
        }
    }

    #[test]
    fn what_a_browser_calls_itself_is_bounded_and_can_be_shown() {
        let device = |agent: &str| Device::new(Some(OsStr::new(agent)), None);
        assert_eq!(device("a\u{1b}[2J").agent(), Some("a\\u{1b}[2J"));
        let long = device(&"\u{e4}".repeat(1000));
        assert_eq!(long.agent().map(str::len), Some(200));
        assert_eq!(Device::new(None, None), Device::default());
    }
}
