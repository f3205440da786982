//! How good a student is.

pub mod detect;
pub mod translate;
