//! What students learn from and are measured on.

pub mod detect;
pub mod parallel;
pub mod text;
