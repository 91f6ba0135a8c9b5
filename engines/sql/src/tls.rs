//! TLS to a database server: which certificates its own is verified against.

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The certificates of `databaseCaFile`, or the system's when it is not set.
fn authorities(config: &Config) -> Result<Vec<CertificateDer<'static>>> {
    let Some(text) = access::authorities(config)? else {
        return Ok(rustls_native_certs::load_native_certs().certs);
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found.map_err(|error| {
        let path = config.get("databaseCaFile").unwrap_or_default();
        Error::Config(format!("databaseCaFile {path}: {error}"))
    })
}

/// What encrypts connections to `PostgreSQL`.
#[cfg(feature = "postgres")]
pub(super) fn make_connect(config: &Config) -> Result<tokio_postgres_rustls::MakeRustlsConnect> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(authorities(config)?);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Config(format!("no TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(client))
}

/// What encrypts connections to `MySQL`.
#[cfg(feature = "mysql")]
pub(super) fn options(config: &Config) -> Result<mysql_async::SslOpts> {
    // The library takes the program's, and panics where there are several.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let certificates = authorities(config)?.into_iter();
    let certificates = certificates.map(|one| one.to_vec().into());
    // Those are a list in the library.
    Ok(mysql_async::SslOpts::default()
        .with_root_certs(certificates.collect())
        .with_disable_built_in_roots(true))
}
