//! Convolution as a product: tiles of output pixels times blocks of output channels.
//!
//! Lanes are output channels, and each step broadcasts one number (or four bytes) of every pixel of the tile: there are
//! no sums across lanes, and the input is read where it lies. A tile's sums stay in registers over the whole kernel; what
//! lies outside of the map is read from a row of zeros.

use super::output::Finish;
#[cfg(target_arch = "aarch64")]
use super::simd::Pairs;
use super::simd::Simd;
use std::array::from_fn;
use std::ops::Range;

/// Output channels in a block of weights.
pub(crate) const BLOCK: usize = 16;

/// The weights of 16 output channels for one f32, or for four bytes, of the input.
pub(crate) type Step = [[u8; 4]; BLOCK];

/// How a kernel moves over a map. Pairs are height and width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    /// The map's size.
    pub size: [usize; 2],
    /// Elements from one pixel of the map to the next.
    pub pixel: usize,
    /// Width of the output.
    pub out_width: usize,
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// How far it moves.
    pub stride: [usize; 2],
    /// The distance between its elements.
    pub dilation: [usize; 2],
    /// Pixels added above and to the left.
    pub pads: [usize; 2],
}

impl Sweep {
    /// Where kernel row or column `tap` lies for the output row or column `i`, if inside of the map.
    #[inline(always)]
    pub(super) fn at(&self, axis: usize, i: usize, tap: usize) -> Option<usize> {
        let at = (i * self.stride[axis] + tap * self.dilation[axis]).wrapping_sub(self.pads[axis]);
        (at < self.size[axis]).then_some(at)
    }

    /// Whether each output pixel sees the pixel of the map at the same place.
    fn is_pointwise(&self) -> bool {
        (self.kernel, self.stride, self.pads) == ([1, 1], [1, 1], [0, 0]) && self.size[1] == self.out_width
    }

    /// Size and stride of the kernel, if it is a square of neighbours; else zeros.
    pub(super) fn square(&self) -> (usize, usize) {
        let square = self.kernel[0] == self.kernel[1] && self.dilation == [1, 1];
        if square { (self.kernel[1], self.stride[1]) } else { (0, 0) }
    }
}

/// One group of a dense convolution, or part of its pixels.
pub(crate) struct Dense<'a, E: Element> {
    /// How the kernel moves.
    pub sweep: &'a Sweep,
    /// The map, from the group's first channel on.
    pub x: &'a [E],
    /// What is read outside of the map: a row of the kernel, with input channels in whole steps.
    pub zeros: &'a [E],
    /// Input channels of the group.
    pub inputs: usize,
    /// Output channels of the group.
    pub outputs: usize,
    /// The group's weights, `[block][tap][step]`.
    pub weights: &'a [Step],
    /// What the sums begin with; empty for f32. Here and below: one for each output channel, in whole blocks.
    pub start: &'a [i32],
    /// What the sums are multiplied with; empty for f32.
    pub scale: &'a [f32],
    /// What is added then.
    pub bias: &'a [f32],
    /// Which output pixels to compute.
    pub pixels: Range<usize>,
    /// What becomes of them.
    pub finish: Finish<'a>,
    /// Scratch.
    pub segments: &'a mut Vec<Segment>,
}

impl<E: Element> Dense<'_, E> {
    /// What the kernel indexes by without looking.
    #[inline]
    pub(super) fn check(&self, integers: usize, step: usize) {
        let blocks = self.outputs.div_ceil(BLOCK);
        let taps = self.sweep.kernel[0] * self.sweep.kernel[1];
        assert_eq!(self.weights.len(), blocks * taps * self.inputs.div_ceil(step));
        assert_eq!(self.bias.len(), blocks * BLOCK);
        assert!(self.start.len() == integers && self.scale.len() == integers);
        assert!(self.zeros.len() >= self.sweep.kernel[1] * self.inputs.next_multiple_of(step));
    }
}

/// The longest tile of pixels.
pub(super) const MAX_TILE: usize = 16;

/// A run of the input that meets a run of the weights: one kernel element, or a row of them where the input has their
/// channels side by side.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// The first step of the weights.
    first: usize,
    /// Number of steps.
    steps: usize,
    /// Where each pixel's run begins in the map; `OUTSIDE` if outside.
    rows: [usize; MAX_TILE],
}

const OUTSIDE: usize = usize::MAX;

