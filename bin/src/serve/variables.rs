//! The request in the words of RFC 3875, section 4.1.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;

use super::reply::{Connection, Failure};

/// A variable as a command line gives it: `NAME=VALUE`, or the `NAME` of one in the environment.
pub(super) fn given(text: &OsStr) -> Result<(OsString, OsString), &'static str> {
    let mut parts = text.as_bytes().splitn(2, |byte| *byte == b'=');
    let mut part = || parts.next().map(|part| OsStr::from_bytes(part).to_owned());
    let name = part().filter(|name| !name.is_empty());
    let name = name.ok_or("it begins with the variable's name")?;
    let value = part().or_else(|| std::env::var_os(&name));
    let value = value.ok_or("the environment has no such variable; write NAME=VALUE")?;
    Ok((name, value))
}

/// The variables of one request, for the program `script` and the path behind it, both as the request has them: encoded.
///
/// # Errors
///
/// For a request that a CGI program cannot have.
pub fn of(
    parts: &Parts,
    connection: Connection,
    script: &str,
    path_info: &str,
) -> Result<Vec<(OsString, OsString)>, Failure> {
    let fields = &parts.headers;
    if fields.contains_key(TRANSFER_ENCODING) && !fields.contains_key(CONTENT_LENGTH) {
        // RFC 3875 has no word for a body whose length is not known.
        let reason = "A CGI program needs the length of the body.";
        return Err(Failure::new(StatusCode::LENGTH_REQUIRED, reason));
    }
    let [script, path_info] =
        [script, path_info].map(|path| -> Cow<'_, [u8]> { percent_decode_str(path).into() });
    if path_info.contains(&0) {
        let reason = "A path cannot hold a NUL byte.";
        return Err(Failure::new(StatusCode::BAD_REQUEST, reason));
    }
    let local = connection.local;
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<http::uri::Authority>().ok());
    let server_name = host.map_or_else(|| local.ip().to_string(), |host| host.host().to_owned());
    let software = concat!("cgi-session-serve/", env!("CARGO_PKG_VERSION"));
    let query = parts.uri.query().unwrap_or_default();
    let mut variables: Vec<(OsString, OsString)> = [
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("SERVER_SOFTWARE", software.to_owned()),
        ("SERVER_PROTOCOL", format!("{:?}", parts.version)),
        ("SERVER_NAME", server_name),
        ("SERVER_PORT", local.port().to_string()),
        ("REMOTE_ADDR", connection.remote.ip().to_string()),
        ("REMOTE_PORT", connection.remote.port().to_string()),
        ("REQUEST_METHOD", parts.method.to_string()),
        ("REQUEST_SCHEME", "http".to_owned()),
        ("REQUEST_URI", parts.uri.to_string()),
        ("QUERY_STRING", query.to_owned()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    let text = |path: &[u8]| OsStr::from_bytes(path).to_owned();
    variables.push(("SCRIPT_NAME".into(), text(&script)));
    if !path_info.is_empty() {
        variables.push(("PATH_INFO".into(), text(&path_info)));
    }
    variables.extend(std::env::var_os("PATH").map(|path| ("PATH".into(), path)));
    variables.extend(headers(&parts.headers));
    Ok(variables)
}

/// All Cookie headers as one.
#[must_use]
pub fn cookies(headers: &HeaderMap) -> Vec<u8> {
    joined(headers, &COOKIE, b"; ")
}

fn joined(headers: &HeaderMap, name: &HeaderName, separator: &[u8]) -> Vec<u8> {
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    values.collect::<Vec<_>>().join(separator)
}

/// The header fields, each name once: Cookie headers are joined as RFC 6265 joins cookies.
fn headers(headers: &HeaderMap) -> impl Iterator<Item = (OsString, OsString)> + '_ {
    headers.keys().filter_map(|name| {
        let variable = variable(name.as_str())?;
        let separator = if name == COOKIE { b"; " } else { b", " };
        let value = joined(headers, name, separator);
        Some((variable.into(), OsString::from_vec(value)))
    })
}

/// What a header field is called in the environment, if it gets there at all.
fn variable(name: &str) -> Option<String> {
    // With an underscore in it, one field could pass for another: X_Y and X-Y are one variable.
    let is_distinct = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    // HTTP_PROXY would be taken for the address of a proxy by whatever the program calls.
    if !is_distinct || name == "proxy" {
        return None;
    }
    let upper = name.to_ascii_uppercase().replace('-', "_");
    if name == CONTENT_TYPE.as_str() || name == CONTENT_LENGTH.as_str() {
        return Some(upper);
    }
    Some(format!("HTTP_{upper}"))
}
