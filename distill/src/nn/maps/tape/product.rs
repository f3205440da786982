//! Dense convolutions as products of matrices: what windows see, or the channels of several maps side by side, with
//! filters. A task goes through its rows in blocks that stay in the cache: what is read is normalised, multiplied, and
//! its moments are taken, before the next block comes.

use super::super::super::TASK;
use super::super::{Maps, Window};
use super::pool::Pool;
use super::read::{Lens, Slope, Sums, Target, moments};
use super::{Part, tasks};
use crate::loss::matmul::{Matrix, multiply_alone};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// What a window of three by three sees of a row of a picture: so few that to call what copies them would take longer.
const COLOURS: usize = 9;

/// What filters are multiplied with.
pub(super) enum Input<'a> {
    /// Maps of the same size, their channels taken as if they were side by side.
    Beside(Vec<Lens<'a>>),
    /// What windows see of maps without a norm.
    Windows(Lens<'a>, Maps, Window),
}

impl Input<'_> {
    fn width(&self) -> usize {
        match self {
            Self::Beside(lenses) => lenses.iter().map(|lens| lens.channels).sum(),
            Self::Windows(lens, _, window) => window.taps() * lens.channels,
        }
    }

    /// Rows, in `scratch` if they have to be computed.
    fn rows<'s>(&'s self, rows: Range<usize>, scratch: &'s mut [f32]) -> &'s [f32] {
        let width = self.width();
        match self {
            Self::Beside(lenses) => {
                if let [Lens { numbers, norm: None, .. }] = lenses[..] {
                    return &numbers[rows.start * width..rows.end * width];
                }
                let mut column = 0;
                for lens in lenses {
                    lens.read(rows.clone(), &mut scratch[column..rows.len() * width], width);
                    column += lens.channels;
                }
            }
            Self::Windows(lens, maps, window) => {
                let (line, mut first, mut rest) = (maps.through(*window).width, rows.start, &mut *scratch);
                while first < rows.end {
                    let count = (line - first % line).min(rows.end - first);
                    let (seen, more) = rest.split_at_mut(count * width);
                    see(lens, *maps, *window, first, seen);
                    (first, rest) = (first + count, more);
                }
            }
        }
        &scratch[..rows.len() * width]
    }
}

/// What the window sees at positions of one row, from `first` on. Its rows of pixels lie side by side in the maps as they do
/// in what is seen.
fn see(lens: &Lens<'_>, maps: Maps, window: Window, first: usize, seen: &mut [f32]) {
    let (to, inputs, pad) = (maps.through(window), lens.channels, window.kernel / 2);
    let (y, x) = (first / to.width % to.height * window.stride, first % to.width);
    let (map, width) = (first / (to.width * to.height) * maps.height, window.kernel * inputs);
    for tap in 0..window.kernel {
        let seen = seen.chunks_exact_mut(window.kernel * width).map(|seen| &mut seen[tap * width..][..width]);
        if !(pad..maps.height + pad).contains(&(y + tap)) {
            seen.for_each(|seen| seen.fill(0.0));
            continue;
        }
        let line = &lens.numbers[(map + y + tap - pad) * maps.width * inputs..][..maps.width * inputs];
        for (x, seen) in (x..).map(|x| x * window.stride).zip(seen) {
            // Columns of the window that lie within the maps.
            let (from, end) = (pad.saturating_sub(x), window.kernel.min(maps.width + pad - x));
            let pixels = &line[(x + from - pad) * inputs..(x + end - pad) * inputs];
            match (<&mut [f32; COLOURS]>::try_from(&mut *seen), <&[f32; COLOURS]>::try_from(pixels)) {
                (Ok(seen), Ok(pixels)) => *seen = *pixels,
                _ => {
                    seen.fill(0.0);
                    seen[from * inputs..end * inputs].copy_from_slice(pixels);
                }
            }
        }
    }
}

/// Rows of a block, the wider of whose sides has `width` columns.
fn block(width: usize) -> usize {
    (TASK / width).max(16).next_multiple_of(16)
}

