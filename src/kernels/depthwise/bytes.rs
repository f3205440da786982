//! Depthwise convolution in bytes.
//!
//! An output pixel needs one or two quads of neighbouring pixels of each row instead of every kernel element; which of
//! their bytes it takes is a matter of where its weights are put ([`Quads`]).

use super::{Depthwise, Filter};
use crate::kernels::conv::{BLOCK, Sweep};
use crate::kernels::simd::Simd;

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

/// In bytes, row by row.
#[inline(always)]
pub(in crate::kernels) fn bytes<S: Simd>(s: S, job: &mut Depthwise<u8>) {
    let Filter::U8 { quads, zero, rows, .. } = &mut job.filter else { unreachable!("bytes have such weights") };
    let (sweep, padded, zero) = (job.sweep, quads.padded, *zero);
    let (reach, stride) = ((sweep.kernel[1] - 1) * sweep.dilation[1], sweep.stride[1]);
    let phases = phases(stride);
    let groups = sweep.out_width.div_ceil(phases);
    job.sums.grow(groups * phases * padded);
    let last = (0..phases).map(|phase| phase * stride / 4 + quads_of(phase, stride, reach)).max().unwrap_or(1);
    let slot = ((groups - 1) * (phases * stride / 4) + last) * padded * 4;
    rows.reset(sweep, slot, zero ^ 0x80 ^ S::FLIP);
    for y in job.rows.clone() {
        let Filter::U8 { rows, .. } = &mut job.filter else { unreachable!("bytes have such weights") };
        for ky in 0..sweep.kernel[0] {
            if let Some((row, cells)) = rows.meet(sweep, y, ky) {
                interleave(s, sweep, &job.x[row * sweep.size[1] * sweep.pixel..], padded, zero, cells);
            }
        }
        let stored = match sweep.square() {
            (3, 1) => quad_row::<_, 3, 1>(s, job, y),
            (3, 2) => quad_row::<_, 3, 2>(s, job, y),
            (5, 1) => quad_row::<_, 5, 1>(s, job, y),
            (5, 2) => quad_row::<_, 5, 2>(s, job, y),
            _ => any_quad_row(s, job),
        };
        if stored {
            job.finish_row(s, y);
        }
    }
}

/// The sums of a row, out of the interleaved rows that it meets, under a kernel of `K × K` that moves by `STEP`; returns
/// whether they are stored, to be finished together.
#[inline(always)]
fn quad_row<S: Simd, const K: usize, const STEP: usize>(s: S, job: &mut Depthwise<u8>, y: usize) -> bool {
    let (bent, row) = (job.finish.bent(), job.first_pixel(y));
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
            met[ky] = &rows.met(ky)[channel * 4..];
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
            let mut scaled = [bias; 4];
            for phase in 0..phases {
                scaled[phase] = s.mul_add(s.to_f32(sums[phase]), scale, bias);
            }
            if let Some(bent) = bent {
                let count = phases.min(job.sweep.out_width - first);
                let lanes = S::LANES.min(job.channels - channel);
                job.finish.tile(s, bent, [row + first, count], [channel, lanes], [scaled]);
            } else {
                for (phase, &sum) in scaled.iter().enumerate().take(phases) {
                    s.store(sum, &mut job.sums[(first + phase) * quads.padded + channel..]);
                }
            }
        }
    }
    bent.is_none()
}

/// The same under any kernel.
#[inline(always)]
fn any_quad_row<S: Simd>(s: S, job: &mut Depthwise<u8>) -> bool {
    let Filter::U8 { quads, start, scale, rows, .. } = &job.filter else { unreachable!("bytes have such weights") };
    let (reach, stride) = ((job.sweep.kernel[1] - 1) * job.sweep.dilation[1], job.sweep.stride[1]);
    let (phases, quad) = (phases(stride), quads.padded * 4);
    for x in 0..job.sweep.out_width {
        let phase = x % phases;
        for channel in (0..job.channels).step_by(S::LANES) {
            let mut sum = s.load_i32(&start[channel..]);
            for ky in 0..job.sweep.kernel[0] {
                let row = rows.met(ky);
                for i in 0..quads_of(phase, stride, reach) {
                    let seen = &row[(x * stride / 4 + i) * quad + channel * 4..];
                    let w = &quads.weights[((ky * phases + phase) * quads.per_phase + i) * quad + channel * 4..];
                    sum = s.dot_flipped(sum, s.load_bytes(seen), s.load_bytes(w));
                }
            }
            let sum = s.mul_add(s.to_f32(sum), s.load(&scale[channel..]), s.load(&job.bias[channel..]));
            s.store(sum, &mut job.sums[x * quads.padded + channel..]);
        }
    }
    true
}

/// Interleaves a row of the map: `cells[quad][channel][i]` is padded pixel `4 × quad + i`, or `zero` outside of the map.
#[inline(always)]
fn interleave<S: Simd>(s: S, sweep: &Sweep, row: &[u8], padded: usize, zero: u8, cells: &mut [u8]) {
    // A vector of a pixel outside of the map.
    let outside = &[zero; 16][..];
    for (quad, cells) in cells.chunks_exact_mut(padded * 4).enumerate() {
        let mut pixels = [None; 4];
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let column = (4 * quad + i).wrapping_sub(sweep.pads[1]);
            if column < sweep.size[1] {
                *pixel = Some(&row[column * sweep.pixel..][..padded]);
            }
        }
        for channel in (0..padded).step_by(S::LANES) {
            let mut four = [outside; 4];
            for (four, pixel) in four.iter_mut().zip(pixels) {
                if let Some(pixel) = pixel {
                    *four = &pixel[channel..];
                }
            }
            s.store_bytes(s.flip(s.interleave(four)), &mut cells[channel * 4..]);
        }
    }
}
