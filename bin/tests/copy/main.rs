//! `cgi-session copy`: sessions arrive as they were, nothing that is written meanwhile is lost in either store,
//! and what cannot be brought is told.

mod controls;
mod crowd;
mod pair;
mod refusals;
mod repeated;
mod whole;
