//! Mixed traffic over nginx and Apache while things break at random: nothing that was acknowledged may
//! be lost, and files, memory and descriptors must stay level.

mod faults;
pub(crate) mod gauge;
pub(crate) mod plot;
pub(crate) mod run;
mod traffic;
mod troubles;
pub(crate) mod verdict;
mod visitor;
