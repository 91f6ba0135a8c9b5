//! TLS to a database server: whose certificates are believed.

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The certificates of `databaseCaFile`; `None` when it is not set.
pub(super) fn own_authorities(config: &Config) -> Result<Option<Vec<CertificateDer<'static>>>> {
    let Some(text) = access::authorities(config)? else {
        return Ok(None);
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found.map(Some).map_err(|error| {
        let path = config.get("databaseCaFile").unwrap_or_default();
        Error::Config(format!("databaseCaFile {path}: {error}"))
    })
}
