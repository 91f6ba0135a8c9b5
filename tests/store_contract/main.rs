//! What every store keeps, whatever it is made of: one suite, run against all of them.

mod custom;
mod library;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_away;
#[cfg(feature = "redis")]
mod redis_contract;
#[cfg(feature = "redis")]
mod redis_keys;
#[cfg(feature = "redis")]
mod redis_line;
#[cfg(feature = "redis")]
mod redis_programs;
#[cfg(all(feature = "redis", feature = "tls"))]
mod redis_tls;
mod rows;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql_away;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql_contract;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql_limits;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql_locks;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql_many;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql_new;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod sql_server;
#[cfg(all(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "tls"
))]
mod sql_tls;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_contract;