/// What a map is made of.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    /// Elements in one step.
    const STEP: usize;
    type Sum<S: Simd>: Copy;
    type Vector<S: Simd>: Copy;
    type Piece: Copy;

    fn pieces(row: &[Self]) -> &[Self::Piece];
    fn start<S: Simd>(s: S, start: &[i32], channel: usize) -> Self::Sum<S>;
    fn weights<S: Simd>(s: S, w: &[[u8; 4]]) -> Self::Vector<S>;
    fn splat<S: Simd>(s: S, piece: Self::Piece) -> Self::Vector<S>;
    fn mul_add<S: Simd>(s: S, x: Self::Vector<S>, w: Self::Vector<S>, sum: Self::Sum<S>) -> Self::Sum<S>;
    fn finish<S: Simd>(s: S, sum: Self::Sum<S>, scale: &[f32], bias: S::F, channel: usize) -> S::F;
}

impl Element for f32 {
    const STEP: usize = 1;
    type Sum<S: Simd> = S::F;
    type Vector<S: Simd> = S::F;
    type Piece = f32;

    #[inline(always)]
    fn pieces(row: &[f32]) -> &[f32] {
        row
    }
    #[inline(always)]
    fn start<S: Simd>(s: S, _: &[i32], _: usize) -> S::F {
        s.splat(0.0)
    }
    #[inline(always)]
    fn weights<S: Simd>(s: S, w: &[[u8; 4]]) -> S::F {
        s.as_f32(s.load_quads(w))
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, piece: f32) -> S::F {
        s.splat(piece)
    }
    #[inline(always)]
    fn mul_add<S: Simd>(s: S, x: S::F, w: S::F, sum: S::F) -> S::F {
        s.mul_add(w, x, sum)
    }
    #[inline(always)]
    fn finish<S: Simd>(s: S, sum: S::F, _: &[f32], bias: S::F, _: usize) -> S::F {
        s.add(sum, bias)
    }
}

impl Element for u8 {
    const STEP: usize = 4;
    type Sum<S: Simd> = S::I;
    type Vector<S: Simd> = S::B;
    type Piece = [u8; 4];

    #[inline(always)]
    fn pieces(row: &[u8]) -> &[[u8; 4]] {
        row.as_chunks().0
    }
    #[inline(always)]
    fn start<S: Simd>(s: S, start: &[i32], channel: usize) -> S::I {
        s.load_i32(&start[channel..])
    }
    #[inline(always)]
    fn weights<S: Simd>(s: S, w: &[[u8; 4]]) -> S::B {
        s.load_bytes(w.as_flattened())
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, piece: [u8; 4]) -> S::B {
        s.flip(s.splat_quad(piece))
    }
    #[inline(always)]
    fn mul_add<S: Simd>(s: S, x: S::B, w: S::B, sum: S::I) -> S::I {
        s.dot_flipped(sum, x, w)
    }
    #[inline(always)]
    fn finish<S: Simd>(s: S, sum: S::I, scale: &[f32], bias: S::F, channel: usize) -> S::F {
        s.mul_add(s.to_f32(sum), s.load(&scale[channel..]), bias)
    }
}

/// How the sums of a tile are computed: of `C` pixels times `V` vectors of channels from `channel` on, whose weights begin
/// with `weights`.
pub(super) trait Tiles<S: Simd, E: Element> {
    fn tile<const V: usize, const C: usize>(
        s: S,
        job: &Dense<E>,
        weights: &[Step],
        per_block: usize,
        channel: usize,
        out: &mut [[f32; 2 * BLOCK]; C],
    );
}

/// Computes a group's pixels in tiles of `C`, and its channels `V` vectors at a time.
#[inline(always)]
pub(super) fn dense<S: Simd, E: Element, T: Tiles<S, E>, const V: usize, const C: usize>(s: S, job: &mut Dense<E>) {
    let per_block = job.weights.len() / job.outputs.div_ceil(BLOCK);
    let blocks_at_once = (V * S::LANES).div_ceil(BLOCK);
    let mut sums = [[0.0; 2 * BLOCK]; C];
    for first in job.pixels.clone().step_by(C) {
        let count = C.min(job.pixels.end - first);
        segments::<E, C>(job, first, count);
        let mut channel = 0;
        while channel < job.outputs {
            let weights = &job.weights[channel / BLOCK * per_block..];
            let lanes = if V * S::LANES > BLOCK && weights.len() < blocks_at_once * per_block {
                // The last block, where blocks are taken in pairs.
                T::tile::<1, C>(s, job, weights, per_block, channel, &mut sums);
                BLOCK
            } else {
                T::tile::<V, C>(s, job, weights, per_block, channel, &mut sums);
                V * S::LANES
            };
            let channels = [channel, lanes.min(job.outputs - channel)];
            let first = first - job.pixels.start;
            job.finish.pixels(s, first, channels, sums[..count].as_flattened(), 2 * BLOCK);
            channel += lanes;
        }
    }
}

