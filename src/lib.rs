//! Runs small *students* from one memory-mapped file on ARM and x86 CPUs.
//!
//! ```no_run
//! use pupil::{Chat, ChatOptions, Model};
//! use std::ops::ControlFlow;
//!
//! let model = Model::open("student.gguf")?;
//! let mut chat = Chat::new(&model, ChatOptions::default())?;
//! chat.say("Why is the sky blue?", |piece| {
//!     print!("{piece}");
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), pupil::Error>(())
//! ```
//!
//! And with the feature `image`, which is on by default, what is in a picture:
//!
#![cfg_attr(feature = "image", doc = "```no_run")]
#![cfg_attr(not(feature = "image"), doc = "```ignore")]
//! use pupil::{Detector, Picture};
//!
//! let mut detector = Detector::open("detector.gguf")?;
//! for found in detector.detect(&Picture::open("street.jpg")?)? {
//!     println!("{} at {:?}", detector.spec().classes[found.class], found.rect);
//! }
//! # Ok::<(), pupil::Error>(())
//! ```
//!
//! # The tour
//!
//! Data goes one way, and each layer uses only those before it:
//!
//! 1. [`bytes`]: a file is mapped (or embedded in the program) and stays where it is; [`output`]: files that are written.
//! 2. [`gguf`]: the container is parsed and checked to the last offset; nothing is copied.
//! 3. [`quant`] and [`tensor`]: what each block format means, and views over the file's bytes.
//! 4. [`kernels`]: the hot loops, written once over small vector traits and instantiated per instruction set.
//! 5. [`nets`]: whole forward passes over mapped weights; `nets::decoder` reads from top to bottom.
//! 6. [`text`]: tokenizers, chat templates, sampling.
//! 7. `image` (a feature): pictures and video frames in, boxes out.
//! 8. `detect` (with the same feature): from a network's outputs to objects; `detect::Detector` reads from top to bottom.
//! 9. [`translate`]: sentences of a text through an encoder-decoder, and back into the layout.
//! 10. [`Model`] and [`Chat`], [`Translator`], or `Detector`: what most programs need, and nothing else.
//!
//! Files are untrusted: whatever is in one, opening it gives a model or an [`Error`] of one line.

pub mod bytes;
pub mod calibrate;
#[cfg(feature = "capi")]
pub mod capi;
mod chat;
#[cfg(feature = "convert")]
pub mod convert;
#[cfg(feature = "image")]
pub mod detect;
mod error;
pub mod gguf;
#[cfg(feature = "image")]
pub mod image;
pub mod kernels;
mod model;
pub mod nets;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod output;
pub mod quant;
pub mod tensor;
pub mod text;
mod threads;
pub mod translate;

pub use chat::{Answer, Chat, ChatOptions, Finish};
#[cfg(feature = "image")]
pub use detect::{DetectOptions, Detector};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "image")]
pub use image::{Detection, Picture};
pub use model::Model;
pub use threads::{MAX_THREADS, all_threads};
pub use translate::{TranslateOptions, Translation, Translator};
