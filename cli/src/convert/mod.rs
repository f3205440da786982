//! `pupil convert`: a GGUF file out of what others have: a detector's ONNX graph, or the folder of a language model.

mod checkpoint;
mod detector;

use crate::{args::ConvertArgs, failure::Outcome};

/// Converts the file or folder that `args` name, and says what was done.
pub fn run(args: &ConvertArgs) -> Outcome {
    if args.model.is_dir() { checkpoint::run(args) } else { detector::run(args) }
}
