//! Depthwise convolution: each channel has a filter of its own, so lanes are channels.
//!
//! In f32, a few neighbouring pixels are computed at once and share what they load. In bytes, rows of the input are first
//! interleaved so that four neighbouring pixels of a channel lie side by side, in the order that the dot product of four
//! bytes wants. An output pixel then needs one or two such quads of each row instead of every kernel element; which of
//! their bytes it takes is a matter of where its weights are put ([`Quads`]).

// Taps, pixels and phases number several arrays at once, which the compiler keeps in registers when it unrolls the loops.
#![allow(clippy::needless_range_loop)]

use super::conv::{BLOCK, Element, Sweep};
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
    pub sums: &'a mut Vec<f32>,
}

/// The weights of a depthwise convolution.
pub(crate) enum Filter<'a> {
    /// `[ky][kx][channel]`, the channels in whole blocks.
    F32(&'a [f32]),
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
        rows: &'a mut Rows,
    },
}

/// In f32, row by row.
#[inline(always)]
pub(super) fn floats<S: Simd>(s: S, job: &mut Depthwise<f32>) {
    job.sums.resize(job.sweep.out_width * job.bias.len(), 0.0);
    for y in job.rows.clone() {
        match job.sweep.square() {
            (3, 1) => row::<_, 3, 1, 4>(s, job, y),
            (3, 2) => row::<_, 3, 2, 4>(s, job, y),
            (5, 1) => row::<_, 5, 1, 4>(s, job, y),
            (5, 2) => row::<_, 5, 2, 4>(s, job, y),
            _ => row::<_, 0, 0, 2>(s, job, y),
        }
        job.finish_row(s, y);
    }
}

impl<E: Element> Depthwise<'_, E> {
    #[inline(always)]
    fn finish_row<S: Simd>(&mut self, s: S, y: usize) {
        let first = (y - self.rows.start) * self.sweep.out_width;
        let sums = &self.sums[..self.sweep.out_width * self.bias.len()];
        self.finish.pixels(s, first, [0, self.channels], sums, self.bias.len());
    }
}

/// The sums of a row: pixel by pixel at the borders, `P` at a time between them. `KW` and `STEP` are the kernel's width
/// and stride along the row where the compiler shall know them, else 0.
#[inline(always)]
fn row<S: Simd, const KW: usize, const STEP: usize, const P: usize>(s: S, job: &mut Depthwise<f32>, y: usize) {
    let sweep = job.sweep;
    let width = if KW > 0 { KW } else { sweep.kernel[1] };
    let whole = |x: usize| sweep.at(1, x, 0).is_some() && sweep.at(1, x, width - 1).is_some();
    let left = (0..sweep.out_width).find(|&x| whole(x)).unwrap_or(sweep.out_width);
    let right = (left..sweep.out_width).rev().find(|&x| whole(x)).map_or(left, |x| x + 1);
    let mut x = 0;
    while x < sweep.out_width {
        if left <= x && x < right && left + P <= right {
            // The last tile may begin among the pixels of the one before.
            pixels::<S, KW, STEP, P>(s, job, [y, x.min(right - P)], 0, width);
            x = right.min(x + P);
        } else {
            let first = (0..width).find(|&kx| sweep.at(1, x, kx).is_some()).unwrap_or(0);
            let count = (first..width).take_while(|&kx| sweep.at(1, x, kx).is_some()).count();
            pixels::<S, 0, 0, 1>(s, job, [y, x], first, count);
            x += 1;
        }
    }
}

/// `P` output pixels, over `count` kernel columns from `first_kx` on, all of them inside of the map.
#[inline(always)]
fn pixels<S: Simd, const KW: usize, const STEP: usize, const P: usize>(
    s: S,
    job: &mut Depthwise<f32>,
    [y, x]: [usize; 2],
    first_kx: usize,
    count: usize,
) {
    let Filter::F32(weights) = &job.filter else { unreachable!("f32 maps have f32 weights") };
    let sweep = job.sweep;
    let padded = job.bias.len();
    let (count, dilation) = if KW > 0 { (KW, 1) } else { (count, sweep.dilation[1]) };
    let step = if STEP > 0 { STEP } else { sweep.stride[1] };
    let first_column = x * sweep.stride[1] + first_kx * sweep.dilation[1] - sweep.pads[1];
    for channel in (0..job.channels).step_by(S::LANES) {
        let mut sums = [s.load(&job.bias[channel..]); P];
        for ky in 0..sweep.kernel[0] {
            let Some(row) = sweep.at(0, y, ky) else { continue };
            let x = &job.x[(row * sweep.size[1] + first_column) * sweep.pixel + channel..];
            let w = &weights[(ky * sweep.kernel[1] + first_kx) * padded + channel..];
            for kx in 0..count {
                let w = s.load(&w[kx * padded..]);
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = s.mul_add(s.load(&x[(p * step + kx * dilation) * sweep.pixel..]), w, *sum);
                }
            }
        }
        for p in 0..P {
            s.store(sums[p], &mut job.sums[(x + p) * padded + channel..]);
        }
    }
}

