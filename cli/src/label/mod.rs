//! `pupil label`: what a teacher says, written down for students.

pub mod args;
mod hard;
mod soft;

use crate::failure::Outcome;
use args::{LabelArgs, LabelWhat};

/// Does what `args` ask.
pub fn run(args: &LabelArgs) -> Outcome {
    match &args.what {
        LabelWhat::Prompts(args) => hard::prompts(args),
        LabelWhat::Answers(args) => hard::answers(args),
        LabelWhat::Dataset(args) => hard::dataset(args),
        LabelWhat::Soft(args) => soft::write(args),
        LabelWhat::Merge(args) => soft::merge(args),
        LabelWhat::Inspect(args) => soft::inspect(args),
    }
}
