//! `PgBouncer` before a `PostgreSQL` server of a test's own.

use crate::outside::Watched;
use crate::postgres::{PASSWORD, USER, as_its_user, give};
use crate::prelude::*;

const PROGRAM: &str = "/usr/sbin/pgbouncer";
/// Ends the proxy when its own input ends, which it does with the test, however that ends.
const WATCH: &str = "\"$@\" </dev/null >/dev/null 2>&1 & echo $!; read -r end; kill -KILL $!; wait";

/// A proxy that does not outlive its test.
pub struct PgBouncer {
    port: u16,
    _running: Watched,
    _directory: tempfile::TempDir,
}

impl PgBouncer {
    /// A proxy with this `pool_mode`; `None` where there is none installed.
    #[track_caller]
    pub fn start(server: &PostgresServer, pool_mode: &str) -> Option<Self> {
        if !is_installed("pgbouncer") {
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("bouncer")
            .tempdir_in("/tmp")
            .unwrap();
        let (port, target) = (free_port(), server.port());
        let path = directory.path().join("ini");
        let settings = format!(
            "[databases]\n{USER} = host=127.0.0.1 port={target} user={USER} password={PASSWORD}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {pool_mode}\n"
        );
        fs::write(&path, settings).unwrap();
        give(directory.path());
        give(&path);
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "pgbouncer", PROGRAM]).arg(path);
        let running = Watched::start(as_its_user(&mut command));
        let proxy = PgBouncer {
            port,
            _directory: directory,
            _running: running,
        };
        wait_until("PgBouncer answers", || {
            postgres::Client::connect(&proxy.url(), postgres::NoTls).is_ok()
        });
        Some(proxy)
    }

    /// The database, through the proxy.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{USER}", self.port)
    }
}
