//! Depthwise convolutions: a filter for each channel.
//!
//! A task takes a band of rows of one map, and some channels at a time. It writes what it reads into a plane with zeros
//! around it, where channels of a pixel are a vector and windows need no look at edges. The gradient of the maps is a
//! convolution as well, with the filter turned around, over the gradient of the result with zeros between its pixels
//! where windows moved by more than one.

use super::super::super::vectorised;
use super::super::{Maps, Window};
use super::Part;
use super::pool::Pool;
use super::read::{Lens, Rows, Slope, Sums, Target, each_block, lanes, lanes_mut, moments};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Numbers of a plane: what fits into a near cache.
const PLANE: usize = 1 << 15;
/// The most channels at a time.
const LANES: usize = 16;
/// Positions that are computed together.
const TILE: usize = 4;

/// A depthwise convolution.
#[derive(Clone, Copy)]
pub(super) struct Depthwise<'a> {
    pub(super) lens: Lens<'a>,
    pub(super) maps: Maps,
    pub(super) window: Window,
    /// `[kernel · kernel, channels]`
    pub(super) weight: &'a [f32],
}

/// Rows of the result in one map.
struct Band {
    map: usize,
    rows: Range<usize>,
}

/// A plane: rows of pixels of one map from `first` on, with `pad` zeros at both sides and zeros for rows that the map
/// does not have. The map's pixels are `spacing` apart.
struct Plane {
    first: isize,
    rows: usize,
    width: usize,
    pad: usize,
    spacing: usize,
}

impl Plane {
    fn len(&self) -> usize {
        self.rows * self.width
    }
}

/// Fills a plane with the pixels of a map, the first of which is row `start`.
struct Fill<'a, const L: usize> {
    plane: &'a Plane,
    out: &'a mut [[f32; L]],
    /// Of the map.
    height: usize,
    width: usize,
    start: usize,
}

impl<const L: usize> Rows<L> for Fill<'_, L> {
    #[inline(always)]
    fn see(&mut self, at: impl Fn(usize) -> [f32; L]) {
        let Plane { first, rows, width, pad, spacing } = *self.plane;
        for (r, line) in self.out.chunks_exact_mut(width).take(rows).enumerate() {
            let row = usize::try_from(first + r as isize).ok().filter(|row| row.is_multiple_of(spacing));
            let row = row.map(|row| row / spacing).filter(|&y| y < self.height);
            // Also where pixels come, if these are not one after the other.
            let edge = if spacing == 1 && row.is_some() { pad } else { width };
            line[..edge].fill([0.0; L]);
            line[width - edge.min(pad)..].fill([0.0; L]);
            if let Some(y) = row {
                let start = self.start + y * self.width;
                for (x, out) in line[pad..].iter_mut().step_by(spacing).take(self.width).enumerate() {
                    *out = at(start + x);
                }
            }
        }
    }
}

