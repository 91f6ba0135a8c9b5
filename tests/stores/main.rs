//! The file store, through the public API and on real files: what a death leaves, what hostile
//! files do, when sessions end, and who may delete what.

mod cap;
mod custom_store;
mod death;
mod directory;
mod expiry;
mod format;
mod hostile;
mod install;
mod lock_waits;
mod size;
mod space;
mod support;
mod sweep;
mod users;
