//! The records that the fuzz target began with and found, sent to a real responder.

use testkit::fastcgi::client::Client;
use testkit::fastcgi::server::{Socket, echo};
use testkit::prelude::*;

#[expect(
    unreachable_pub,
    dead_code,
    reason = "the fuzz target is a program of its own"
)]
#[path = "../../fuzz/src/fastcgi_records.rs"]
mod fastcgi_records;

/// The whole of what is said on a connection, up to its end.
fn said(client: &mut Client) -> Vec<(u8, u16, Vec<u8>)> {
    let records = std::iter::from_fn(|| client.record().ok().flatten());
    records
        .map(|record| (record.kind, record.id, record.content))
        .collect()
}

#[test]
fn what_fuzzing_found_is_answered_the_same_in_any_pieces_and_harms_nobody() {
    let server = echo(Socket::StdinUnix).start();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/fastcgi_records");
    let mut tried = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let sent = fastcgi_records::sent(&fs::read(&path).unwrap());
        let answers = [&[255, 255][..], &[0, 6]].map(|cuts| {
            let mut client = server.connect();
            for piece in fastcgi_records::pieces(&sent, cuts) {
                // A program that has seen enough may close before all is sent.
                if client.send(piece).is_err() {
                    break;
                }
            }
            client.finish();
            said(&mut client)
        });
        assert_eq!(answers[0], answers[1], "{}", path.display());
        server.answers_at_once(&path.display().to_string());
        tried += 1;
    }
    assert!(tried >= 10, "{tried} files");
}
