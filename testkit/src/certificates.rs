//! An authority of a test's own, and what it vouches for.

use std::path::Path;
use std::process::{Command, Stdio};

#[track_caller]
fn openssl(directory: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let command = command.args(words.split(' ')).current_dir(directory);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}: {said}");
}

/// An authority, and a certificate of it for 127.0.0.1.
pub fn make_certificates(directory: &Path) {
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
