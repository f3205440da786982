//! Convolution as a product: tiles of output pixels times blocks of output channels.
//!
//! Lanes are output channels, and each step broadcasts one number (or four bytes) of every pixel of the tile: there are
//! no sums across lanes, and the input is read where it lies. A tile's sums stay in registers over the whole kernel; what
//! lies outside of the map is read from a row of zeros.

use super::output::Finish;
#[cfg(target_arch = "aarch64")]
use super::simd::Pairs;
use super::simd::Simd;
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

    /// The same, of a map that is one long row if each output pixel sees the pixel at its own place.
    fn in_one_row(&self) -> Self {
        let pointwise = (self.kernel, self.stride, self.pads) == ([1, 1], [1, 1], [0, 0]);
        let pixels = self.size[0] * self.size[1];
        if pointwise && self.size[1] == self.out_width {
            Self { size: [1, pixels], out_width: pixels, ..*self }
        } else {
            *self
        }
    }

    /// The output rows or columns whose kernels lie inside of the map as a whole.
    fn inside(&self, axis: usize) -> Range<usize> {
        let (stride, pad) = (self.stride[axis], self.pads[axis]);
        let reach = (self.kernel[axis] - 1) * self.dilation[axis];
        let end = (self.size[axis] + pad).checked_sub(reach + 1).map_or(0, |last| last / stride + 1);
        pad.div_ceil(stride)..end
    }

    /// Where the kernel's first element lies in the map for an output pixel; it wraps around where that is outside.
    fn origin(&self, [y, x]: [usize; 2]) -> usize {
        let y = (y * self.stride[0]).wrapping_sub(self.pads[0]);
        let x = (x * self.stride[1]).wrapping_sub(self.pads[1]);
        y.wrapping_mul(self.size[1]).wrapping_add(x).wrapping_mul(self.pixel)
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
    pub taps: &'a mut Taps,
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

/// A run of the input that meets a run of the weights: one kernel element, or a row of them where the input has their
/// channels side by side.
pub(super) struct Tap {
    /// The first step of the weights.
    first: usize,
    /// Number of steps.
    steps: usize,
    /// How far from a pixel's origin it begins in the map.
    offset: usize,
    /// The pixels of the tile for which it lies outside of the map: one bit each.
    outside: u32,
}

/// The taps of tiles.
#[derive(Default)]
pub(crate) struct Taps {
    /// Of all tiles whose pixels see nothing outside of the map.
    inside: Vec<Tap>,
    /// Of one of the others.
    border: Vec<Tap>,
}

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

/// How the sums of a tile are computed, of `C` pixels times `V` vectors of channels from `channel` on: those of the taps,
/// whose weights are among `weights`, for pixels with these origins.
pub(super) trait Tiles<S: Simd, E: Element> {
    fn tile<const V: usize, const C: usize>(
        s: S,
        job: &Dense<E>,
        taps: &[Tap],
        origins: &[usize; C],
        weights: &[Step],
        per_block: usize,
        channel: usize,
    ) -> [[S::F; C]; V];
}

/// Computes a group's pixels in tiles of `C`, and its channels `V` vectors at a time.
#[inline(always)]
pub(super) fn dense<S: Simd, E: Element, T: Tiles<S, E>, const V: usize, const C: usize>(s: S, job: &mut Dense<E>) {
    let per_block = job.weights.len() / job.outputs.div_ceil(BLOCK);
    let blocks_at_once = (V * S::LANES).div_ceil(BLOCK);
    let sweep = job.sweep.in_one_row();
    let inside = [sweep.inside(0), sweep.inside(1)];
    job.taps.inside.clear();
    push_taps::<E>(&mut job.taps.inside, &sweep, job.inputs, true, |_| 0);
    let bent = job.finish.bent();
    let mut stored = [[0.0; 2 * BLOCK]; C];
    for first in job.pixels.clone().step_by(C) {
        let count = C.min(job.pixels.end - first);
        let place = Place::<C>::new(&sweep, first, count);
        let taps = if place.is_within(&inside) {
            &job.taps.inside
        } else {
            border::<E, C>(job, &sweep, &place.pixels, &inside[1]);
            &job.taps.border
        };
        let pixels = [first - job.pixels.start, count];
        let mut channel = 0;
        while channel < job.outputs {
            let weights = &job.weights[channel / BLOCK * per_block..];
            let left = job.outputs - channel;
            let lanes = if V * S::LANES > BLOCK && weights.len() < blocks_at_once * per_block {
                // The last block, where blocks are taken in pairs.
                let sums = T::tile::<1, C>(s, job, taps, &place.origins, weights, per_block, channel);
                match bent {
                    Some(bent) => job.finish.tile(s, bent, pixels, [channel, left.min(BLOCK)], sums),
                    None => store(s, sums, &mut stored),
                }
                BLOCK
            } else {
                let sums = T::tile::<V, C>(s, job, taps, &place.origins, weights, per_block, channel);
                match bent {
                    Some(bent) => job.finish.tile(s, bent, pixels, [channel, left.min(V * S::LANES)], sums),
                    None => store(s, sums, &mut stored),
                }
                V * S::LANES
            };
            if bent.is_none() {
                job.finish.pixels(s, pixels[0], [channel, left.min(lanes)], stored[..count].as_flattened(), 2 * BLOCK);
            }
            channel += lanes;
        }
    }
}

#[inline(always)]
fn store<S: Simd, const V: usize, const C: usize>(s: S, sums: [[S::F; C]; V], stored: &mut [[f32; 2 * BLOCK]; C]) {
    for c in 0..C {
        for v in 0..V {
            s.store(sums[v][c], &mut stored[c][v * S::LANES..]);
        }
    }
}

/// The pixels of a tile.
struct Place<const C: usize> {
    /// Row and column of each.
    pixels: [[usize; 2]; C],
    /// [`Sweep::origin`] of each.
    origins: [usize; C],
}

impl<const C: usize> Place<C> {
    /// The `count` pixels from `first` on; those that are missing in the tile repeat the last one.
    #[inline(always)]
    fn new(sweep: &Sweep, first: usize, count: usize) -> Self {
        // One division for the tile; the other pixels follow.
        let mut pixel = [first / sweep.out_width, first % sweep.out_width];
        let mut origin = sweep.origin(pixel);
        let mut place = Self { pixels: [pixel; C], origins: [origin; C] };
        for c in 1..C {
            if c < count {
                pixel[1] += 1;
                origin = origin.wrapping_add(sweep.stride[1] * sweep.pixel);
                if pixel[1] == sweep.out_width {
                    pixel = [pixel[0] + 1, 0];
                    origin = sweep.origin(pixel);
                }
            }
            (place.pixels[c], place.origins[c]) = (pixel, origin);
        }
        place
    }

    /// Whether all pixels lie in these rows and columns.
    #[inline(always)]
    fn is_within(&self, [rows, columns]: &[Range<usize>; 2]) -> bool {
        let ([first, last], within) =
            ([self.pixels[0], self.pixels[C - 1]], |[y, x]: &[usize; 2]| rows.contains(y) && columns.contains(x));
        within(&first) && within(&last) && (first[0] == last[0] || self.pixels.iter().all(within))
    }
}

/// Finds the taps of a tile whose pixels see something outside of the map.
#[inline(always)]
fn border<E: Element, const C: usize>(
    job: &mut Dense<E>,
    sweep: &Sweep,
    pixels: &[[usize; 2]; C],
    inside: &Range<usize>,
) {
    let whole_rows = pixels.iter().all(|[_, x]| inside.contains(x));
    job.taps.border.clear();
    push_taps::<E>(&mut job.taps.border, sweep, job.inputs, whole_rows, |[ky, kx]| {
        let mut outside = 0;
        for (c, &[y, x]) in pixels.iter().enumerate() {
            let seen = sweep.at(0, y, ky).is_some() && sweep.at(1, x, kx).is_some();
            outside |= u32::from(!seen) << c;
        }
        outside
    });
    // Kernel elements that no pixel of the tile sees contribute zeros; in bytes zeros count.
    if E::STEP == 1 {
        job.taps.border.retain(|tap| tap.outside != (1 << C) - 1);
    }
}

/// Adds a tap for each kernel element, `outside` of which says for which pixels it lies outside of the map, or one for each
/// row of elements if none of them lies outside by itself.
#[inline(always)]
fn push_taps<E: Element>(
    taps: &mut Vec<Tap>,
    sweep: &Sweep,
    inputs: usize,
    whole_rows: bool,
    outside: impl Fn([usize; 2]) -> u32,
) {
    let steps = inputs.div_ceil(E::STEP);
    let [height, width] = sweep.kernel;
    let side_by_side = sweep.pixel == inputs && inputs.is_multiple_of(E::STEP) && sweep.dilation[1] == 1;
    let at_once = if whole_rows && side_by_side { width } else { 1 };
    for ky in 0..height {
        for kx in (0..width).step_by(at_once) {
            taps.push(Tap {
                first: (ky * width + kx) * steps,
                steps: at_once * steps,
                offset: (ky * sweep.dilation[0] * sweep.size[1] + kx * sweep.dilation[1]) * sweep.pixel,
                outside: outside([ky, kx]),
            });
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
        taps: &[Tap],
        origins: &[usize; C],
        weights: &[Step],
        per_block: usize,
        channel: usize,
    ) -> [[S::F; C]; V] {
        let mut sums = [[E::start(s, job.start, channel); C]; V];
        for (v, sums) in sums.iter_mut().enumerate().skip(1) {
            *sums = [E::start(s, job.start, channel + v * S::LANES); C];
        }
        for tap in taps {
            let (w, x) = (rows::<S, V>(weights, per_block, tap), runs(job, tap, origins));
            for k in 0..tap.steps {
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
        let mut finished = [[s.splat(0.0); C]; V];
        for v in 0..V {
            let at = channel + v * S::LANES;
            let bias = s.load(&job.bias[at..]);
            for c in 0..C {
                finished[v][c] = E::finish(s, sums[v][c], job.scale, bias, at);
            }
        }
        finished
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
        taps: &[Tap],
        origins: &[usize; C],
        weights: &[Step],
        per_block: usize,
        channel: usize,
    ) -> [[S::F; C]; V] {
        // Of pixels c and c + 1: the first half of a vector's channels, then the second.
        let mut sums = [[s.splat_i32(0); C]; V];
        for tap in taps {
            let (w, x) = (rows::<S, V>(weights, per_block, tap), runs(job, tap, origins));
            let pairs = tap.steps / 2;
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
            if !tap.steps.is_multiple_of(2) {
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
        let mut finished = [[s.splat(0.0); C]; V];
        for v in 0..V {
            let at = channel + v * S::LANES;
            let (start, bias) = (s.load_i32(&job.start[at..]), s.load(&job.bias[at..]));
            for c in (0..C).step_by(2) {
                for (i, sum) in s.by_pixel([sums[v][c], sums[v][c + 1]]).into_iter().enumerate() {
                    finished[v][c + i] = u8::finish(s, s.add_i32(sum, start), job.scale, bias, at);
                }
            }
        }
        finished
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

/// The tap's weights for each vector of channels. Loops and no closures, here and below: what is called for each tap has
/// to become a part of its caller.
#[inline(always)]
fn rows<'a, S: Simd, const V: usize>(weights: &'a [Step], per_block: usize, tap: &Tap) -> [&'a [Step]; V] {
    let mut rows = [&weights[..0]; V];
    for (v, row) in rows.iter_mut().enumerate() {
        let block = &weights[v * S::LANES / BLOCK * per_block..][..per_block];
        *row = &block[tap.first..][..tap.steps];
    }
    rows
}

/// What the tap meets of each pixel of the tile.
#[inline(always)]
fn runs<'a, E: Element, const C: usize>(job: &Dense<'a, E>, tap: &Tap, origins: &[usize; C]) -> [&'a [E::Piece]; C] {
    let mut runs = [&E::pieces(job.zeros)[..0]; C];
    for (c, run) in runs.iter_mut().enumerate() {
        let outside = tap.outside >> c & 1 != 0;
        let row = if outside { job.zeros } else { &job.x[origins[c].wrapping_add(tap.offset)..] };
        *run = &E::pieces(&row[..tap.steps * E::STEP])[..tap.steps];
    }
    runs
}
