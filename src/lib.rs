//! Runs small *students* from one memory-mapped file on ARM and x86 CPUs.

pub mod bytes;
mod chat;
mod error;
pub mod gguf;
pub mod kernels;
mod model;
pub mod nets;
pub mod quant;
pub mod tensor;
pub mod text;
mod threads;

pub use chat::{Answer, Chat, ChatOptions, Finish};
pub use error::{Error, ErrorKind, Result};
pub use model::Model;
