//! Pictures in, boxes out: what surrounds a detector's network.
//!
//! - [`Picture`] is read from a file ([`list`] finds those of a folder), or is a [`Frame`] of a video stream ([`Frames`]).
//! - [`Geometry`] resizes and normalises it into the network's input; the [`Placement`] that it returns maps boxes back.
//! - [`nms`] keeps the best of overlapping [`Detection`]s, and [`draw`] shows them.
//!
//! Pictures and streams are untrusted: whatever their bytes are, the outcome is a picture or an error of one line,
//! in bounded memory.

mod boxes;
mod draw;
mod files;
mod fit;
mod jpeg;
mod label;
mod picture;
mod stream;

pub use boxes::{Detection, Rect, nms};
pub use draw::draw;
pub use files::{EXTENSIONS, is_picture, list};
pub use fit::{Fit, Geometry, Placement, Resampler};
pub use picture::Picture;
pub use stream::{Frame, Frames};
