//! Real programs in hostile surroundings: full, failing and read-only disks, limits of the process,
//! holders that are stopped, clocks that jump, directories and files that are not what they seem. A
//! request is served, or refused with a whole page and a reason in the log; what was acknowledged is never lost
//! or damaged, nothing hangs, and when the trouble is over the next request goes on.

mod clock;
mod disks;
mod holders;
mod holding;
mod limits;
mod planted;
mod resident;
mod swap;
mod visitor;
