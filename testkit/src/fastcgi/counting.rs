//! Pages that count in one session, over many connections.

use std::thread;

use super::client::{KEEP, get, visit};
use super::server::Server;

/// How many connections count at once.
pub const CONNECTIONS: u64 = 16;
/// How often each of them counts.
pub const INCREMENTS: u64 = 200;

/// Begins a session and returns its cookie; its count is 1.
#[track_caller]
pub fn begin_session(server: &Server) -> String {
    let reply = server.ask(&get(1, 0, "mode=count"));
    assert_eq!(reply.text(), "1");
    reply.cookie().unwrap().to_owned()
}

/// Counts once.
#[track_caller]
pub fn count(server: &Server, cookie: &str) -> u64 {
    let reply = server.ask(&visit(1, 0, "mode=count", cookie));
    assert_eq!(reply.status(), 200, "{reply:?}");
    reply.text().parse().unwrap()
}

/// Counts from many connections at once; all counts that were answered, in order.
pub fn count_from_everywhere(servers: &[&Server], cookie: &str) -> Vec<u64> {
    let mut all: Vec<u64> = thread::scope(|scope| {
        let clients = (0..CONNECTIONS).map(|number| {
            let server = servers[usize::try_from(number).unwrap() % servers.len()];
            scope.spawn(move || {
                let mut client = server.connect();
                let request = visit(1, KEEP, "mode=count", cookie);
                let answers = (0..INCREMENTS).map(|_| client.ask(1, &request).text());
                answers
                    .map(|text| text.parse().unwrap())
                    .collect::<Vec<u64>>()
            })
        });
        let clients: Vec<_> = clients.collect();
        let counts = clients.into_iter();
        let counts = counts.flat_map(|client| client.join().unwrap());
        counts.collect()
    });
    all.sort_unstable();
    all
}
