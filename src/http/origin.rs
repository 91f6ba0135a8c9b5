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

/// Whether the client came by HTTPS.
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
    text.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// What a trusted proxy says. Anything malformed counts as nothing.
fn told(params: &Params, config: &Config) -> Option<Origin> {
    let trusted = &config.trusted_proxies;
    if trusted.is_empty() || !trusted.contains(remote(params)?) {
        return None;
    }
    let field = |name: &str| {
        let field = params.joined(name, b", ");
        let field = field.map(|field| String::from_utf8(field).unwrap_or_else(|_| "\0".to_owned()));
        field.unwrap_or_default()
    };
    match config.trusted_proxy_header {
        ProxyHeader::XForwarded => x_forwarded(
            &field("HTTP_X_FORWARDED_FOR"),
            &field("HTTP_X_FORWARDED_PROTO"),
            trusted,
        ),
        ProxyHeader::Forwarded => forwarded(&field("HTTP_FORWARDED"), trusted),
    }
}

/// `X-Forwarded-For` and `X-Forwarded-Proto`. Of several schemes there is one for each address.
fn x_forwarded(addresses: &str, schemes: &str, trusted: &Networks) -> Option<Origin> {
    let addresses: Vec<_> = addresses.split(',').map(str::trim).collect();
    let schemes: Vec<_> = schemes.split(',').map(str::trim).collect();
    let mut client = Origin::default();
    let mut place = None;
    if addresses != [""] {
        for (index, text) in addresses.iter().enumerate().rev() {
            let address = address(text)?;
            (client.address, place) = (Some(address), Some(index));
            if !trusted.contains(address) {
                break;
            }
        }
    }
    client.is_https = match (schemes.as_slice(), place) {
        ([""], _) => None,
        ([only], _) => Some(is_scheme_https(only)?),
        (several, Some(place)) if several.len() == addresses.len() => {
            Some(is_scheme_https(several[place])?)
        }
        _ => return None,
    };
    Some(client)
}

/// `Forwarded` (RFC 7239). A client whose address a proxy does not tell has none but the server's word.
fn forwarded(field: &str, trusted: &Networks) -> Option<Origin> {
    let mut client = None;
    for element in split(field, b',')?.into_iter().rev() {
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
    for pair in split(element, b';')? {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        let value = unquoted(value.trim())?;
        match name.as_str() {
            "for" => {
                let is_hidden = value.starts_with('_') || value.eq_ignore_ascii_case("unknown");
                origin.address = if is_hidden {
                    None
                } else {
                    Some(address(&value)?)
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

/// The parts between separators that are not quoted; `None` when a quote does not end.
fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if byte == separator && !is_quoted => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

fn unquoted(value: &str) -> Option<String> {
    match value.strip_prefix('"') {
        // Nothing in an address or a scheme needs an escape.
        Some(rest) => rest
            .strip_suffix('"')
            .filter(|text| !text.contains(['"', '\\']))
            .map(str::to_owned),
        None => (!value.is_empty() && !value.contains('"')).then(|| value.to_owned()),
    }
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
