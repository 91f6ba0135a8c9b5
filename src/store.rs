//! Where records live: the contract of a store, and the stores.

mod contract;
#[cfg(feature = "cookie-store")]
pub(crate) mod cookie;
mod custom;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod expired;
mod expiry;
pub(crate) mod file;
pub(crate) mod files;
mod open;
#[cfg(any(test, feature = "mysql", feature = "postgres", feature = "redis"))]
mod pool;
pub(crate) mod ram;
#[cfg(any(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod reading;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
pub use contract::{
    Examination, Lease, Store, Stored, Sweep, SweepEvent, SweepReport, Uninstalled, Visitor,
};
use contract::{MAX_LISTINGS, RECOUNT, SweepClock, age_of_sweep, check_size, has_expired};
#[cfg(feature = "cookie-store")]
pub use cookie::CookieStore;
pub use custom::{CustomFunctions, CustomResult, CustomStore};
pub use file::FileStore;
pub(crate) use open::open;
pub use ram::MemoryStore;
#[cfg(feature = "mysql")]
pub use sql::MysqlStore;
#[cfg(feature = "postgres")]
pub use sql::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
