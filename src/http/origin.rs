//! Where a request comes from: as the server says, or as the proxies say that the configuration trusts.

use std::net::{IpAddr, SocketAddr};

use super::params::Params;
use crate::config::{Config, Networks, ProxyHeader};

/// What the nearest proxy that is not trusted, or the client, is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Origin {
    address: Option<IpAddr>,
    is_https: Option<bool>,
}

/// The address of the client; `None` when the server gave none.
pub(crate) fn client_address(params: &Params, config: Option<&Config>) -> Option<IpAddr> {
    let told = config.and_then(|config| told(params, config));
    told.and_then(|told| told.address)
        .or_else(|| remote(params))
}

pub(crate) fn is_https(params: &Params, config: Option<&Config>) -> bool {
    let told = config.and_then(|config| told(params, config));
    let is_on = |value: &std::ffi::OsStr| value.eq_ignore_ascii_case("on") || value == "1";
    told.and_then(|told| told.is_https).unwrap_or_else(|| {
        params.get("HTTPS").is_some_and(is_on)
            || params
                .get("REQUEST_SCHEME")
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    })
}

/// Whether some proxy, trusted or not, says where the request comes from.
pub(crate) fn is_told(params: &Params) -> bool {
    [
        "HTTP_X_FORWARDED_FOR",
        "HTTP_X_FORWARDED_PROTO",
        "HTTP_FORWARDED",
    ]
    .iter()
    .any(|name| params.get(name).is_some())
}

fn remote(params: &Params) -> Option<IpAddr> {
    let text = params.get("REMOTE_ADDR")?.to_str()?;
    // A server may tell a link-local address with its zone (RFC 4007, 11).
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    let address: IpAddr = address.parse().ok()?;
    Some(address.to_canonical())
}

/// What a trusted proxy says. Anything malformed counts as nothing where it is reached: what a client sent
/// stands before what its proxies added.
fn told(params: &Params, config: &Config) -> Option<Origin> {
    let trusted = &config.trusted_proxies;
    if trusted.is_empty() || !trusted.contains(remote(params)?) {
        return None;
    }
    let field = |name: &str| {
        let field = params.joined(name, b", ").unwrap_or_default();
        String::from_utf8_lossy(&field).into_owned()
    };
    match config.trusted_proxy_header {
        ProxyHeader::XForwarded => Some(x_forwarded(
            &field("HTTP_X_FORWARDED_FOR"),
            &field("HTTP_X_FORWARDED_PROTO"),
            trusted,
        )),
        ProxyHeader::Forwarded => forwarded(&field("HTTP_FORWARDED"), trusted),
    }
}

/// `X-Forwarded-For` and `X-Forwarded-Proto`, each of which counts without the other. Of several schemes
/// there is one for each address.
fn x_forwarded(addresses: &str, schemes: &str, trusted: &Networks) -> Origin {
    let addresses: Vec<_> = addresses.split(',').map(str::trim).collect();
    let schemes: Vec<_> = schemes.split(',').map(str::trim).collect();
    let client = nearest(&addresses, trusted);
    let scheme = match (schemes.as_slice(), client) {
        ([only], _) => Some(*only),
        (several, Some((_, place))) if several.len() == addresses.len() => Some(several[place]),
        _ => None,
    };
    Origin {
        address: client.map(|(address, _)| address),
        is_https: scheme.and_then(is_scheme_https),
    }
}

/// The last address that is no trusted proxy's, else the first, and its place.
fn nearest(addresses: &[&str], trusted: &Networks) -> Option<(IpAddr, usize)> {
    let mut nearest = None;
    for (place, text) in addresses.iter().enumerate().rev() {
        let address = address(text)?;
        nearest = Some((address, place));
        if !trusted.contains(address) {
            break;
        }
    }
    nearest
}

/// `Forwarded` (RFC 7239). A client whose address a proxy does not tell has none but the server's word.
fn forwarded(field: &str, trusted: &Networks) -> Option<Origin> {
    let mut client = None;
    for element in from_the_end(field, ',') {
        let element = forwarded_element(element)?;
        client = Some(element);
        if !element
            .address
            .is_some_and(|address| trusted.contains(address))
        {
            break;
        }
    }
    client
}

fn forwarded_element(element: &str) -> Option<Origin> {
    let (mut origin, mut seen) = (Origin::default(), Vec::new());
    for pair in from_the_end(element, ';') {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        let value = unquoted(value.trim())?;
        match name.as_str() {
            "for" => {
                let is_hidden = value.starts_with('_') || value.eq_ignore_ascii_case("unknown");
                origin.address = if is_hidden {
                    None
                } else {
                    Some(address(without_hidden_port(&value))?)
                };
            }
            "proto" => origin.is_https = Some(is_scheme_https(&value)?),
            "" => return None,
            _ => {}
        }
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(origin)
}

/// What lies between these separators outside of quotes, without what is empty (RFC 9110, 5.6.1). Read from the end,
/// what the proxy added is whole even after a quote of the client's that does not end.
fn from_the_end(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let parts = std::iter::from_fn(move || {
        let text = rest?;
        let mut is_quoted = false;
        let found = text.char_indices().rev().find(|(place, letter)| {
            is_quoted ^= *letter == '"' && !is_escaped(&text[..*place]);
            *letter == separator && !is_quoted
        });
        rest = found.map(|(place, _)| &text[..place]);
        Some(found.map_or(text, |(place, letter)| &text[place + letter.len_utf8()..]))
    });
    parts.filter(|part| !part.trim().is_empty())
}

/// Whether a letter after this text is escaped by it.
fn is_escaped(before: &str) -> bool {
    (before.len() - before.trim_end_matches('\\').len()) % 2 == 1
}

fn unquoted(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.is_empty() && !value.contains('"')).then(|| value.to_owned());
    };
    let (mut text, mut letters) = (String::new(), rest.strip_suffix('"')?.chars());
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '"' => return None,
            '\\' => letters.next()?,
            letter => letter,
        });
    }
    Some(text)
}

/// A node without its port, if the proxy tells a name in place of that (RFC 7239, 6.2).
fn without_hidden_port(node: &str) -> &str {
    let is_name = |port: &str| {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        port.len() > 1 && port.starts_with('_') && port.bytes().all(is_good)
    };
    let with_port = node.rsplit_once(':').filter(|(_, port)| is_name(port));
    with_port.map_or(node, |(node, _)| node)
}

/// An address, of IPv6 also in brackets, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse()
            .ok()
            .map(IpAddr::V6)
    };
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let plain = text.parse().ok();
    let found = plain.or_else(with_port).or_else(bracketed)?;
    Some(found.to_canonical())
}

fn is_scheme_https(scheme: &str) -> Option<bool> {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    (is("https") || is("http")).then(|| is("https"))
}
