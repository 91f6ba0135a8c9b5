//! TLS to a database server: whose certificates are believed.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::Config;
use crate::error::{Error, Result};

/// The certificates of `databaseCaFile`; `None` when it is not set.
pub(super) fn own_authorities(config: &Config) -> Result<Option<Vec<CertificateDer<'static>>>> {
    let path = config.database_ca_file.as_deref();
    path.map(certificates).transpose()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let fail = |reason: &str| {
        let path = path.display();
        Error::Config(format!("databaseCaFile {path}: {reason}"))
    };
    let text = std::fs::read(path).map_err(|error| fail(&error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(fail("it holds no certificates (PEM)")),
        Err(error) => Err(fail(&error.to_string())),
    }
}
