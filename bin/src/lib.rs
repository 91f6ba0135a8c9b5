//! What the tools have in common: who they run as, and how they speak.

pub mod owner;
pub mod report;
