//! [`Networks`]: addresses of proxies, as `trustedProxies` lists them.

use std::fmt;
use std::net::IpAddr;

/// Addresses and networks such as `10.0.0.0/8, ::1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<Network>);

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Networks {
    /// Reads a list; `None` when something in it is no address or network.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        words
            .map(Network::parse)
            .collect::<Option<_>>()
            .map(Networks)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is one of these; an IPv4 address may be written as one of IPv6.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.0.iter().map(Network::shown).collect();
        f.write_str(&shown.join(", "))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = width(address);
        let Some(bits) = bits else {
            let address = address.to_canonical();
            let bits = width(address);
            return Some(Network { address, bits });
        };
        let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = bits
            .parse()
            .ok()
            .filter(|bits| is_number && *bits <= most)?;
        // The part of IPv6 that is IPv4.
        match (address.to_canonical(), bits) {
            (address @ IpAddr::V4(_), 96..) => Some(Network {
                address,
                bits: bits - 96,
            }),
            _ => Some(Network { address, bits }),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let differs = bits(self.address) ^ bits(address);
        // A shift by all bits is none.
        let differs = differs
            .checked_shr(128 - u32::from(self.bits))
            .unwrap_or_default();
        self.address.is_ipv4() == address.is_ipv4() && differs == 0
    }

    fn shown(&self) -> String {
        if self.bits == width(self.address) {
            self.address.to_string()
        } else {
            format!("{}/{}", self.address, self.bits)
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
