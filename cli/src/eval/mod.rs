//! `pupil eval`: how good a model is.

#[cfg(feature = "distill")]
mod chat;
#[cfg(feature = "distill")]
mod compare;
mod detect;
mod translate;

use crate::{args::EvalWhat, failure::Outcome};

/// Measures what `what` names and prints its scores.
pub fn run(what: &EvalWhat) -> Outcome {
    match what {
        EvalWhat::Detect(args) => detect::run(args),
        EvalWhat::Translate(args) => translate::run(args),
        #[cfg(feature = "distill")]
        EvalWhat::Chat(args) => chat::run(args),
        #[cfg(feature = "distill")]
        EvalWhat::Compare(args) => compare::run(args),
    }
}
