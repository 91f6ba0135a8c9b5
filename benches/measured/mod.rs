//! What all benchmarks measure with: quartiles, the name of the machine, and programs that are
//! built as the profile `release` says.

pub(crate) mod build;
pub(crate) mod machine;
pub(crate) mod spread;

use std::error::Error;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;
