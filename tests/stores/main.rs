//! The library's stores: the contract of all of them, what is particular to functions of a program's own, and the
//! file store on real files: what a death leaves, what hostile files do, when sessions end, and who may delete what.

mod cap;
mod contract;
mod custom;
mod custom_store;
mod death;
mod directory;
mod expiry;
mod format;
mod hostile;
mod install;
mod lock_waits;
mod rows;
mod size;
mod space;
mod support;
mod sweep;
mod users;
