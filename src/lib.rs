//! Runs small *students* from one memory-mapped file on ARM and x86 CPUs.

pub mod bytes;
mod error;
pub mod gguf;
pub mod kernels;
pub mod nets;
pub mod quant;
pub mod tensor;
pub mod text;
mod threads;

pub use error::{Error, ErrorKind, Result};
