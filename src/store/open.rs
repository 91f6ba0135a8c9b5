//! The store that a configuration names.

use std::env;
use std::sync::Arc;

use super::{FileStore, MemoryStore, Store};
use crate::config::{Config, StorageType};
use crate::error::{Error, Result};

/// A kind of store outside of the library, and the `storageType` by which a configuration chooses it.
///
/// Crates of stores have one as a constant, and a program names the ones that it can work with:
/// `Program::new().store(cgi_session_redis::REDIS)`. For a store of a program's own `storageType` is `custom`.
#[derive(Clone, Copy, Debug)]
pub struct StoreKind {
    storage_type: &'static str,
    open: fn(&Config) -> Result<Box<dyn Store>>,
}

impl StoreKind {
    /// The kind that `storageType = storage_type` chooses. `open` connects nothing yet, and fails with
    /// [`Error::Config`] when the settings do not fit the store.
    #[must_use]
    pub const fn new(
        storage_type: &'static str,
        open: fn(&Config) -> Result<Box<dyn Store>>,
    ) -> Self {
        StoreKind { storage_type, open }
    }
}

/// Creates the store of this `storageType`: one of `kinds`, or the library's own.
///
/// # Errors
///
/// [`Error::Config`] when there is none in this program, or the settings do not fit it.
pub(crate) fn open(config: &Arc<Config>, kinds: &[StoreKind]) -> Result<Box<dyn Store>> {
    let storage_type = config.get("storageType").unwrap_or_default();
    if let Some(kind) = kinds.iter().find(|kind| kind.storage_type == storage_type) {
        return (kind.open)(config);
    }
    Ok(match config.storage_type {
        StorageType::File => Box::new(FileStore::new(Arc::clone(config))?),
        StorageType::Ram if env::var_os("REQUEST_METHOD").is_some() => {
            return Err(Error::Config(
                "storageType = ram cannot work under CGI: every request is a new process and would find nothing; \
                 use storageType = file, or run the program as FastCGI"
                    .to_owned(),
            ));
        }
        StorageType::Ram => Box::new(MemoryStore::new(Arc::clone(config))?),
        StorageType::Custom => {
            return Err(Error::Config(
                "storageType = custom: the program brings its own store, with Program::store or \
                 SessionManager::with_store"
                    .to_owned(),
            ));
        }
        #[cfg(feature = "cookie-store")]
        StorageType::Cookie => Box::new(super::CookieStore::new(Arc::clone(config))?),
        #[cfg(not(feature = "cookie-store"))]
        StorageType::Cookie => {
            return Err(Error::Config(
                "storageType = cookie: this program was built without the feature cookie-store; \
                 build it with that feature of cgi-session, or use storageType = file"
                    .to_owned(),
            ));
        }
        StorageType::Sqlite => return Err(unknown_here("sqlite", "sqlite")),
        StorageType::Redis => return Err(unknown_here("redis", "redis")),
        StorageType::Postgres => return Err(unknown_here("postgres", "sql")),
        StorageType::Mysql => return Err(unknown_here("mysql", "sql")),
    })
}

fn unknown_here(storage_type: &str, name: &str) -> Error {
    Error::Config(format!(
        "storageType = {storage_type}: this program does not know that store; add the crate cgi-session-{name} to \
         its Cargo.toml and write Program::new().store(cgi_session_{name}::{kind}).run(..) or \
         SessionManager::with_kinds(config, &[cgi_session_{name}::{kind}]), or use storageType = file",
        kind = storage_type.to_uppercase()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_the_program_does_not_name_is_an_error_with_the_crate_and_the_line() {
        let config = Config::new().set("storageType", "postgres").unwrap();
        let error = open(&Arc::new(config), &[]).map(drop).unwrap_err();
        let error = error.to_string();
        for part in [
            "storageType = postgres",
            "the crate cgi-session-sql",
            "Program::new().store(cgi_session_sql::POSTGRES)",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