/// The weights of a depthwise convolution in bytes.
///
/// Pixels of a row, counted from the first padded one, are taken in quads. Output pixels repeat in *phases*: with a
/// stride of 1 the first of four begins at byte 0 of a quad, the next one at byte 1, and so on. For every kernel row and
/// phase there is a list of quads with each weight at the byte it meets, and zeros elsewhere.
pub(crate) struct Quads {
    /// `[ky][phase][quad][channel][4]`, the channels in whole blocks.
    weights: Vec<u8>,
    /// Quads of a phase, at most.
    per_phase: usize,
    /// Channels in whole blocks.
    padded: usize,
}

/// Output pixels after which the bytes of quads are met in the same way.
const fn phases(stride: usize) -> usize {
    if stride.is_multiple_of(4) {
        1
    } else if stride.is_multiple_of(2) {
        2
    } else {
        4
    }
}

/// Quads that output pixel `phase` meets in a row.
const fn quads_of(phase: usize, stride: usize, reach: usize) -> usize {
    (phase * stride % 4 + reach) / 4 + 1
}

impl Quads {
    /// Arranges weights `[ky][kx][channel]`.
    pub fn new(sweep: &Sweep, channels: usize, weights: &[i8]) -> Self {
        let ([height, width], stride) = (sweep.kernel, sweep.stride[1]);
        let padded = channels.next_multiple_of(BLOCK);
        let reach = (width - 1) * sweep.dilation[1];
        let phases = phases(stride);
        let per_phase = (0..phases).map(|phase| quads_of(phase, stride, reach)).max().unwrap_or(0);
        let mut quads = vec![0; height * phases * per_phase * padded * 4];
        for ky in 0..height {
            for phase in 0..phases {
                for kx in 0..width {
                    let byte = phase * stride % 4 + kx * sweep.dilation[1];
                    let quad = (ky * phases + phase) * per_phase + byte / 4;
                    for channel in 0..channels {
                        let weight = weights[(ky * width + kx) * channels + channel];
                        quads[(quad * padded + channel) * 4 + byte % 4] = weight as u8;
                    }
                }
            }
        }
        Self { weights: quads, per_phase, padded }
    }
}

/// Interleaved rows of a map: the last few that were needed.
#[derive(Default)]
pub(crate) struct Rows {
    /// Which row of the map each slot holds.
    held: Vec<usize>,
    /// `[slot][quad][channel][4]`; the last slot stands for what is outside of the map.
    bytes: Vec<u8>,
    /// Bytes of a slot.
    slot: usize,
    /// A pixel outside of the map.
    outside: Vec<u8>,
    /// Where the rows that an output row meets begin.
    met: Vec<usize>,
}

const NO_ROW: usize = usize::MAX;

impl Rows {
    /// Forgets all rows, and sets their number and size.
    fn reset(&mut self, slots: usize, slot: usize, padded: usize, zero: u8, flip: u8) {
        self.slot = slot;
        self.held.clear();
        self.held.resize(slots, NO_ROW);
        self.bytes.resize((slots + 1) * slot, 0);
        self.bytes[slots * slot..].fill(zero ^ flip);
        self.outside.clear();
        self.outside.resize(padded, zero);
    }
}

/// In bytes, row by row.
#[inline(always)]
pub(super) fn bytes<S: Simd>(s: S, job: &mut Depthwise<u8>) {
    let Filter::U8 { quads, zero, rows, .. } = &mut job.filter else { unreachable!("bytes have such weights") };
    let (sweep, padded) = (job.sweep, quads.padded);
    let (reach, stride) = ((sweep.kernel[1] - 1) * sweep.dilation[1], sweep.stride[1]);
    let phases = phases(stride);
    let groups = sweep.out_width.div_ceil(phases);
    job.sums.resize(groups * phases * padded, 0.0);
    let last = (0..phases).map(|phase| phase * stride / 4 + quads_of(phase, stride, reach)).max().unwrap_or(1);
    let slots = (sweep.kernel[0] - 1) * sweep.dilation[0] + 1;
    rows.reset(slots, ((groups - 1) * (phases * stride / 4) + last) * padded * 4, padded, *zero, 0x80 ^ S::FLIP);
    for y in job.rows.clone() {
        let Filter::U8 { rows, .. } = &mut job.filter else { unreachable!("bytes have such weights") };
        rows.met.clear();
        for ky in 0..sweep.kernel[0] {
            let slot = match sweep.at(0, y, ky) {
                None => slots,
                Some(row) => {
                    if rows.held[row % slots] != row {
                        rows.held[row % slots] = row;
                        let to = &mut rows.bytes[row % slots * rows.slot..][..rows.slot];
                        interleave(s, sweep, &job.x[row * sweep.size[1] * sweep.pixel..], &rows.outside, to);
                    }
                    row % slots
                }
            };
            rows.met.push(slot * rows.slot);
        }
        match sweep.square() {
            (3, 1) => quad_row::<_, 3, 1>(s, job),
            (3, 2) => quad_row::<_, 3, 2>(s, job),
            (5, 1) => quad_row::<_, 5, 1>(s, job),
            (5, 2) => quad_row::<_, 5, 2>(s, job),
            _ => any_quad_row(s, job),
        }
        job.finish_row(s, y);
    }
}

