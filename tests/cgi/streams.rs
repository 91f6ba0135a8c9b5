//! Responses that are written while they are sent, by a program of one request.

use std::process::ChildStdout;

use testkit::prelude::*;
use testkit::program::piped;

/// How much memory of its own a program may have while it streams, in KiB.
const MEMORY: u64 = 8 << 10;

fn request(site: &Site, query: &str) -> Cgi {
    let request = Cgi::new("streams", site).query(query);
    request.variable("ECHO_DIRECTORY", site.path())
}

/// Starts the program and reads the beginning of its response.
fn start(request: &Cgi) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = piped(&mut request.command());
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut head = String::new();
    while !head.contains("count 1\n") {
        assert_ne!(out.read_line(&mut head).unwrap(), 0, "{head}");
    }
    (child, out, head)
}

#[track_caller]
fn stderr_of(mut child: Child) -> String {
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().unwrap();
    pipe.read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success(), "{stderr}");
    stderr
}

#[test]
fn the_session_is_saved_and_released_before_the_first_byte_and_every_write_goes_out_at_once() {
    let site = Site::new();
    let (child, mut out, head) = start(&request(&site, "mode=wait"));
    assert!(head.starts_with("Status: 200 OK\r\nContent-Type: text/plain\r\n"));
    assert!(!head.contains("Content-Length"), "{head}");
    let (_, id) = head.split_once("sessionId=").unwrap();
    let other = request(&site, "mode=count").visitor(&id[..40]).run();
    other.expect(200, "2");
    fs::write(site.path().join("go"), "").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "went on\n");
    assert_eq!(stderr_of(child), "");
}

#[test]
fn a_long_stream_needs_no_more_memory_than_a_short_one() {
    let site = Site::new();
    let request = request(&site, &format!("mode=blocks&size={}", 1_u64 << 40));
    let (mut child, mut out, _) = start(&request);
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..256 {
        out.read_exact(&mut buffer).unwrap();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let memory = line.unwrap();
    let memory: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(memory < MEMORY, "{memory} KiB");
    // The client leaves, which is an error of the next write, and not one of the log.
    drop(out);
    let failed = site.path().join("failed");
    wait_until("the write fails", || failed.exists());
    assert!(child.wait().unwrap().success());
    assert_eq!(stderr_of(child), "");
}

#[test]
fn a_handler_that_fails_after_the_head_is_in_the_log_and_its_session_is_saved() {
    for (query, reason) in [
        ("mode=fail", "cut off: on purpose"),
        ("mode=panic", "panicked at"),
        ("mode=plain&announce=9", "1 bytes before its Content-Length"),
        ("mode=plain&announce=7", "longer than its Content-Length"),
    ] {
        let site = Site::new();
        let answer = request(&site, query).run();
        assert_eq!(answer.status, 200);
        assert!(answer.stderr.contains(reason), "{answer:#?}");
        // No more than was announced, whatever the handler writes.
        let begun = if query.ends_with('7') {
            ""
        } else {
            "count 1\n"
        };
        assert_eq!(answer.body, begun);
        let next = request(&site, "mode=count").visitor(&answer.id());
        next.run().expect(200, "2");
    }
}

#[test]
fn an_answer_to_head_has_the_head_of_a_stream_and_starts_none() {
    let site = Site::new();
    let answer = request(&site, "mode=plain&announce=8").method("HEAD").run();
    let Outcome { status, body, .. } = &answer;
    assert_eq!((*status, body.as_str()), (200, ""));
    assert_eq!(answer.header("content-length"), Some("8"));
    assert!(!site.path().join("began").exists());
}

#[test]
fn the_example_of_events_tells_what_other_requests_store() {
    let site = Site::new();
    let id = Cgi::new("counter", &site).run().id();
    let page = Cgi::new("events", &site).run();
    page.expect(200, "new EventSource('events?follow=1')");
    let request = Cgi::new("events", &site).visitor(&id).query("follow=1");
    let mut child = piped(&mut request.command());
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    for views in 1..=2 {
        while !told.contains(&format!("data: {views}\n\n")) {
            assert_ne!(out.read_line(&mut told).unwrap(), 0, "{told}");
        }
        let counted = Cgi::new("counter", &site).visitor(&id).run();
        counted.expect(200, &format!("here {} time", views + 1));
    }
    assert!(told.contains("Content-Type: text/event-stream\r\n"));
    drop(out);
    assert_eq!(stderr_of(child), "");
}

#[test]
fn the_example_of_downloads_sends_files_to_those_who_have_a_session() {
    let site = Site::new();
    fs::create_dir(site.path().join("files")).unwrap();
    fs::write(site.path().join("files/report.txt"), "0123456789").unwrap();
    let request = || {
        let request = Cgi::new("download", &site).variable("PATH_INFO", "/report.txt");
        request.variable("DOWNLOADS", site.path().join("files"))
    };
    request().run().expect(403, "Visit the counter first");
    let id = Cgi::new("counter", &site).run().id();
    let part = request().visitor(&id).variable("HTTP_RANGE", "bytes=2-4");
    assert_eq!(part.run().expect(206, "234").body, "234");
    let whole = request().visitor(&id).run().expect(200, "0123456789");
    assert_eq!(whole.header("cache-control"), Some("private, no-cache"));
    let known = request().visitor(&id);
    let known = known.variable("HTTP_IF_NONE_MATCH", whole.header("etag").unwrap());
    assert_eq!(known.run().status, 304);
}
