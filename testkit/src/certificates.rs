//! An authority of a test's own, and what it vouches for.

use crate::prelude::*;
use crate::tools::set_mode;

#[track_caller]
fn openssl(directory: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let command = command.args(words.split(' ')).current_dir(directory);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}: {said}");
}

/// A directory with an authority (`ca.pem`), certificates of it for 127.0.0.1 (`server.pem`, `server.key`) and for a
/// program (`client.pem`, `client.key`), and an authority that has nothing to do with it (`other.pem`, `other.key`).
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

/// Tries certificates and keys of a program that cannot be used, by their names, as the store of `open`.
#[track_caller]
pub fn wrong_ones_are_told<T>(
    certificates: &Certificates,
    open: impl Fn(&str, &str) -> Result<T, Error>,
) {
    let key = fs::read_to_string(certificates.path("client.key")).unwrap();
    for (name, line_end) in [("escaped.key", "\\n"), ("joined.key", "")] {
        fs::write(certificates.path(name), key.replace('\n', line_end)).unwrap();
        set_mode(&certificates.directory().join(name), 0o600);
    }
    fs::write(certificates.path("none.pem"), "nothing").unwrap();
    fs::write(certificates.path("bad.pem"), BAD).unwrap();
    fs::write(certificates.path("shown.key"), key).unwrap();
    set_mode(&certificates.directory().join("shown.key"), 0o644);
    set_mode(&certificates.directory().join("none.pem"), 0o600);
    for (certificate, key, words) in [
        (
            "client.pem",
            "other.key",
            ["databaseKeyFile", "not the key of the certificate"],
        ),
        (
            "client.pem",
            "absent.key",
            ["databaseKeyFile", "no such file"],
        ),
        (
            "client.pem",
            "shown.key",
            ["databaseKeyFile", "others can read it"],
        ),
        ("client.pem", "none.pem", ["databaseKeyFile", "no key (PEM"]),
        ("client.pem", "escaped.key", ["databaseKeyFile", "no PEM"]),
        ("client.pem", "joined.key", ["databaseKeyFile", "no PEM"]),
        ("joined.key", "client.key", ["databaseCertFile", "no PEM"]),
        (
            "absent.pem",
            "client.key",
            ["databaseCertFile", "No such file"],
        ),
        (
            "none.pem",
            "client.key",
            ["databaseCertFile", "no certificates (PEM)"],
        ),
        ("bad.pem", "client.key", ["databaseCertFile", "certificate"]),
    ] {
        let error = open(certificate, key).map(drop).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let line = error.one_line();
        let is_told = words.iter().all(|word| line.contains(word));
        assert!(is_told, "{words:?} of {certificate} and {key}: {line}");
        assert!(line.len() < 400, "is the key in it? {line}");
    }
}

/// What says that it is a certificate, and is none.
const BAD: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

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
    for name in ["server", "client"] {
        let files = format!("-keyout {name}.key -out {name}.pem -subj /CN={name}");
        openssl(directory, &format!("{new} {signed} {files}"));
    }
}