impl Depthwise<'_> {
    fn to(&self) -> Maps {
        self.maps.through(self.window)
    }

    fn bands(&self) -> Vec<Band> {
        let to = self.to();
        let lanes = LANES.min(self.lens.channels);
        let most = (PLANE / ((self.maps.width + self.window.kernel) * lanes * self.window.stride)).max(1);
        let rows = to.height.div_ceil(to.height.div_ceil(most));
        let of_map = |map| (0..to.height).step_by(rows).map(move |y| Band { map, rows: y..to.height.min(y + rows) });
        (0..to.n).flat_map(of_map).collect()
    }

    /// The rows of the maps under a band, and around them what windows see.
    fn plane(&self, band: &Band) -> Plane {
        let Window { kernel, stride } = self.window;
        Plane {
            first: (band.rows.start * stride) as isize - (kernel / 2) as isize,
            rows: (band.rows.len() - 1) * stride + kernel,
            width: self.maps.width + 2 * (kernel / 2),
            pad: kernel / 2,
            spacing: 1,
        }
    }

    /// The rows of the maps that belong to a band.
    fn own(&self, band: &Band) -> Range<usize> {
        let stride = self.window.stride;
        band.rows.start * stride..self.maps.height.min(band.rows.end * stride)
    }

    /// Fills `out`, the result, and gives the moments of each band if they are asked for.
    pub(super) fn forward(&self, out: &mut [f32], with_moments: bool, pool: &Arc<Pool>) -> Vec<Part> {
        let (to, channels) = (self.to(), self.lens.channels);
        let run = |(band, out): (Band, &mut [f32])| {
            let plane = self.plane(&band);
            let mut scratch = pool.take(plane.len() * LANES);
            vectorised(
                #[inline(always)]
                || {
                    each_block!(channels, c, L => {
                        let pixels = self.fill::<L>(&plane, &band, c, &mut scratch);
                        let stride = self.window.stride;
                        let filters = Filters { weight: self.weight, channels, c, turned: false };
                        filters.filter::<L>(self.window.kernel, pixels, &plane, [to.width, stride], out, false);
                    });
                },
            );
            with_moments.then(|| Part { rows: out.len() / channels, moments: moments(out, channels) })
        };
        let bands = self.bands();
        let lengths = bands.iter().map(|band| band.rows.len() * to.width * channels);
        let outs = split(out, lengths.collect());
        let parts: Vec<Option<Part>> = bands.into_par_iter().zip(outs).map(run).collect();
        parts.into_iter().flatten().collect()
    }

    #[inline(always)]
    fn fill<'s, const L: usize>(
        &self,
        plane: &Plane,
        band: &Band,
        c: usize,
        scratch: &'s mut [f32],
    ) -> &'s mut [[f32; L]] {
        let Maps { height, width, .. } = self.maps;
        let out = &mut scratch.as_chunks_mut::<L>().0[..plane.len()];
        self.lens.lanes(c, &mut Fill { plane, out: &mut *out, height, width, start: band.map * height * width });
        out
    }

    /// Adds the gradient of the filters to `of_weight`, and writes that of the maps. Gives the sums of their norm, if this
    /// is the last part of their gradient.
    pub(super) fn backward(
        &self,
        slope: &Slope<'_>,
        of_maps: Target<'_>,
        of_weight: &mut [f32],
        pool: &Arc<Pool>,
    ) -> Option<Sums> {
        let (to, channels, Window { kernel, stride }) = (self.to(), self.lens.channels, self.window);
        let Target { numbers, add, last } = of_maps;
        let run = |(band, of_maps): (Band, &mut [f32])| {
            let (plane, own) = (self.plane(&band), self.own(&band));
            let around = Plane { rows: own.len() + 2 * (kernel / 2), spacing: stride, ..plane };
            let (mut x, mut gradient) = (pool.take(plane.len() * LANES), pool.take(around.len() * LANES));
            let mut part = pool.take(self.weight.len());
            vectorised(
                #[inline(always)]
                || {
                    each_block!(channels, c, L => {
                        let x = self.fill::<L>(&plane, &band, c, &mut x);
                        let gradient = &mut gradient.as_chunks_mut::<L>().0[..around.len()];
                        let start = band.map * to.height * to.width;
                        let (out, height, width) = (&mut *gradient, to.height, to.width);
                        slope.lanes(c, &mut Fill { plane: &around, out, height, width, start });
                        let filters = Filters { weight: self.weight, channels, c, turned: true };
                        filters.filter::<L>(kernel, gradient, &around, [self.maps.width, 1], of_maps, add);
                        let places = [band.rows.len(), to.width];
                        of_filters::<L>(self.window, [x, gradient], &plane, places, &mut part[c..], channels);
                    });
                },
            );
            let mut sums = Vec::new();
            if let Some((lens, norm)) = last {
                let first = (band.map * self.maps.height + own.start) * self.maps.width * channels;
                norm.add_parts(&lens.numbers[first..][..of_maps.len()], of_maps, &mut sums);
            }
            (part, sums)
        };
        let bands = self.bands();
        let lengths = bands.iter().map(|band| self.own(band).len() * self.maps.width * channels);
        let outs = split(numbers, lengths.collect());
        let all: Vec<_> = bands.into_par_iter().zip(outs).map(run).collect();
        let mut sums = Vec::new();
        for (part, more) in all {
            of_weight.iter_mut().zip(&*part).for_each(|(sum, part)| *sum += part);
            sums.extend(more);
        }
        last.map(|_| Sums::total(sums))
    }
}

/// Pieces of these lengths.
fn split(mut numbers: &mut [f32], lengths: Vec<usize>) -> Vec<&mut [f32]> {
    let mut pieces = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (piece, rest) = numbers.split_at_mut(length);
        pieces.push(piece);
        numbers = rest;
    }
    pieces
}

/// Filters of some channels.
struct Filters<'a> {
    weight: &'a [f32],
    channels: usize,
    c: usize,
    /// Whether they are turned around.
    turned: bool,
}

