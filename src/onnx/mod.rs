//! ONNX graphs: read and simplified by tract, and lowered to [networks](crate::nets::convnet) of our own.

mod convert;
mod guard;
mod hostile;
mod lower;
mod read;
mod run;

pub use convert::{ConvertOptions, Converted, Engine, convert, cost, holds_graph};
pub use lower::{Lowered, Output, lower};
pub use read::{Graph, Input, Suppression, read_file};
pub(crate) use run::GraphSession;
pub use run::Runner;

/// The largest constant that is computed, in elements.
const MAX_CONSTANT: usize = 1 << 26;
