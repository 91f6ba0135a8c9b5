//! [`Head`]: what a program says before its body, RFC 3875, section 6.
//!
//! A bare `Location` sends the client there with 302, also when it is a path of this site, which the RFC
//! has the server answer with that page.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// With these statuses a response has no body.
pub(crate) const BODILESS: [StatusCode; 3] = [
    StatusCode::NO_CONTENT,
    StatusCode::RESET_CONTENT,
    StatusCode::NOT_MODIFIED,
];
/// The longest head that is read.
const MAX_LENGTH: usize = 64 << 10;

/// The status and the header fields of a program's answer.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The header fields that go to the client.
    pub headers: HeaderMap,
}

impl Head {
    /// Reads a head that begins `bytes`, and returns where the body begins; `None` when more of it
    /// is still to come.
    ///
    /// # Errors
    ///
    /// The text says what is wrong with the head.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let is_longer = bytes.len() > MAX_LENGTH;
        let bytes = bytes.get(..MAX_LENGTH).unwrap_or(bytes);
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let mut fields = vec![httparse::EMPTY_HEADER; lines];
        match httparse::parse_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete((length, fields))) => {
                Head::from_fields(fields).map(|head| Some((head, length)))
            }
            Ok(httparse::Status::Partial) if is_longer => {
                Err("its head is longer than 64 KiB".to_owned())
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(error) => Err(format!("its head is no CGI head: {error}")),
        }
    }

    fn from_fields(fields: &[httparse::Header<'_>]) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        let mut status = None;
        for field in fields {
            if field.name.eq_ignore_ascii_case("status") {
                status = Some(parse_status(field.value)?);
                continue;
            }
            let name = HeaderName::try_from(field.name);
            let value = HeaderValue::from_bytes(field.value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(format!("its header field {} is malformed", field.name));
            };
            headers.append(name, value);
        }
        if status.is_none()
            && !headers.contains_key(LOCATION)
            && !headers.contains_key(CONTENT_TYPE)
        {
            return Err("its head says neither Content-Type, Location nor Status".to_owned());
        }
        let sent_elsewhere = headers.contains_key(LOCATION).then_some(StatusCode::FOUND);
        let status = status.or(sent_elsewhere).unwrap_or(StatusCode::OK);
        // How the bytes travel to the client is the server's affair.
        for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
            headers.remove(name);
        }
        Ok(Head { status, headers })
    }

    /// How long the program says that its body is.
    pub fn content_length(&self) -> Option<u64> {
        self.headers
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }
}

fn parse_status(value: &[u8]) -> Result<StatusCode, String> {
    let digits = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let status = StatusCode::from_bytes(digits).ok();
    // What is below 200 announces an answer and is none.
    status
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| format!("its status is {}", String::from_utf8_lossy(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_has_not_come_whole_is_waited_for() {
        for text in [
            "",
            "Content-Ty",
            "Content-Type: a/b\n",
            "Content-Type: a/b\r\n\r",
        ] {
            assert!(Head::parse(text.as_bytes()).unwrap().is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused_with_the_reason() {
        for (text, reason) in [
            ("Hello, world\n\n", "no CGI head"),
            ("X-Powered-By: x\n\n", "neither Content-Type"),
            ("Status: fine\n\n", "its status is fine"),
            ("Status: 100 Continue\n\n", "its status is 100"),
        ] {
            let refused = Head::parse(text.as_bytes()).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn a_head_has_any_number_of_fields_and_at_most_64_kib() {
        let fields = "Set-Cookie: a=1\n".repeat(1000);
        let text = format!("Content-Type: a/b\n{fields}\n");
        let (head, _) = Head::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(head.headers.get_all("set-cookie").iter().count(), 1000);
        let of_length = |length| {
            let (begin, end) = ("Content-Type: a/b\nX: ", "\n\n");
            let padding = "x".repeat(length - begin.len() - end.len());
            Head::parse(format!("{begin}{padding}{end}").as_bytes())
        };
        assert!(of_length(MAX_LENGTH).unwrap().is_some());
        assert!(of_length(MAX_LENGTH + 1).unwrap_err().contains("64 KiB"));
        let endless = format!("X: {}", "x".repeat(MAX_LENGTH));
        let refused = Head::parse(endless.as_bytes()).unwrap_err();
        assert!(refused.contains("64 KiB"));
    }
}
