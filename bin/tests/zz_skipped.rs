//! The last of the test programs of both packages.

#[path = "../../tests/zz_skipped.rs"]
mod zz_skipped;
