//! Sessions as an application sees them: through the session manager, in every surrounding.

mod cookie_store;
mod corpora;
mod documents;
mod login;
mod memory;
mod other_systems;
mod seeds;
mod session;
mod settings;
mod surroundings;
