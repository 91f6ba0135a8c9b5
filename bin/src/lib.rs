//! What the tools have in common: where sessions are, who the tools run as, how they speak, and the storm that
//! tries a store.

pub mod location;
pub mod owner;
pub mod report;
pub mod storm;
