//! What students learn from and are measured on.

mod bad;
pub mod detect;
pub mod parallel;
pub mod text;

pub use bad::Bad;
