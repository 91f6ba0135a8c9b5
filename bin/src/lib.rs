//! What the tools have in common: where sessions are, who the tools run as, how they speak, which stores they know, the storm that
//! tries a store, and the transfer of sessions from one into another.

pub mod location;
pub mod owner;
pub mod private;
pub mod progress;
pub mod report;
pub mod stores;
pub mod storm;
pub mod transfer;
