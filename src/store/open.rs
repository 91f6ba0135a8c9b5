//! The store that a configuration names.

use std::env;

use super::{FileStore, MemoryStore, Store};
use crate::config::{Config, StorageType};
use crate::error::{Error, Result};

/// Creates the store of this `storageType`.
///
/// # Errors
///
/// [`Error::Config`] when there is none in this program, or the settings do not fit it.
pub(crate) fn open(config: &Config) -> Result<Box<dyn Store>> {
    Ok(match config.storage_type {
        StorageType::File => Box::new(FileStore::new(config)?),
        StorageType::Ram if env::var_os("REQUEST_METHOD").is_some() => {
            return Err(Error::Config(
                "storageType = ram cannot work under CGI: every request is a new process and would find nothing; \
                 use storageType = file, or run the program as FastCGI"
                    .to_owned(),
            ));
        }
        StorageType::Ram => Box::new(MemoryStore::new(config)?),
        StorageType::Custom => {
            return Err(Error::Config(
                "storageType = custom: the program brings its own store, with SessionManager::with_store".to_owned(),
            ));
        }
        #[cfg(feature = "cookie-store")]
        StorageType::Cookie => Box::new(super::CookieStore::new(config)?),
        #[cfg(feature = "sqlite")]
        StorageType::Sqlite => Box::new(super::SqliteStore::new(config)?),
        #[cfg(feature = "redis")]
        StorageType::Redis => Box::new(super::RedisStore::new(config)?),
        #[cfg(feature = "postgres")]
        StorageType::Postgres => Box::new(super::PostgresStore::new(config)?),
        #[cfg(feature = "mysql")]
        StorageType::Mysql => Box::new(super::MysqlStore::new(config)?),
        #[cfg(not(feature = "cookie-store"))]
        StorageType::Cookie => return Err(built_without("cookie", "cookie-store")),
        #[cfg(not(feature = "sqlite"))]
        StorageType::Sqlite => return Err(built_without("sqlite", "sqlite")),
        #[cfg(not(feature = "redis"))]
        StorageType::Redis => return Err(built_without("redis", "redis")),
        #[cfg(not(feature = "postgres"))]
        StorageType::Postgres => return Err(built_without("postgres", "postgres")),
        #[cfg(not(feature = "mysql"))]
        StorageType::Mysql => return Err(built_without("mysql", "mysql")),
    })
}

#[cfg(not(all(
    feature = "cookie-store",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
)))]
fn built_without(storage_type: &str, feature: &str) -> Error {
    Error::Config(format!(
        "storageType = {storage_type}: this program was built without the feature {feature}; \
         build it with that feature of cgi-session, or use storageType = file"
    ))
}
