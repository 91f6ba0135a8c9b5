//! TLS to a server: what it is verified by, and what we show it when it asks who we are.

use std::fmt::Display;
use std::fs;
use std::sync::Arc;

use cgi_session::{Config, Error, Result};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use crate::access::wrong;

/// Of a file that cannot be read as PEM. The reasons of the parser hold lines of the file, which may be a key.
const NO_PEM: &str =
    "it is no PEM: BEGIN, END and what is between them stand in lines of their own";

/// What a server may ask for, checked.
pub struct Identity {
    /// The certificate, those that vouch for it, and its key.
    pub certified: CertifiedKey,
    /// Both as PEM.
    pub pem: [String; 2],
}

/// The certificates of `databaseCaFile` as PEM; `None` when it is not set.
///
/// # Errors
///
/// [`Error::Config`] when the file cannot be read or holds none.
pub fn authorities(config: &Config) -> Result<Option<Vec<u8>>> {
    let Some(path) = config.database_ca_file() else {
        return Ok(None);
    };
    let text = fs::read(path).map_err(|error| wrong(config, "databaseCaFile", &error))?;
    certificates(config, "databaseCaFile", &text)?;
    Ok(Some(text))
}

/// What `databaseCertFile` and `databaseKeyFile` hold; `None` when they are not set.
///
/// # Errors
///
/// [`Error::Config`] when a file cannot be used, or the key is not that of the certificate.
pub fn identity(config: &Config) -> Result<Option<Identity>> {
    let Some(pem) = config.database_identity()? else {
        return Ok(None);
    };
    let wrong_key = |reason: &dyn Display| wrong(config, "databaseKeyFile", reason);
    let certificates = certificates(config, "databaseCertFile", pem[0].as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(pem[1].as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => wrong_key(&"it holds no key (PEM, not encrypted)"),
        _ => wrong_key(&NO_PEM),
    })?;
    let certified = CertifiedKey::from_der(certificates, key, &ring::default_provider());
    let certified = certified.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong_key(&"it is not the key of the certificate in databaseCertFile")
        }
        rustls::Error::InvalidCertificate(_) => wrong(config, "databaseCertFile", &error),
        error => wrong_key(&error),
    })?;
    Ok(Some(Identity { certified, pem }))
}

/// What encrypts, for a library that takes a configuration.
///
/// # Errors
///
/// As [`authorities`] and [`identity`].
pub fn client(config: &Config) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities_or_those_of_the_system(config)?);
    let failed = |error| Error::Config(format!("no TLS: {error}"));
    let client = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots);
    Ok(match identity(config)? {
        Some(own) => {
            client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified)))
        }
        None => client.with_no_client_auth(),
    })
}

/// The certificates of `databaseCaFile`, or the system's when it is not set.
///
/// # Errors
///
/// As [`authorities`].
pub fn authorities_or_those_of_the_system(config: &Config) -> Result<Vec<CertificateDer<'static>>> {
    match authorities(config)? {
        Some(text) => certificates(config, "databaseCaFile", &text),
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

/// Chooses what encrypts for libraries that take the program's choice, and panic where there is none but several to
/// choose from.
pub fn provide() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may have been faster.
        let _ = ring::default_provider().install_default();
    }
}

/// The certificates of a file.
fn certificates(config: &Config, file: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|_| wrong(config, file, &NO_PEM))?;
    if found.is_empty() {
        return Err(wrong(config, file, &"it holds no certificates (PEM)"));
    }
    Ok(found)
}
