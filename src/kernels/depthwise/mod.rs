//! Depthwise convolution: each channel has a filter of its own, so lanes are channels.
//!
//! Rows of the input are first copied into an order in which the inner loops read one vector after the other, with what
//! lies outside of the map around them, and the last few are kept: an output row meets most of those that the one before
//! met ([`rows`]). In f32 that order is column after column of one vector of channels ([`floats`]). In bytes, four
//! neighbouring pixels of a channel lie side by side, as the dot product of four bytes wants ([`bytes`]).

mod bytes;
mod floats;
mod rows;

pub(super) use bytes::bytes;
pub(super) use floats::floats;
pub(crate) use {bytes::Quads, rows::Rows};

use super::buffer::Buffer;
use super::conv::{Element, Sweep};
use super::output::Finish;
use super::simd::Simd;
use std::ops::Range;

/// A depthwise convolution, or some rows of it.
pub(crate) struct Depthwise<'a, E: Element> {
    /// How the kernel moves.
    pub sweep: &'a Sweep,
    /// The map, and at least 16 elements behind it.
    pub x: &'a [E],
    /// Channels.
    pub channels: usize,
    /// The weights.
    pub filter: Filter<'a>,
    /// What is added to the sums: one for each channel, in whole blocks.
    pub bias: &'a [f32],
    /// Which output rows to compute.
    pub rows: Range<usize>,
    /// What becomes of them.
    pub finish: Finish<'a>,
    /// Scratch: the sums of a row.
    pub sums: &'a mut Buffer<f32>,
}

/// The weights of a depthwise convolution.
pub(crate) enum Filter<'a> {
    /// Of f32.
    F32 {
        /// `[ky][kx][channel]`, the channels in whole blocks.
        weights: &'a [f32],
        /// Scratch.
        rows: &'a mut Rows<f32>,
    },
    /// Of bytes.
    U8 {
        /// The weights, arranged by [`Quads`].
        quads: &'a Quads,
        /// The byte that stands for 0.
        zero: u8,
        /// What the sums begin with: one for each channel, in whole blocks.
        start: &'a [i32],
        /// What they are multiplied with.
        scale: &'a [f32],
        /// Scratch.
        rows: &'a mut Rows<u8>,
    },
}

impl<E: Element> Depthwise<'_, E> {
    /// The number of a row's first pixel, among those that are computed.
    #[inline(always)]
    fn first_pixel(&self, y: usize) -> usize {
        (y - self.rows.start) * self.sweep.out_width
    }

    #[inline(always)]
    fn finish_row<S: Simd>(&mut self, s: S, y: usize) {
        let first = self.first_pixel(y);
        let sums = &self.sums[..self.sweep.out_width * self.bias.len()];
        self.finish.pixels(s, first, [0, self.channels], sums, self.bias.len());
    }
}
