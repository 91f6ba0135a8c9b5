//! An authority of a test's own, and what it vouches for.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::is_installed;

#[track_caller]
fn openssl(directory: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let command = command.args(words.split(' ')).current_dir(directory);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}: {said}");
}

/// A directory with an authority (`ca.pem`), a certificate of it for 127.0.0.1 (`server.pem`, `server.key`), and
/// an authority that has nothing to do with it (`other.pem`).
pub struct Certificates(TempDir);

impl Certificates {
    /// `None` where openssl is not installed.
    pub fn make() -> Option<Self> {
        if !is_installed("openssl") {
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        make_in(place.path());
        Some(Certificates(place))
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        path.into_os_string().into_string().unwrap()
    }
}

fn make_in(directory: &Path) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(
        directory,
        &format!("{new} -keyout ca.key -out ca.pem -subj /CN=authority"),
    );
    openssl(
        directory,
        &format!("{new} -keyout other.key -out other.pem -subj /CN=other"),
    );
    let signed = "-CA ca.pem -CAkey ca.key -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE";
    openssl(
        directory,
        &format!("{new} {signed} -keyout server.key -out server.pem -subj /CN=server"),
    );
}
