//! What all benchmarks measure with: quartiles, the name of the machine, and programs that are
//! built as the profile `release` says.

#[allow(dead_code, reason = "not every benchmark builds programs")]
pub(crate) mod build;
pub(crate) mod machine;
pub(crate) mod spread;

use std::error::Error;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;