impl Filters<'_> {
    /// Moves the window over a plane; fills the channels of rows of `width` pixels.
    #[inline(always)]
    fn filter<const L: usize>(
        &self,
        kernel: usize,
        pixels: &[[f32; L]],
        plane: &Plane,
        [width, stride]: [usize; 2],
        out: &mut [f32],
        add: bool,
    ) {
        match kernel {
            1 => self.of::<1, L>(pixels, plane, [width, stride], out, add),
            3 => self.of::<3, L>(pixels, plane, [width, stride], out, add),
            5 => self.of::<5, L>(pixels, plane, [width, stride], out, add),
            _ => self.of::<7, L>(pixels, plane, [width, stride], out, add),
        }
    }

    #[inline(always)]
    fn of<const K: usize, const L: usize>(
        &self,
        pixels: &[[f32; L]],
        plane: &Plane,
        [width, stride]: [usize; 2],
        out: &mut [f32],
        add: bool,
    ) {
        let Self { weight, channels, c, turned } = *self;
        let mut weights = [[[0.0; L]; K]; K];
        for (tap, to) in weights.as_flattened_mut().iter_mut().enumerate() {
            let tap = if turned { K * K - 1 - tap } else { tap };
            *to = *lanes::<L>(weight, tap * channels + c);
        }
        for (y, out) in out.chunks_exact_mut(width * channels).enumerate() {
            let lines: [&[[f32; L]]; K] =
                std::array::from_fn(|tap| &pixels[(y * stride + tap) * plane.width..][..plane.width]);
            let mut x = 0;
            // What several positions see is loaded once.
            while stride == 1 && x + TILE <= width {
                let sums = tile::<K, L, TILE>(&lines, x, &weights);
                write(&sums, &mut out[x * channels + c..], channels, add);
                x += TILE;
            }
            while x < width {
                let sums = tile::<K, L, 1>(&lines, x * stride, &weights);
                write(&sums, &mut out[x * channels + c..], channels, add);
                x += 1;
            }
        }
    }
}

#[inline(always)]
fn tile<const K: usize, const L: usize, const P: usize>(
    lines: &[&[[f32; L]]; K],
    x: usize,
    weights: &[[[f32; L]; K]; K],
) -> [[f32; L]; P] {
    let mut sums = [[0.0_f32; L]; P];
    for (line, weights) in lines.iter().zip(weights) {
        let line = &line[x..x + P + K - 1];
        for (tap, weight) in weights.iter().enumerate() {
            for (p, sum) in sums.iter_mut().enumerate() {
                for l in 0..L {
                    sum[l] = line[p + tap][l].mul_add(weight[l], sum[l]);
                }
            }
        }
    }
    sums
}

#[inline(always)]
fn write<const L: usize, const P: usize>(sums: &[[f32; L]; P], out: &mut [f32], channels: usize, add: bool) {
    for (p, sum) in sums.iter().enumerate() {
        let out = lanes_mut::<L>(out, p * channels);
        for l in 0..L {
            out[l] = if add { out[l] + sum[l] } else { sum[l] };
        }
    }
}

/// The gradient of the filters of `L` channels over a band of `rows` rows of `width` positions. Positions are as far apart
/// in the plane of the gradient as the window moves.
#[inline(always)]
fn of_filters<const L: usize>(
    window: Window,
    planes: [&[[f32; L]]; 2],
    plane: &Plane,
    places: [usize; 2],
    out: &mut [f32],
    channels: usize,
) {
    match window.kernel {
        1 => of_filter::<1, L>(window.stride, planes, plane, places, out, channels),
        3 => of_filter::<3, L>(window.stride, planes, plane, places, out, channels),
        5 => of_filter::<5, L>(window.stride, planes, plane, places, out, channels),
        _ => of_filter::<7, L>(window.stride, planes, plane, places, out, channels),
    }
}

#[inline(always)]
fn of_filter<const K: usize, const L: usize>(
    stride: usize,
    [x, gradient]: [&[[f32; L]]; 2],
    plane: &Plane,
    [rows, width]: [usize; 2],
    out: &mut [f32],
    channels: usize,
) {
    let pad = K / 2;
    let mut all = [[[0.0_f32; L]; K]; K];
    for y in 0..rows {
        let gradient = &gradient[(pad + y * stride) * plane.width + pad..][..(width - 1) * stride + 1];
        for (tap, all) in all.iter_mut().enumerate() {
            let line = &x[(y * stride + tap) * plane.width..][..plane.width];
            let mut sums = *all;
            for position in 0..width {
                let gradient = gradient[position * stride];
                let line = &line[position * stride..][..K];
                for (sum, x) in sums.iter_mut().zip(line) {
                    for l in 0..L {
                        sum[l] = x[l].mul_add(gradient[l], sum[l]);
                    }
                }
            }
            *all = sums;
        }
    }
    for (tap, sum) in all.as_flattened().iter().enumerate() {
        *lanes_mut::<L>(out, tap * channels) = *sum;
    }
}
