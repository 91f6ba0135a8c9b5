//! The stores that the tools know: the library's own, and those that they were built with.

use cgi_session::{Config, Result, SessionManager, StoreKind};

const KINDS: [StoreKind; 4] = [
    #[cfg(feature = "sqlite")]
    cgi_session_sqlite::SQLITE,
    #[cfg(not(feature = "sqlite"))]
    StoreKind::new("sqlite", built_without),
    #[cfg(feature = "redis")]
    cgi_session_redis::REDIS,
    #[cfg(not(feature = "redis"))]
    StoreKind::new("redis", built_without),
    #[cfg(feature = "postgres")]
    cgi_session_sql::POSTGRES,
    #[cfg(not(feature = "postgres"))]
    StoreKind::new("postgres", built_without),
    #[cfg(feature = "mysql")]
    cgi_session_sql::MYSQL,
    #[cfg(not(feature = "mysql"))]
    StoreKind::new("mysql", built_without),
];

/// The manager of the store that the configuration names.
///
/// # Errors
///
/// As [`SessionManager::new`], and when the tools were built without this store.
pub fn manager(config: Config) -> Result<SessionManager> {
    SessionManager::with_kinds(config, &KINDS)
}

#[cfg(not(all(
    feature = "sqlite",
    feature = "redis",
    feature = "postgres",
    feature = "mysql"
)))]
fn built_without(config: &Config) -> Result<Box<dyn cgi_session::Store>> {
    let name = config.get("storageType").unwrap_or_default();
    Err(cgi_session::Error::Config(format!(
        "storageType = {name}: these tools were built without the feature {name}; build cgi-session-tools with \
         that feature, or use storageType = file"
    )))
}
