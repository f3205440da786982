//! `pupil eval`: how good a model is.

mod detect;
mod translate;

use crate::{
    args::EvalWhat,
    failure::{Failure, Outcome},
};

/// Measures what `what` names and prints its scores.
pub fn run(what: &EvalWhat) -> Outcome {
    match what {
        EvalWhat::Detect(args) => detect::run(args),
        EvalWhat::Translate(args) => translate::run(args),
    }
}

fn said(error: pupil_distill::Error) -> Failure {
    Failure::Message(error.to_string())
}
