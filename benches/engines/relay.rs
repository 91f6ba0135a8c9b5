//! [`Relay`]: a way to a server that counts how often it is waited for.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tempfile::TempDir;

/// A socket in a directory of its own, which lives as long as the process.
pub(crate) struct Relay {
    directory: TempDir,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    /// Whether the client has said something that the server has not answered.
    is_asked: AtomicBool,
    answers: AtomicU64,
}

/// A relay to the server that listens here, with a socket of the same name.
pub(crate) fn before(server: &Path) -> io::Result<Relay> {
    let (directory, said) = (tempfile::tempdir()?, Arc::<Said>::default());
    let own = directory
        .path()
        .join(server.file_name().unwrap_or_default());
    let listener = UnixListener::bind(own)?;
    let (server, counted) = (server.to_owned(), Arc::clone(&said));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Without a server the client is hung up on.
            let _ = UnixStream::connect(&server).and_then(|it| pass_on(client, it, &counted));
        }
    });
    Ok(Relay { directory, said })
}

impl Relay {
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// How many times something was asked and then answered.
    pub(crate) fn turns(&self) -> u64 {
        self.said.answers.load(Ordering::SeqCst)
    }
}

fn pass_on(client: UnixStream, server: UnixStream, said: &Arc<Said>) -> io::Result<()> {
    let ways = [
        (client.try_clone()?, server.try_clone()?, true),
        (server, client, false),
    ];
    for (mut from, mut to, is_question) in ways {
        let said = Arc::clone(said);
        thread::spawn(move || {
            let mut bytes = [0; 1 << 14];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                let was_asked = said.is_asked.swap(is_question, Ordering::SeqCst);
                if was_asked && !is_question {
                    said.answers.fetch_add(1, Ordering::SeqCst);
                }
                if to.write_all(&bytes[..length]).is_err() {
                    break;
                }
            }
            // The other way may have ended it.
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
