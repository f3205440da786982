//! Convolution as a product: tiles of output pixels times blocks of output channels.
//!
//! Lanes are output channels, and each step broadcasts one number (or four bytes) of every pixel of the tile: there are
//! no sums across lanes, and the input is read where it lies. A tile's sums stay in registers over the whole kernel; what
//! lies outside of the map is read from a row of zeros.

use super::activation::{self, Activation};
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
}

impl Sweep {
    /// Width and stride of the kernel along a row, if its elements are neighbours; else zeros.
    pub(super) fn along_rows(&self) -> (usize, usize) {
        if self.dilation[1] == 1 { (self.kernel[1], self.stride[1]) } else { (0, 0) }
    }
}

/// Where results go: from the first channel of the first pixel on.
pub(crate) enum Out<'a> {
    /// As they are.
    F32(&'a mut [f32]),
    /// `round(x × inverse + zero)`, at least 0 and at most 255.
    U8 {
        /// The bytes.
        bytes: &'a mut [u8],
        /// 1 / scale.
        inverse: f32,
        /// The byte that stands for 0.
        zero: f32,
    },
}

impl<'a> Out<'a> {
    /// What lies from element `first` on.
    pub(crate) fn from(&mut self, first: usize) -> Out<'_> {
        match self {
            Self::F32(out) => Out::F32(&mut out[first..]),
            Self::U8 { bytes, inverse, zero } => Out::U8 { bytes: &mut bytes[first..], inverse: *inverse, zero: *zero },
        }
    }

    /// The first `n` elements, and the others.
    pub(crate) fn split_at(self, n: usize) -> (Out<'a>, Out<'a>) {
        match self {
            Self::F32(out) => {
                let (out, rest) = out.split_at_mut(n);
                (Out::F32(out), Out::F32(rest))
            }
            Self::U8 { bytes, inverse, zero } => {
                let (bytes, rest) = bytes.split_at_mut(n);
                (Out::U8 { bytes, inverse, zero }, Out::U8 { bytes: rest, inverse, zero })
            }
        }
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
    /// And applied at last.
    pub then: Activation,
    /// What is multiplied with after that; empty for nothing.
    pub gain: &'a [f32],
    /// Which output pixels to compute.
    pub pixels: Range<usize>,
    /// Where the first of them goes.
    pub out: Out<'a>,
    /// Elements from one output pixel to the next.
    pub out_pixel: usize,
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

/// Computes a group's pixels in tiles of `C`, and its channels `V` vectors at a time.
#[inline(always)]
pub(super) fn dense<S: Simd, E: Element, const V: usize, const C: usize>(s: S, job: &mut Dense<E>) {
    let per_block = job.weights.len() / job.outputs.div_ceil(BLOCK);
    let blocks_at_once = (V * S::LANES).div_ceil(BLOCK);
    for first in job.pixels.clone().step_by(C) {
        let count = C.min(job.pixels.end - first);
        segments::<E, C>(job, first, count);
        let mut channel = 0;
        while channel < job.outputs {
            let weights = &job.weights[channel / BLOCK * per_block..];
            if V * S::LANES > BLOCK && weights.len() < blocks_at_once * per_block {
                // The last block, where blocks are taken in pairs.
                tile::<S, E, 1, C>(s, job, weights, per_block, channel, first, count);
                channel += BLOCK;
            } else {
                tile::<S, E, V, C>(s, job, weights, per_block, channel, first, count);
                channel += V * S::LANES;
            }
        }
    }
}

/// Finds the runs of the input for a tile of `count` pixels; those that are missing in the tile repeat the last one.
#[inline(always)]
fn segments<E: Element, const C: usize>(job: &mut Dense<E>, first: usize, count: usize) {
    let sweep = job.sweep;
    let [height, width] = sweep.kernel;
    let steps = job.inputs.div_ceil(E::STEP);
    // One division for the tile; the other pixels follow.
    let mut at = [[0; 2]; C];
    let (mut y, mut x) = (first / sweep.out_width, first % sweep.out_width);
    for (c, at) in at.iter_mut().enumerate() {
        *at = [y, x];
        if c + 1 < count {
            x += 1;
            if x == sweep.out_width {
                (y, x) = (y + 1, 0);
            }
        }
    }
    let side_by_side = sweep.pixel == job.inputs && job.inputs.is_multiple_of(E::STEP) && sweep.dilation[1] == 1;
    let inside = |[_, x]: [usize; 2]| sweep.at(1, x, 0).is_some() && sweep.at(1, x, width - 1).is_some();
    let merged = width > 1 && side_by_side && at.iter().all(|&at| inside(at));
    let (runs, run_steps) = if merged { (1, width * steps) } else { (width, steps) };
    job.segments.clear();
    for ky in 0..height {
        for kx in 0..runs {
            let mut rows = [OUTSIDE; MAX_TILE];
            for c in 0..C {
                if let (Some(y), Some(x)) = (sweep.at(0, at[c][0], ky), sweep.at(1, at[c][1], kx)) {
                    rows[c] = (y * sweep.size[1] + x) * sweep.pixel;
                }
            }
            // Kernel elements that no pixel of the tile sees contribute zeros; in bytes zeros count.
            if E::STEP > 1 || rows[..C].iter().any(|&row| row != OUTSIDE) {
                job.segments.push(Segment { first: (ky * width + kx) * steps, steps: run_steps, rows });
            }
        }
    }
}

/// One tile: `C` pixels times `V` vectors of channels.
#[inline(always)]
fn tile<S: Simd, E: Element, const V: usize, const C: usize>(
    s: S,
    job: &mut Dense<E>,
    weights: &[Step],
    per_block: usize,
    channel: usize,
    first: usize,
    count: usize,
) {
    let mut sums = [[E::start(s, job.start, channel); C]; V];
    for (v, sums) in sums.iter_mut().enumerate().skip(1) {
        *sums = [E::start(s, job.start, channel + v * S::LANES); C];
    }
    let mut blocks = [weights; V];
    for (v, block) in blocks.iter_mut().enumerate() {
        *block = &weights[v * S::LANES / BLOCK * per_block..][..per_block];
    }
    for segment in job.segments.iter() {
        let steps = segment.steps;
        let x: [&[E::Piece]; C] = from_fn(|c| {
            let row = segment.rows[c];
            let row = if row == OUTSIDE { job.zeros } else { &job.x[row..] };
            &E::pieces(&row[..steps * E::STEP])[..steps]
        });
        let w = blocks.map(|block| &block[segment.first..][..steps]);
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

    let (lines, straight) = job.then.lines();
    let mut results = [[0.0; 2 * BLOCK]; C];
    for v in 0..V {
        let at = channel + v * S::LANES;
        let bias = s.load(&job.bias[at..]);
        for c in 0..C {
            let y = E::finish(s, sums[v][c], job.scale, bias, at);
            s.store(lines.apply(s, y), &mut results[c][v * S::LANES..]);
        }
    }
    let channels = (job.outputs - channel).min(V * S::LANES);
    if !straight {
        activation::apply(s, job.then, results[..count].as_flattened_mut());
    }
    if !job.gain.is_empty() {
        for v in 0..V {
            let gain = s.load(&job.gain[channel + v * S::LANES..]);
            for results in &mut results[..count] {
                let results = &mut results[v * S::LANES..];
                s.store(s.mul(s.load(results), gain), results);
            }
        }
    }
    for (c, results) in results[..count].iter().enumerate() {
        let at = (first - job.pixels.start + c) * job.out_pixel + channel;
        write(s, &mut job.out, at, &results[..channels]);
    }
}

/// Writes results from element `at` of the output on.
#[inline(always)]
pub(super) fn write<S: Simd>(s: S, out: &mut Out, at: usize, results: &[f32]) {
    match out {
        Out::F32(out) => {
            let out = &mut out[at..at + results.len()];
            let mut outs = out.chunks_exact_mut(S::LANES);
            let mut vectors = results.chunks_exact(S::LANES);
            for (x, out) in (&mut vectors).zip(&mut outs) {
                s.store(s.load(x), out);
            }
            outs.into_remainder().copy_from_slice(vectors.remainder());
        }
        Out::U8 { bytes, inverse, zero } => narrow(s, results, *inverse, *zero, &mut bytes[at..at + results.len()]),
    }
}

/// `out = round(x × inverse + zero)`, at least 0 and at most 255.
#[inline(always)]
pub(super) fn narrow<S: Simd>(s: S, x: &[f32], inverse: f32, zero: f32, out: &mut [u8]) {
    let (inverse, zero) = (s.splat(inverse), s.splat(zero));
    let mut xs = x.chunks_exact(S::LANES);
    let mut outs = out.chunks_exact_mut(S::LANES);
    for (x, out) in (&mut xs).zip(&mut outs) {
        s.store_narrow(to_byte(s, s.load(x), inverse, zero), out);
    }
    let rest = outs.into_remainder();
    if !rest.is_empty() {
        let (mut x, mut bytes) = ([0.0; 16], [0; 16]);
        x[..rest.len()].copy_from_slice(xs.remainder());
        s.store_narrow(to_byte(s, s.load(&x), inverse, zero), &mut bytes);
        rest.copy_from_slice(&bytes[..rest.len()]);
    }
}

// Not a closure: those do not get the instruction set of the function that they are in.
#[inline(always)]
fn to_byte<S: Simd>(s: S, x: S::F, inverse: S::F, zero: S::F) -> S::I {
    s.round(s.min(s.max(s.mul_add(x, inverse, zero), s.splat(0.0)), s.splat(255.0)))
}

/// `out = (x − zero) × scale`
#[inline(always)]
pub(super) fn widen<S: Simd>(s: S, x: &[u8], scale: f32, zero: f32, out: &mut [f32]) {
    let mut xs = x.chunks_exact(S::LANES);
    let mut outs = out.chunks_exact_mut(S::LANES);
    let (vscale, vzero) = (s.splat(scale), s.splat(zero));
    for (x, out) in (&mut xs).zip(&mut outs) {
        s.store(s.mul(s.sub(s.to_f32(s.load_u8(x)), vzero), vscale), out);
    }
    for (&x, out) in xs.remainder().iter().zip(outs.into_remainder()) {
        *out = (f32::from(x) - zero) * scale;
    }
}
