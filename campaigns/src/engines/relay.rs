//! [`Relay`]: an address that stays the same when another server takes over, as a proxy gives it.

use std::sync::{MutexGuard, PoisonError};

use testkit::prelude::*;

/// Passes every connection on to one server. It lives as long as its process.
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    server: SocketAddr,
    connections: Vec<TcpStream>,
}

impl Relay {
    /// A relay at any port of this address.
    pub(crate) fn open(address: &str, server: SocketAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let relay = Relay {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                server,
                connections: Vec::new(),
            })),
        };
        let state = Arc::clone(&relay.state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that finds no server is hung up on.
                let _ = pass_on(&client, &state);
            }
        });
        relay
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes new connections on to another server from now on.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        lock(&self.state).server = server;
    }

    /// The same, and ends the connections to the one before.
    pub(crate) fn turn_to(&self, server: SocketAddr) {
        let mut state = lock(&self.state);
        state.server = server;
        for connection in state.connections.drain(..) {
            // Either end may have hung up before.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass_on(client: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    // Nobody turns to another server between the connection and its entry.
    let mut state = lock(state);
    let server = TcpStream::connect(state.server)?;
    for connection in [client, &server] {
        connection.set_nodelay(true)?;
        state.connections.push(connection.try_clone()?);
    }
    for (mut from, mut to) in [
        (client.try_clone()?, server.try_clone()?),
        (server, client.try_clone()?),
    ] {
        thread::spawn(move || {
            // An error is the end of the connection.
            let _ = io::copy(&mut from, &mut to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
