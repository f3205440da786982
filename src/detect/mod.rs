//! Detectors: from a picture to the objects in it.
//!
//! | file | what |
//! |---|---|
//! | [`Detector`] | what a program calls: picture → network → head → boxes |
//! | [`Spec`] | what a file says besides its network |
//! | [`Head`] | how outputs say where objects are: [`grid`], [`distances`], [`anchors`], [`boxes`], [`finals`] |
//! | [`part`], `scores.rs`, [`Candidates`] | what the heads have in common |
//! | [`Cells`], [`Seen`] | what a head says of every cell, for those who teach students |
//! | [`Preset`], [`guess`] | what converters know of well-known detectors |

pub mod anchors;
pub mod boxes;
mod candidates;
mod cells;
mod coco;
mod detector;
pub mod distances;
pub mod finals;
pub mod grid;
mod head;
mod names;
pub mod part;
mod presets;
mod scores;
mod shapes;
mod spec;
#[cfg(test)]
mod tests;

pub use candidates::Candidates;
pub use cells::{Cells, Seen};
pub use coco::COCO;
pub use detector::{DetectOptions, Detector, Times};
pub use head::Head;
pub use presets::{PRESETS, Preset, class_names, guess};
pub use scores::Scores;
pub use spec::Spec;
