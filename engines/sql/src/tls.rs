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

/// What encrypts connections to `PostgreSQL`: it believes the certificates of `databaseCaFile`, or those that the
/// system trusts.
#[cfg(feature = "postgres")]
pub(super) fn make_connect(config: &Config) -> Result<tokio_postgres_rustls::MakeRustlsConnect> {
    let authorities = match own_authorities(config)? {
        Some(own) => own,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Config(format!("no TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(client))
}

/// What encrypts connections to `MySQL`: it believes the certificates of `databaseCaFile`, or those that browsers trust.
#[cfg(feature = "mysql")]
pub(super) fn options(config: &Config) -> Result<mysql_async::SslOpts> {
    // The library takes the program's, and panics where there are several.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let own = own_authorities(config)?;
    let is_own = own.is_some();
    let certificates = own.into_iter().flatten().map(|one| one.to_vec().into());
    Ok(mysql_async::SslOpts::default()
        .with_root_certs(certificates.collect())
        .with_disable_built_in_roots(is_own))
}
