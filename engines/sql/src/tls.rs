//! TLS to a database server.

use cgi_session::{Config, Result};
use cgi_session_kit::tls;

/// What encrypts connections to `PostgreSQL`.
#[cfg(feature = "postgres")]
pub(super) fn make_connect(config: &Config) -> Result<tokio_postgres_rustls::MakeRustlsConnect> {
    tls::client(config).map(tokio_postgres_rustls::MakeRustlsConnect::new)
}

/// What encrypts connections to `MySQL`.
#[cfg(feature = "mysql")]
pub(super) fn options(config: &Config) -> Result<mysql_async::SslOpts> {
    tls::provide();
    let certificates = tls::authorities_or_those_of_the_system(config)?;
    let certificates = certificates.iter().map(|one| one.to_vec().into());
    let identity = tls::identity(config)?.map(|own| {
        let [certificate, key] = own.pem.map(|text| text.into_bytes().into());
        mysql_async::ClientIdentity::new(certificate, key)
    });
    // Each of them is a list in the library.
    Ok(mysql_async::SslOpts::default()
        .with_root_certs(certificates.collect())
        .with_client_identity(identity)
        .with_disable_built_in_roots(true))
}
