//! How good a student is.

#[cfg(feature = "train")]
pub mod chat;
pub mod detect;
pub mod text;
pub mod translate;
