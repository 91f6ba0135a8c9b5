//! Sessions as an application sees them, on real files.

mod administration;
mod applications;
mod cookie;
mod devices;
mod exclusive;
mod grace;
mod names;
mod notes;
mod regenerate;
mod rotation;
mod signed_in;
mod timeout;
mod user_limit;
mod users;
mod verbs;
