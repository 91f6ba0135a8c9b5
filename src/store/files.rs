//! What stores that live in a directory have in common.

pub(super) mod calls;
pub(super) mod directory;
pub(crate) mod lock;
pub(super) mod locks;
pub(super) mod own;