/// The products of all rows with filters `[outputs, inputs]`, and the moments of each task if they are asked for.
pub(super) fn forward(
    input: &Input<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    with_moments: bool,
    pool: &Arc<Pool>,
) -> Vec<Part> {
    let inputs = input.width();
    let outputs = weight.len() / inputs;
    let weight = Matrix::new(weight, [outputs, inputs], inputs).transposed();
    let (task, block) = (tasks(out.len() / outputs), block(inputs.max(outputs)));
    let run = |(i, out): (usize, &mut [f32])| {
        let mut scratch = pool.take(block * inputs);
        let mut parts = Vec::new();
        for (j, out) in out.chunks_mut(block * outputs).enumerate() {
            let (first, count) = (i * task + j * block, out.len() / outputs);
            let x = input.rows(first..first + count, &mut scratch);
            multiply_alone(out, outputs, false, Matrix::new(x, [count, inputs], inputs), weight);
            if let Some(bias) = bias {
                let rows = out.chunks_exact_mut(outputs);
                rows.for_each(|row| row.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias));
            }
            if with_moments {
                parts.push(Part { rows: count, moments: moments(out, outputs) });
            }
        }
        parts
    };
    let parts: Vec<Vec<Part>> = out.par_chunks_mut(task * outputs).enumerate().map(run).collect();
    parts.into_iter().flatten().collect()
}

/// Adds the gradient of the filters to `of_weight`, and writes that of the maps. Gives the sums of the norms of those for
/// which this is the last part of their gradient.
pub(super) fn backward(
    input: &Input<'_>,
    weight: &[f32],
    slope: &Slope<'_>,
    rows: usize,
    of_maps: Vec<Target<'_>>,
    of_weight: &mut [f32],
    pool: &Arc<Pool>,
) -> Vec<Option<Sums>> {
    let inputs = input.width();
    let outputs = weight.len() / inputs;
    let (task, block) = (tasks(rows), block(inputs.max(outputs)));
    // For each task, its rows of each of the maps.
    let mut all: Vec<Vec<Target<'_>>> = (0..rows.div_ceil(task)).map(|_| Vec::new()).collect();
    let has_sums: Vec<bool> = of_maps.iter().map(|target| target.last.is_some()).collect();
    for Target { numbers, add, last } in of_maps {
        let channels = numbers.len() / rows;
        let pieces = numbers.chunks_mut(task * channels).map(|numbers| Target { numbers, add, last });
        all.iter_mut().zip(pieces).for_each(|(all, piece)| all.push(piece));
    }
    let run = |(i, mut of_maps): (usize, Vec<Target<'_>>)| {
        let (mut x_scratch, mut scratch) = (pool.take(block * inputs), pool.take(block * outputs));
        let mut part = pool.take(weight.len());
        let mut sums: Vec<Vec<Sums>> = of_maps.iter().map(|_| Vec::new()).collect();
        let (start, end) = (i * task, rows.min((i + 1) * task));
        for first in (start..end).step_by(block) {
            let count = block.min(end - first);
            let gradient = slope.rows(first..first + count, &mut scratch);
            let gradient = Matrix::new(gradient, [count, outputs], outputs);
            let x = Matrix::new(input.rows(first..first + count, &mut x_scratch), [count, inputs], inputs);
            multiply_alone(&mut part, inputs, first > start, gradient.transposed(), x);
            let mut column = 0;
            for (Target { numbers, add, last }, sums) in of_maps.iter_mut().zip(&mut sums) {
                let channels = numbers.len() / (end - start);
                let numbers = &mut numbers[(first - start) * channels..][..count * channels];
                let weight = Matrix::new(&weight[column..], [outputs, channels], inputs);
                multiply_alone(numbers, channels, *add, gradient, weight);
                if let Some((lens, norm)) = last {
                    norm.add_parts(&lens.numbers[first * channels..][..count * channels], numbers, sums);
                }
                column += channels;
            }
        }
        (part, sums)
    };
    let (parts, sums): (Vec<_>, Vec<_>) = all.into_par_iter().enumerate().map(run).unzip();
    of_weight.par_chunks_mut(TASK).enumerate().for_each(|(i, of_weight)| {
        for part in &parts {
            of_weight.iter_mut().zip(&part[i * TASK..]).for_each(|(sum, part)| *sum += part);
        }
    });
    let mut by_map: Vec<Vec<Sums>> = has_sums.iter().map(|_| Vec::new()).collect();
    for sums in sums {
        by_map.iter_mut().zip(sums).for_each(|(all, more)| all.extend(more));
    }
    has_sums.iter().zip(by_map).map(|(has_sums, parts)| has_sums.then(|| Sums::total(parts))).collect()
}
