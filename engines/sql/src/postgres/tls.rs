//! [`Tls`]: an encrypted connection, to a server for whom a certificate vouches.

use std::fmt;
use std::sync::Arc;

use cgi_session::{Config, Error, Result};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::socket::Socket;
use crate::engine::{Failure, Kind};
use crate::tls::own_authorities;

type Connector = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;

/// What is needed to encrypt.
pub(super) struct Tls {
    make: MakeRustlsConnect,
}

impl Tls {
    /// Believes the certificates of `databaseCaFile`, or those that the system trusts.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let authorities = match own_authorities(config)? {
            Some(own) => own,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Config(format!("no TLS: {error}")))?;
        let client = versions.with_root_certificates(roots).with_no_client_auth();
        let make = MakeRustlsConnect::new(client);
        Ok(Tls { make })
    }

    /// For one connection to this host.
    pub(super) fn connector(&self, host: &str) -> Result<Connector, Failure> {
        let mut make = self.make.clone();
        MakeTlsConnect::<Socket>::make_tls_connect(&mut make, host)
            .map_err(|error| Failure::new(Kind::Refused, error))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
