//! Where records live, for programs that bring a store of their own.
//!
//! A store is a [`Store`] that hands out a [`Lease`] for each session; both say what they must keep. It asks
//! [`Config`](crate::Config) for the limits, moves a [`Record`](crate::Record) as text, and reports failures by
//! [`Error::store`](crate::Error::store), [`Error::unavailable`](crate::Error::unavailable) and [`Error::io`](crate::Error::io), with
//! the advice of [`Error::with_hint`](crate::Error::with_hint). [`Expiry`] says when a session ends. A program gives the store to
//! [`SessionManager::with_store`](crate::SessionManager::with_store), or names its [`StoreKind`] to
//! [`Program::store`](crate::Program::store).
//!
//! Where three functions are enough, [`CustomStore`] makes a store of them.

mod contract;
#[cfg(feature = "cookie-store")]
pub(crate) mod cookie;
mod custom;
pub(crate) mod expiry;
pub(crate) mod file;
pub(crate) mod files;
mod open;
pub(crate) mod ram;

pub(crate) use contract::MAX_LISTINGS;
pub use contract::{
    EachExpired, Examination, Lease, Store, Stored, Sweep, SweepClock, SweepEvent, SweepReport,
    Uninstalled, Visitor, age_of_sweep, check_size,
};
use contract::{RECOUNT, check_length, has_expired};
#[cfg(feature = "cookie-store")]
pub use cookie::{CookieStore, holds_keys};
pub use custom::{CustomFunctions, CustomResult, CustomStore};
pub use expiry::{Expiry, has_passed};
pub use file::FileStore;
#[doc(hidden)]
pub use file::scan::Kind as FileKind;
pub use files::directory::is_dedicated;
pub use files::locks::{SessionLock, SessionLocks, SweepLock};
pub use open::StoreKind;
pub(crate) use open::open;
pub use ram::MemoryStore;

pub use crate::record::unix_seconds;