/// The sums of a row, out of the interleaved rows that it meets, under a kernel of `K × K` that moves by `STEP`.
#[inline(always)]
fn quad_row<S: Simd, const K: usize, const STEP: usize>(s: S, job: &mut Depthwise<u8>) {
    let Filter::U8 { quads, start, scale, rows, .. } = &job.filter else { unreachable!("bytes have such weights") };
    let (phases, quad) = (phases(STEP), quads.padded * 4);
    for channel in (0..job.channels).step_by(S::LANES) {
        let weights = &quads.weights[channel * 4..];
        let mut w = [[[s.load_bytes(weights); 2]; 4]; K];
        let mut met: [&[u8]; K] = [&[]; K];
        for ky in 0..K {
            for phase in 0..phases {
                for i in 0..quads_of(phase, STEP, K - 1) {
                    w[ky][phase][i] = s.load_bytes(&weights[((ky * phases + phase) * quads.per_phase + i) * quad..]);
                }
            }
            met[ky] = &rows.bytes[rows.met[ky] + channel * 4..];
        }
        let start = s.load_i32(&start[channel..]);
        let (bias, scale) = (s.load(&job.bias[channel..]), s.load(&scale[channel..]));
        for first in (0..job.sweep.out_width).step_by(phases) {
            let mut sums = [start; 4];
            for ky in 0..K {
                let row = &met[ky][first * STEP / 4 * quad..];
                for phase in 0..phases {
                    for i in 0..quads_of(phase, STEP, K - 1) {
                        let x = s.load_bytes(&row[(phase * STEP / 4 + i) * quad..]);
                        sums[phase] = s.dot_flipped(sums[phase], x, w[ky][phase][i]);
                    }
                }
            }
            for phase in 0..phases {
                let sum = s.mul_add(s.to_f32(sums[phase]), scale, bias);
                s.store(sum, &mut job.sums[(first + phase) * quads.padded + channel..]);
            }
        }
    }
}

/// The same under any kernel.
#[inline(always)]
fn any_quad_row<S: Simd>(s: S, job: &mut Depthwise<u8>) {
    let Filter::U8 { quads, start, scale, rows, .. } = &job.filter else { unreachable!("bytes have such weights") };
    let (reach, stride) = ((job.sweep.kernel[1] - 1) * job.sweep.dilation[1], job.sweep.stride[1]);
    let (phases, quad) = (phases(stride), quads.padded * 4);
    for x in 0..job.sweep.out_width {
        let phase = x % phases;
        for channel in (0..job.channels).step_by(S::LANES) {
            let mut sum = s.load_i32(&start[channel..]);
            for (ky, row) in rows.met.iter().enumerate() {
                for i in 0..quads_of(phase, stride, reach) {
                    let seen = &rows.bytes[row + (x * stride / 4 + i) * quad + channel * 4..];
                    let w = &quads.weights[((ky * phases + phase) * quads.per_phase + i) * quad + channel * 4..];
                    sum = s.dot_flipped(sum, s.load_bytes(seen), s.load_bytes(w));
                }
            }
            let sum = s.mul_add(s.to_f32(sum), s.load(&scale[channel..]), s.load(&job.bias[channel..]));
            s.store(sum, &mut job.sums[x * quads.padded + channel..]);
        }
    }
}

/// Interleaves a row of the map: `out[quad][channel][i]` is padded pixel `4 × quad + i`.
#[inline(always)]
fn interleave<S: Simd>(s: S, sweep: &Sweep, row: &[u8], outside: &[u8], out: &mut [u8]) {
    let padded = outside.len();
    for (quad, out) in out.chunks_exact_mut(padded * 4).enumerate() {
        let mut pixels = [outside; 4];
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let column = (4 * quad + i).wrapping_sub(sweep.pads[1]);
            if column < sweep.size[1] {
                *pixel = &row[column * sweep.pixel..][..padded];
            }
        }
        for channel in (0..padded).step_by(S::LANES) {
            let mut four = [outside; 4];
            for i in 0..4 {
                four[i] = &pixels[i][channel..];
            }
            s.store_bytes(s.flip(s.interleave(four)), &mut out[channel * 4..]);
        }
    }
}
