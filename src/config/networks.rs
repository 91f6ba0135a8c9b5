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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        let networks =
            Networks::parse("10.0.0.0/8, 192.0.2.7 ::1,2001:db8::/33 ::ffff:172.16.0.0/108")
                .unwrap();
        assert_eq!(
            networks.to_string(),
            "10.0.0.0/8, 192.0.2.7, ::1, 2001:db8::/33, 172.16.0.0/12"
        );
        for (address, is_in) in [
            ("10.255.1.2", true),
            ("11.0.0.0", false),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("::ffff:192.0.2.7", true),
            ("::1", true),
            ("::2", false),
            ("2001:db8:7fff::1", true),
            ("2001:db8:8000::1", false),
            ("a00::", false),
        ] {
            assert_eq!(
                networks.contains(address.parse().unwrap()),
                is_in,
                "{address}"
            );
        }
        let all = Networks::parse("0.0.0.0/0").unwrap();
        assert!(all.contains("203.0.113.1".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        assert!(Networks::parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_address_or_network_is_refused() {
        for text in [
            "localhost",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "/8",
            "10.0.0.1:80",
            "[::1]",
            "10.0.0.0/8/8",
            "any",
            "10.0.0.0/256",
        ] {
            assert_eq!(Networks::parse(text), None, "{text}");
        }
    }
}