/// Finds the runs of the input for a tile of `count` pixels; those that are missing in the tile repeat the last one.
#[inline(always)]
fn segments<E: Element, const C: usize>(job: &mut Dense<E>, first: usize, count: usize) {
    let sweep = job.sweep;
    let [height, width] = sweep.kernel;
    let steps = job.inputs.div_ceil(E::STEP);
    job.segments.clear();
    if sweep.is_pointwise() {
        let rows = from_fn(|c| (first + c.min(count - 1)) * sweep.pixel);
        return job.segments.push(Segment { first: 0, steps, rows });
    }
    let side_by_side = sweep.pixel == job.inputs && job.inputs.is_multiple_of(E::STEP) && sweep.dilation[1] == 1;
    let inside = |x: usize| sweep.at(1, x, 0).is_some() && sweep.at(1, x, width - 1).is_some();
    let (y, x) = (first / sweep.out_width, first % sweep.out_width);
    let one_row = x + count <= sweep.out_width && inside(x) && inside(x + count - 1);
    let mut push = |ky: usize, kx: usize, merged: bool, rows: [usize; MAX_TILE]| {
        let steps_here = if merged { width * steps } else { steps };
        // Kernel elements that no pixel of the tile sees contribute zeros; in bytes zeros count.
        if E::STEP > 1 || rows[..C].iter().any(|&row| row != OUTSIDE) {
            job.segments.push(Segment { first: (ky * width + kx) * steps, steps: steps_here, rows });
        }
    };
    if one_row {
        // The usual case: pixel after pixel lies equally far apart.
        let apart = sweep.stride[1] * sweep.pixel;
        let merged = width > 1 && side_by_side;
        for ky in 0..height {
            let row = sweep.at(0, y, ky);
            for kx in 0..if merged { 1 } else { width } {
                let rows = match (row, sweep.at(1, x, kx)) {
                    (Some(y), Some(x)) => {
                        let first = (y * sweep.size[1] + x) * sweep.pixel;
                        from_fn(|c| first + c.min(count - 1) * apart)
                    }
                    _ => [OUTSIDE; MAX_TILE],
                };
                push(ky, kx, merged, rows);
            }
        }
        return;
    }
    // One division for the tile; the other pixels follow.
    let mut at = [[y, x]; C];
    for c in 1..count {
        let [y, x] = at[c - 1];
        let next = if x + 1 == sweep.out_width { [y + 1, 0] } else { [y, x + 1] };
        at[c..].fill(next);
    }
    let merged = width > 1 && side_by_side && at.iter().all(|&[_, x]| inside(x));
    for ky in 0..height {
        for kx in 0..if merged { 1 } else { width } {
            let mut rows = [OUTSIDE; MAX_TILE];
            for c in 0..C {
                if let (Some(y), Some(x)) = (sweep.at(0, at[c][0], ky), sweep.at(1, at[c][1], kx)) {
                    rows[c] = (y * sweep.size[1] + x) * sweep.pixel;
                }
            }
            push(ky, kx, merged, rows);
        }
    }
}

/// Pixel by pixel, step by step.
pub(super) struct Singly;

impl<S: Simd, E: Element> Tiles<S, E> for Singly {
    #[inline(always)]
    fn tile<const V: usize, const C: usize>(
        s: S,
        job: &Dense<E>,
        weights: &[Step],
        per_block: usize,
        channel: usize,
        out: &mut [[f32; 2 * BLOCK]; C],
    ) {
        let mut sums = [[E::start(s, job.start, channel); C]; V];
        for (v, sums) in sums.iter_mut().enumerate().skip(1) {
            *sums = [E::start(s, job.start, channel + v * S::LANES); C];
        }
        for segment in job.segments.iter() {
            let steps = segment.steps;
            let (w, x) = (rows::<S, V>(weights, per_block, segment), runs::<E, C>(job, segment));
            for k in 0..steps {
                let mut vectors = [E::weights(s, &w[0][k]); V];
                for v in 1..V {
                    vectors[v] = E::weights(s, &w[v][k][v * S::LANES % BLOCK..]);
                }
                for c in 0..C {
                    let x = E::splat(s, x[c][k]);
                    for v in 0..V {
                        sums[v][c] = E::mul_add(s, x, vectors[v], sums[v][c]);
                    }
                }
            }
        }
        for v in 0..V {
            let at = channel + v * S::LANES;
            let bias = s.load(&job.bias[at..]);
            for c in 0..C {
                s.store(E::finish(s, sums[v][c], job.scale, bias, at), &mut out[c][v * S::LANES..]);
            }
        }
    }
}

