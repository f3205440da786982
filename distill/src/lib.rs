//! Teaches small *students* from big teachers, and measures them.
//!
//! The companion of the runtime `pupil`, and never a dependency of it.
//!
//! ```no_run
//! use pupil_distill::{
//!     data::detect::{Dataset, Options},
//!     eval::detect::Evaluation,
//! };
//!
//! let dataset = Dataset::open("vehicles", &Options { split: Some("val+test".into()), ..Options::default() })?;
//! let mut evaluation = Evaluation::new(&dataset.classes);
//! for (index, picture) in dataset.pictures.iter().enumerate() {
//!     let found = []; // what a detector sees in `picture.path`
//!     evaluation.add(index, &picture.boxes, &found)?;
//! }
//! println!("{}", evaluation.finish());
//! # Ok::<(), pupil_distill::Error>(())
//! ```
//!
//! # The tour
//!
//! 1. [`data`]: what students learn from and are measured on.
//! 2. [`eval`]: how good a student is.
//! 3. [`shortlist`]: which tokens a translation may have.
//!
//! And with the feature `train`:
//!
//! 4. `tokenizer`: vocabularies, learned from the text.
//! 5. `batch`: what goes through a network at once.
//! 6. `student`: trainable twins of the runtime's networks.
//! 7. `teacher`: who says what should follow each token.
//! 8. `labels`: what a teacher said, kept: answers as text, probabilities in a store.
//! 9. `loss`: what students are trained to make small.
//! 10. `nn`: the operations that students are made of, with their gradients.
//! 11. `optimizer`: the step from gradients to better weights.
//! 12. `export`: the file that the runtime maps.
//! 13. `device`: where they learn.
//! 14. `detector`: the same for detectors, whose students, losses and files are another world.
//! 15. `recipe` and `train`: a whole training, of either world.

#[cfg(feature = "train")]
pub mod batch;
pub mod data;
#[cfg(feature = "train")]
pub mod detector;
#[cfg(feature = "train")]
pub mod device;
mod error;
pub mod eval;
#[cfg(feature = "train")]
pub mod export;
mod fnv;
#[cfg(feature = "train")]
pub mod labels;
#[cfg(feature = "train")]
pub mod loss;
#[cfg(feature = "train")]
pub mod nn;
#[cfg(feature = "train")]
pub mod optimizer;
#[cfg(feature = "train")]
pub mod recipe;
pub mod shortlist;
#[cfg(feature = "train")]
pub mod student;
#[cfg(feature = "train")]
pub mod teacher;
#[cfg(feature = "train")]
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, ErrorKind, Result};
