//! The table of what detectors need and language models do not.

use super::{Activation, Arithmetic, Dense, Depthwise};

/// One instruction set's kernels over maps: a table of its own, so that a program without detectors carries none of them.
/// They are handed out and checked as those of [`Kernels`](super::Kernels), and `unsafe` for the same reason.
pub(crate) struct MapKernels {
    /// Output pixels that a dense convolution computes at once.
    pub(crate) conv_pixels: usize,
    /// Whether bytes are multiplied as signed ones, after 128 was taken off: what the sums' starts have to make up for.
    pub(crate) flips: bool,
    pub(super) dense_floats: unsafe fn(&mut Dense<'_, f32>),
    pub(super) dense_bytes: unsafe fn(&mut Dense<'_, u8>),
    pub(super) depthwise_floats: unsafe fn(&mut Depthwise<'_, f32>),
    pub(super) depthwise_bytes: unsafe fn(&mut Depthwise<'_, u8>),
    pub(super) activate: unsafe fn(Activation, &mut [f32]),
    pub(super) narrow: unsafe fn(&[f32], f32, f32, &mut [u8]),
    pub(super) widen_bytes: unsafe fn(&[u8], f32, f32, &mut [f32]),
    pub(super) combine: unsafe fn(Arithmetic, &mut [f32], &[f32]),
    pub(super) maximum_floats: unsafe fn(&mut [f32], &[f32]),
    pub(super) lerp: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(super) softmax_pixels: unsafe fn(&mut [f32], usize),
}

/// What one table takes of another, as [`Kernels`](super::Kernels) does.
impl MapKernels {
    /// The kernels that multiply no bytes.
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    pub(super) const fn with_floats_of(self, other: Self) -> Self {
        Self {
            dense_floats: other.dense_floats,
            depthwise_floats: other.depthwise_floats,
            activate: other.activate,
            narrow: other.narrow,
            widen_bytes: other.widen_bytes,
            combine: other.combine,
            maximum_floats: other.maximum_floats,
            lerp: other.lerp,
            softmax_pixels: other.softmax_pixels,
            ..self
        }
    }

    /// The kernels that multiply bytes of one channel at a time.
    #[cfg(target_arch = "aarch64")]
    pub(super) const fn with_rows_of(self, other: Self) -> Self {
        Self { depthwise_bytes: other.depthwise_bytes, ..self }
    }
}

impl MapKernels {
    /// One group of a dense convolution, or part of its pixels, over a map of f32.
    pub(crate) fn dense_floats(&self, job: &mut Dense<'_, f32>) {
        job.check(0, 1);
        call!(self.dense_floats, job);
    }

    /// The same over a map of bytes. `start` has `−z × Σ weights`, where `z` is the byte that stands for 0 or, if this
    /// table [flips](Self::flips) them, 128 less.
    pub(crate) fn dense_bytes(&self, job: &mut Dense<'_, u8>) {
        job.check(job.bias.len(), 4);
        call!(self.dense_bytes, job);
    }

    /// A depthwise convolution, or some of its rows, over a map of f32.
    pub(crate) fn depthwise_floats(&self, job: &mut Depthwise<'_, f32>) {
        call!(self.depthwise_floats, job);
    }

    /// The same over a map of bytes; `start` is as for [`dense_bytes`](Self::dense_bytes).
    pub(crate) fn depthwise_bytes(&self, job: &mut Depthwise<'_, u8>) {
        call!(self.depthwise_bytes, job);
    }

    /// Applies an activation to every element.
    pub(crate) fn activate(&self, activation: Activation, x: &mut [f32]) {
        call!(self.activate, activation, x);
    }

    /// `out = round(x × inverse + zero)`, at least 0 and at most 255.
    pub(crate) fn narrow(&self, x: &[f32], inverse: f32, zero: f32, out: &mut [u8]) {
        assert_eq!(x.len(), out.len());
        call!(self.narrow, x, inverse, zero, out);
    }

    /// `out = (x − zero) × scale`
    pub(crate) fn widen_bytes(&self, x: &[u8], scale: f32, zero: f32, out: &mut [f32]) {
        assert_eq!(x.len(), out.len());
        call!(self.widen_bytes, x, scale, zero, out);
    }

    /// `x = x ∘ y`, where `y` has as many elements or one.
    pub(crate) fn combine(&self, with: Arithmetic, x: &mut [f32], y: &[f32]) {
        assert!(y.len() == x.len() || y.len() == 1);
        call!(self.combine, with, x, y);
    }

    /// `x = max(x, y)`
    pub(crate) fn maximum_floats(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len());
        call!(self.maximum_floats, x, y);
    }

    /// `out = a + (b − a) × weight`
    pub(crate) fn lerp(&self, a: &[f32], b: &[f32], weight: f32, out: &mut [f32]) {
        assert!(a.len() == out.len() && b.len() == out.len());
        call!(self.lerp, a, b, weight, out);
    }

    /// Softmax over each pixel of `channels` elements.
    pub(crate) fn softmax_pixels(&self, x: &mut [f32], channels: usize) {
        assert!(channels > 0 && x.len().is_multiple_of(channels));
        call!(self.softmax_pixels, x, channels);
    }
}
