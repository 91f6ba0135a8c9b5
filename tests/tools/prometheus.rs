//! `cgi-session stats --prometheus`: the text format 0.0.4 of Prometheus.

use std::collections::BTreeMap;

use testkit::tools::{HOUR, Site, set_age};

/// The samples of a text, by name and labels. What a scraper or `promtool check metrics` would refuse panics.
fn samples(text: &str) -> BTreeMap<String, u64> {
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text}");
    let (mut samples, mut family, mut seen) = (BTreeMap::new(), String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && !seen.contains(&name), "{line}");
            assert_eq!(lines.next(), Some(&*format!("# TYPE {name} gauge")));
            let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(name.bytes().all(is_allowed), "{line}");
            // Reserved for counters and histograms.
            for suffix in ["_total", "_count", "_sum", "_bucket", "_info"] {
                assert!(!name.ends_with(suffix), "{line}");
            }
            seen.push(name);
            name.clone_into(&mut family);
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert_eq!(sample.split('{').next(), Some(&*family), "{line}");
        let doubled = samples.insert(sample.to_owned(), value.parse().unwrap());
        assert_eq!(doubled, None, "{line}");
    }
    samples
}

#[test]
fn sessions_are_metrics_that_a_scraper_takes() {
    let site = Site::new();
    let stored = site.session();
    site.session();
    set_age(&stored.path, HOUR / 2);
    let before = site.run("stats --prometheus").exits_with(0).stdout;
    assert!(!samples(&before).contains_key("cgi_session_last_clean_up_timestamp_seconds"));
    site.cleanup("").exits_with(0);
    for app in ["shop", "a \"b\" \\c"] {
        site.run_for(stored.cookie(), ["set", "--app", app, "cart", "x"])
            .exits_with(0);
    }
    let text = site.run("stats --prometheus").exits_with(0).stdout;
    let found = samples(&text);
    let json = site.run("stats --json").json();
    for (name, expected) in [
        ("cgi_session_sessions", 2),
        ("cgi_session_unreadable_sessions", 0),
        ("cgi_session_max_sessions", 0),
        ("cgi_session_size_bytes", json["bytes"].as_u64().unwrap()),
        ("cgi_session_application_sessions{app=\"\"}", 2),
        ("cgi_session_application_sessions{app=\"shop\"}", 1),
        (
            "cgi_session_application_sessions{app=\"a \\\"b\\\" \\\\c\"}",
            1,
        ),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name}: {text}");
    }
    for time in [
        "oldest_created",
        "newest_created",
        "last_used",
        "last_clean_up",
    ] {
        let seconds = found[&format!("cgi_session_{time}_timestamp_seconds")];
        let has_it = (1_700_000_000..100_000_000_000).contains(&seconds);
        assert!(has_it, "{text}");
    }
}

#[test]
fn a_site_without_sessions_has_metrics_and_what_cannot_be_read_is_counted() {
    let site = Site::new();
    let empty = site.run("stats --prometheus").exits_with(0).stdout;
    assert_eq!(samples(&empty)["cgi_session_sessions"], 0);
    let stored = site.session();
    std::fs::write(&stored.path, testkit::tools::session_of_a_later_version()).unwrap();
    let text = site.run("stats --prometheus").exits_with(0).stdout;
    assert_eq!(samples(&text)["cgi_session_unreadable_sessions"], 1);
    site.run("stats --prometheus --json").exits_with(2);
}
