//! What the tools have in common: who they run as, how they speak, and the storm that tries a store.

pub mod owner;
pub mod report;
pub mod storm;
