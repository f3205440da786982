//! Detectors: students that find objects in pictures.
//!
//! | file | what |
//! |---|---|
//! | [`Config`] | a detector's dimensions |
//! | `network.rs` | its layers, said once |
//! | [`Detector`] | its weights; the pass through it on the CPU is in `recorded.rs`, on other devices in `composed.rs` |
//! | [`anchors`](mod@anchors) | the cells in which it sees objects |
//! | [`assign`](mod@assign) | which cell is to see which object |
//! | [`loss`](mod@loss) | what it is trained to make small: `pieces.rs` has the loss of one number, `boxes.rs` that of one box |
//! | [`program`] | the same network for the runtime, norms folded |
//! | [`export`] | the file that `pupil detect` opens |
//! | [`teacher`] | what a detector that is there already says of the same pictures |
//!
//! One step of training:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use pupil_distill::{
//!     data::detect::Truth,
//!     detector::{Config, Detector, Objective, assign::assign, loss::loss},
//! };
//!
//! let mut student = Detector::new(Config::of_width(8, 3, [64, 64]), 1, &Device::Cpu)?;
//! let pictures = Tensor::zeros((2 * 64 * 64, 3), candle_core::DType::F32, &Device::Cpu)?;
//! let truths = [vec![Truth::new(2, [10.0, 10.0, 40.0, 30.0])], vec![]];
//!
//! let outputs = student.train(&pictures, [64, 64])?;
//! let targets = assign(&outputs, &truths.each_ref().map(|boxes| Some(&boxes[..])))?;
//! let (loss, lost) = loss(&outputs, &targets, None, &Objective::default())?;
//! let gradients = student.gradients(&outputs, &loss.backward()?)?; // for the optimiser
//! assert!(lost.objects > 0 && gradients.contains_key("stem.weight"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod anchors;
pub mod assign;
mod boxes;
mod composed;
mod config;
pub mod export;
pub mod features;
pub mod loss;
mod network;
mod pieces;
pub mod program;
mod recorded;
mod student;
pub mod teacher;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use config::{Config, Stage};
pub use loss::{Lost, Objective, Soft, SoftBoxes};
pub use student::{Detector, Outputs};
pub use teacher::{Lesson, Teacher};
