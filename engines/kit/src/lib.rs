//! What the stores in databases and servers have in common: [`Pool`] keeps connections, [`table`] asks for what is
//! stored, [`reading`] turns it into records, [`rows`] deletes them, [`access`], `url` and `tls` have the ways to a
//! server, [`waiting`] the pauses between tries for a lock. Each uses nothing of cgi-session but what is public.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod access;
pub mod pool;
pub mod reading;
pub mod rows;
pub mod table;
mod text;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "url")]
pub mod url;
pub mod waiting;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use pool::Pool;
pub use text::{name_of_process, push_hex, random_digits};

/// Locks a mutex. What it guards is whole even where a thread has panicked that had it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