/// Two pixels and two steps at once.
#[cfg(target_arch = "aarch64")]
pub(super) struct InPairs;

#[cfg(target_arch = "aarch64")]
impl<S: Pairs> Tiles<S, u8> for InPairs {
    #[inline(always)]
    fn tile<const V: usize, const C: usize>(
        s: S,
        job: &Dense<u8>,
        weights: &[Step],
        per_block: usize,
        channel: usize,
        out: &mut [[f32; 2 * BLOCK]; C],
    ) {
        // Of pixels c and c + 1: the first half of a vector's channels, then the second.
        let mut sums = [[s.splat_i32(0); C]; V];
        for segment in job.segments.iter() {
            let (w, x) = (rows::<S, V>(weights, per_block, segment), runs::<u8, C>(job, segment));
            let pairs = segment.steps / 2;
            let (mut w_pairs, mut x_pairs) = ([&[][..]; V], [&[][..]; C]);
            for v in 0..V {
                w_pairs[v] = &w[v].as_chunks::<2>().0[..pairs];
            }
            for c in 0..C {
                x_pairs[c] = &x[c].as_chunks::<2>().0[..pairs];
            }
            for k in 0..pairs {
                let (mut w, mut x) = ([&w_pairs[0][k]; V], [x_pairs[0][k]; C]);
                for v in 1..V {
                    w[v] = &w_pairs[v][k];
                }
                for c in 1..C {
                    x[c] = x_pairs[c][k];
                }
                add_pairs(s, &mut sums, w, x);
            }
            if !segment.steps.is_multiple_of(2) {
                // What stands for the pixels' missing step meets weights of zero.
                let (mut last_w, mut last_x) = ([[[[0; 4]; BLOCK]; 2]; V], [[[0; 4]; 2]; C]);
                for v in 0..V {
                    last_w[v][0] = w[v][2 * pairs];
                }
                for c in 0..C {
                    last_x[c][0] = x[c][2 * pairs];
                }
                add_pairs(s, &mut sums, last_w.each_ref(), last_x);
            }
        }
        for v in 0..V {
            let at = channel + v * S::LANES;
            let (start, bias) = (s.load_i32(&job.start[at..]), s.load(&job.bias[at..]));
            for c in (0..C).step_by(2) {
                for (i, sum) in s.by_pixel([sums[v][c], sums[v][c + 1]]).into_iter().enumerate() {
                    let y = u8::finish(s, s.add_i32(sum, start), job.scale, bias, at);
                    s.store(y, &mut out[c + i][v * S::LANES..]);
                }
            }
        }
    }
}

/// Adds the products of two steps.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn add_pairs<S: Pairs, const V: usize, const C: usize>(
    s: S,
    sums: &mut [[S::I; C]; V],
    w: [&[Step; 2]; V],
    x: [[[u8; 4]; 2]; C],
) {
    let mut vectors = [[s.load_bytes(&[0; 64]); 2]; V];
    for (v, vectors) in vectors.iter_mut().enumerate() {
        let part = v * S::LANES % BLOCK;
        *vectors = s.pair_weights(&w[v][0][part..], &w[v][1][part..]);
    }
    for c in (0..C).step_by(2) {
        let x = s.pair_pixels([x[c], x[c + 1]]);
        for v in 0..V {
            for i in 0..2 {
                sums[v][c + i] = s.multiply::<true, 0>(sums[v][c + i], vectors[v][i], x);
            }
        }
    }
}

/// The segment's weights for each vector of channels. Loops and no closures, here and below: what is called for each
/// segment has to become a part of its caller.
#[inline(always)]
fn rows<'a, S: Simd, const V: usize>(weights: &'a [Step], per_block: usize, segment: &Segment) -> [&'a [Step]; V] {
    let mut rows = [&weights[..0]; V];
    for (v, row) in rows.iter_mut().enumerate() {
        let block = &weights[v * S::LANES / BLOCK * per_block..][..per_block];
        *row = &block[segment.first..][..segment.steps];
    }
    rows
}

/// What each pixel of the tile has of the segment.
#[inline(always)]
fn runs<'a, E: Element, const C: usize>(job: &Dense<'a, E>, segment: &Segment) -> [&'a [E::Piece]; C] {
    let mut runs = [&E::pieces(job.zeros)[..0]; C];
    for (c, run) in runs.iter_mut().enumerate() {
        let row = segment.rows[c];
        let row = if row == OUTSIDE { job.zeros } else { &job.x[row..] };
        *run = &E::pieces(&row[..segment.steps * E::STEP])[..segment.steps];
    }
    runs
}
