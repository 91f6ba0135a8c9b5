//! The request in the words of RFC 3875, section 4.1.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;

use super::reply::{Connection, Failure};

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
    let mut variables: Vec<(OsString, OsString)> = [
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        (
            "SERVER_SOFTWARE",
            concat!("cgi-session-serve/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("SERVER_PROTOCOL", format!("{:?}", parts.version)),
        ("SERVER_NAME", server_name),
        ("SERVER_PORT", local.port().to_string()),
        ("REMOTE_ADDR", connection.remote.ip().to_string()),
        ("REMOTE_PORT", connection.remote.port().to_string()),
        ("REQUEST_METHOD", parts.method.to_string()),
        ("REQUEST_SCHEME", "http".to_owned()),
        ("REQUEST_URI", parts.uri.to_string()),
        (
            "QUERY_STRING",
            parts.uri.query().unwrap_or_default().to_owned(),
        ),
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

/// The header fields, each name once: Cookie headers are joined as RFC 6265 joins cookies.
fn headers(headers: &HeaderMap) -> impl Iterator<Item = (OsString, OsString)> + '_ {
    headers.keys().filter_map(|name| {
        let variable = variable(name.as_str())?;
        let separator: &[u8] = if name == http::header::COOKIE {
            b"; "
        } else {
            b", "
        };
        let values: Vec<&[u8]> = headers
            .get_all(name)
            .iter()
            .map(http::HeaderValue::as_bytes)
            .collect();
        let value = values.join(separator);
        Some((variable.into(), OsStr::from_bytes(&value).to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn shown(fields: &[(&'static str, &'static [u8])]) -> Vec<(OsString, OsString)> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        headers(&map).collect()
    }

    #[track_caller]
    fn becomes(fields: &[(&'static str, &'static [u8])], name: &str, value: &[u8]) {
        let expected = (name.into(), OsStr::from_bytes(value).to_owned());
        assert_eq!(shown(fields), [expected]);
    }

    #[test]
    fn several_cookie_headers_are_one_variable() {
        becomes(
            &[("cookie", b"a=1"), ("cookie", b"b=2")],
            "HTTP_COOKIE",
            b"a=1; b=2",
        );
        becomes(
            &[("accept", b"x"), ("accept", b"y")],
            "HTTP_ACCEPT",
            b"x, y",
        );
    }

    #[test]
    fn bytes_that_are_not_utf_8_arrive_as_they_came() {
        becomes(&[("user-agent", b"caf\xe9")], "HTTP_USER_AGENT", b"caf\xe9");
    }

    #[test]
    fn the_bodys_type_and_length_have_names_of_their_own() {
        becomes(
            &[("content-type", b"text/plain")],
            "CONTENT_TYPE",
            b"text/plain",
        );
        becomes(&[("content-length", b"3")], "CONTENT_LENGTH", b"3");
    }

    #[test]
    fn a_field_that_could_pass_for_something_else_is_left_out() {
        for name in ["proxy", "x_forwarded_for", "content_length"] {
            assert_eq!(shown(&[(name, b"1")]), [], "{name}");
        }
    }
}
