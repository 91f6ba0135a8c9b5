//! What the fuzz targets began with and what they found, tried again: a fault that was found once stays
//! found. The records of FastCGI go to a real responder, in `tests/fastcgi`.
#![expect(unreachable_pub, reason = "the fuzz targets are programs of their own")]

#[path = "../../fuzz/src/configuration.rs"]
mod configuration;
#[path = "../../fuzz/src/cookie_header.rs"]
mod cookie_header;
#[path = "../../fuzz/src/json.rs"]
mod json;
#[path = "../../fuzz/src/link.rs"]
mod link;
#[path = "../../fuzz/src/record.rs"]
mod record;
#[cfg(feature = "cookie-store")]
#[path = "../../fuzz/src/sealed_cookie.rs"]
mod sealed_cookie;
#[path = "../../fuzz/src/session_file.rs"]
mod session_file;
#[path = "../../fuzz/src/values.rs"]
mod values;

use std::panic::{self, AssertUnwindSafe};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use testkit::prelude::*;

/// No file of a corpus is longer.
const LONGEST: usize = 4096;

/// Tries every file of a corpus, and says which one fails.
#[track_caller]
fn replay(target: &str, check: impl Fn(&[u8])) {
    let corpus = repository("fuzz/corpus").join(target);
    let mut tried = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() <= LONGEST, "{} is too long", path.display());
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| check(&bytes)));
        assert!(outcome.is_ok(), "{} fails", path.display());
        tried += 1;
    }
    assert!(tried >= 10, "{tried} files of {target}");
}

#[test]
fn cookie_headers_are_read_by_the_rules() {
    replay("cookie_header", cookie_header::check);
}

#[test]
fn session_files_are_a_whole_record_or_none() {
    replay("session_file", session_file::check);
}

#[test]
fn records_mean_what_their_json_says() {
    replay("record", record::check);
}

#[test]
fn values_are_kept_to_the_byte_or_refused() {
    replay("values", values::check);
}

#[test]
fn configurations_set_what_they_say_or_are_refused() {
    replay("configuration", configuration::check);
}

#[cfg(feature = "cookie-store")]
#[test]
fn only_what_was_sealed_is_opened() {
    replay("sealed_cookie", sealed_cookie::check);
}

#[test]
fn links_carry_the_id_to_no_other_site() {
    let site = Site::with_settings("\nidFrom = cookie, query\n");
    let (name, id) = link::PARAMETER;
    replay("link", |bytes| {
        let Ok(address) = std::str::from_utf8(bytes) else {
            return;
        };
        link::check(address, |address| {
            let address = utf8_percent_encode(address, NON_ALPHANUMERIC);
            let query = format!("mode=link&address={address}");
            let outcome = Cgi::new("links", &site).query(&query).run();
            // Every page has a session of its own, and so an id of its own.
            match outcome.body.split_once('\n') {
                Some((own, link)) => {
                    link.replace(&format!("{name}={own}"), &format!("{name}={id}"))
                }
                None => panic!("no id in {:?}", outcome.body),
            }
        });
    });
}
