//! Depthwise convolution in f32.

use super::{Depthwise, Filter};
use crate::kernels::conv::Sweep;
use crate::kernels::simd::Simd;

/// Output pixels whose sums are in registers together.
const PIXELS: usize = 4;

/// In f32, row by row.
#[inline(always)]
pub(in crate::kernels) fn floats<S: Simd>(s: S, job: &mut Depthwise<f32>) {
    let (sweep, padded) = (job.sweep, job.bias.len());
    let out_width = sweep.out_width.next_multiple_of(PIXELS);
    let columns = (out_width - 1) * sweep.stride[1] + (sweep.kernel[1] - 1) * sweep.dilation[1] + 1;
    job.sums.grow(out_width * padded);
    let Filter::F32 { rows, .. } = &mut job.filter else { unreachable!("f32 maps have f32 weights") };
    rows.reset(sweep, columns * padded, 0.0);
    for y in job.rows.clone() {
        let Filter::F32 { rows, .. } = &mut job.filter else { unreachable!("f32 maps have f32 weights") };
        for ky in 0..sweep.kernel[0] {
            if let Some((row, cells)) = rows.meet(sweep, y, ky) {
                spread(s, sweep, &job.x[row * sweep.size[1] * sweep.pixel..], columns, cells);
            }
        }
        let stored = match sweep.square() {
            (3, 1) => row::<_, 3, 1>(s, job, y, columns),
            (3, 2) => row::<_, 3, 2>(s, job, y, columns),
            (5, 1) => row::<_, 5, 1>(s, job, y, columns),
            (5, 2) => row::<_, 5, 2>(s, job, y, columns),
            _ => any_row(s, job, columns),
        };
        if stored {
            job.finish_row(s, y);
        }
    }
}

/// Copies a row of the map: `cells[channel / LANES][column][channel % LANES]`, with zeros outside of the map.
#[inline(always)]
fn spread<S: Simd>(s: S, sweep: &Sweep, row: &[f32], columns: usize, cells: &mut [f32]) {
    let left = sweep.pads[1].min(columns);
    let right = (left + sweep.size[1]).min(columns);
    for (block, cells) in cells.chunks_exact_mut(columns * S::LANES).enumerate() {
        let (cells, after) = cells.split_at_mut(right * S::LANES);
        let (before, cells) = cells.split_at_mut(left * S::LANES);
        before.fill(0.0);
        after.fill(0.0);
        for (column, cell) in cells.chunks_exact_mut(S::LANES).enumerate() {
            s.store(s.load(&row[column * sweep.pixel + block * S::LANES..]), cell);
        }
    }
}

/// The sums of a row under a square kernel of `K × K` that moves by `STEP`; returns whether they are stored, to be finished
/// together.
#[inline(always)]
fn row<S: Simd, const K: usize, const STEP: usize>(s: S, job: &mut Depthwise<f32>, y: usize, columns: usize) -> bool {
    let (bent, first) = (job.finish.bent(), job.first_pixel(y));
    let Filter::F32 { weights, rows } = &job.filter else { unreachable!("f32 maps have f32 weights") };
    let padded = job.bias.len();
    for channel in (0..job.channels).step_by(S::LANES) {
        let bias = s.load(&job.bias[channel..]);
        let mut w = [[bias; K]; K];
        let mut met: [&[f32]; K] = [&[]; K];
        for ky in 0..K {
            for kx in 0..K {
                w[ky][kx] = s.load(&weights[(ky * K + kx) * padded + channel..]);
            }
            met[ky] = &rows.met(ky)[channel * columns..][..columns * S::LANES];
        }
        for at in (0..job.sweep.out_width).step_by(PIXELS) {
            let mut sum = [bias; PIXELS];
            for ky in 0..K {
                let seen = &met[ky][at * STEP * S::LANES..][..((PIXELS - 1) * STEP + K) * S::LANES];
                for kx in 0..K {
                    for p in 0..PIXELS {
                        sum[p] = s.mul_add(s.load(&seen[(p * STEP + kx) * S::LANES..]), w[ky][kx], sum[p]);
                    }
                }
            }
            if let Some(bent) = bent {
                let (count, lanes) = (PIXELS.min(job.sweep.out_width - at), S::LANES.min(job.channels - channel));
                job.finish.tile(s, bent, [first + at, count], [channel, lanes], [sum]);
            } else {
                for (p, &sum) in sum.iter().enumerate() {
                    s.store(sum, &mut job.sums[(at + p) * padded + channel..]);
                }
            }
        }
    }
    bent.is_none()
}

/// The same under any kernel.
#[inline(always)]
fn any_row<S: Simd>(s: S, job: &mut Depthwise<f32>, columns: usize) -> bool {
    let Filter::F32 { weights, rows } = &job.filter else { unreachable!("f32 maps have f32 weights") };
    let (sweep, padded) = (job.sweep, job.bias.len());
    let [height, width] = sweep.kernel;
    for channel in (0..job.channels).step_by(S::LANES) {
        for x in 0..sweep.out_width {
            let mut sum = s.load(&job.bias[channel..]);
            for ky in 0..height {
                let met = &rows.met(ky)[channel * columns..];
                for kx in 0..width {
                    let column = x * sweep.stride[1] + kx * sweep.dilation[1];
                    let weight = s.load(&weights[(ky * width + kx) * padded + channel..]);
                    sum = s.mul_add(s.load(&met[column * S::LANES..]), weight, sum);
                }
            }
            s.store(sum, &mut job.sums[x * padded + channel..]);
        }
    }
    true
}
