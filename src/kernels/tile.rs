//! Activations, laid out for the products.

use super::simd::Matrix;

/// The activations of up to `width` tokens, interleaved so that the products read them in order: as f32 for float
/// weights, and as signed bytes with a scale for each 32 for quantized weights.
///
/// Rounding: `q = round(x / d)`, ties to even, with `d = max|x| / 127` of each 32, and `scale` = `d` rounded to the 11
/// bits of half precision. That is what llama.cpp does for weights with blocks of 32, so the same file gives the same
/// text; where it differs (for formats with mins it rounds `d × Σq` to half precision by itself, for K-quants it shares a
/// scale among 256 elements) we keep the scale above, which is at least as exact.
#[derive(Default)]
pub struct Tile {
    /// Tokens side by side: 1 for matrix-vector products.
    pub(super) width: usize,
    /// Elements of each token.
    pub(super) cols: usize,
    /// `[cols][width]`
    pub(super) floats: Vec<f32>,
    /// Signed bytes, `[cols / RUN][width][RUN]` ([`Matrix::RUN`])
    pub(super) quants: Vec<u8>,
    /// `[cols / 32][width]`
    pub(super) scales: Vec<f32>,
    /// Negated sums of each 4 quants, `[cols / 4]`; only if the width is 1.
    pub(super) nquads: Vec<i32>,
    /// What products with 16 elements to a scale need.
    pub(super) by16: Sums,
    /// What products with 32 elements to a scale need.
    pub(super) by32: Sums,
}

/// Sums over groups of quants, `[groups][width]`.
#[derive(Default)]
pub(super) struct Sums {
    /// Negated.
    pub(super) quants: Vec<i32>,
    /// Times the scale.
    pub(super) floats: Vec<f32>,
}

impl Sums {
    fn resize(&mut self, len: usize) {
        self.quants.resize(len, 0);
        self.floats.resize(len, 0.0);
    }
}

impl Tile {
    /// Sets the shape and what will be stored: f32, quants, or both. Allocates only when it grows.
    pub fn reshape(&mut self, width: usize, cols: usize, floats: bool, quants: bool) {
        (self.width, self.cols) = (width, cols);
        self.floats.resize(if floats { cols * width } else { 0 }, 0.0);
        let cols = if quants { cols } else { 0 };
        assert!(cols.is_multiple_of(32), "quantized weights come in whole blocks");
        self.quants.resize(cols * width, 0);
        self.scales.resize(cols / 32 * width, 0.0);
        self.nquads.resize(if width == 1 { cols / 4 } else { 0 }, 0);
        self.by16.resize(cols / 16 * width);
        self.by32.resize(cols / 32 * width);
    }
}

/// The width of tiles, for many tokens or for few, that takes fewer instructions for so many: if one loads weights, and there
/// is one for each of a tile's tokens, with those that the last tile lacks.
pub(super) fn width([many, few]: [usize; 2], tokens: usize) -> usize {
    let cost = |width: usize| tokens.div_ceil(width) * (width + 1);
    if cost(few) < cost(many) { few } else { many }
}

/// Stores token `c`'s activations.
#[inline(always)]
pub(super) fn fill<S: Matrix>(s: S, tile: &mut Tile, c: usize, x: &[f32]) {
    assert!(x.len() == tile.cols && c < tile.width);
    for (slot, &x) in tile.floats.iter_mut().skip(c).step_by(tile.width).zip(x) {
        *slot = x;
    }
    if !tile.quants.is_empty() {
        quantize(s, tile, c, x);
    }
}

/// `x` with the 11 significant bits of half precision, but the range of f32 (Veltkamp's split).
#[inline(always)]
fn round_to_half(x: f32) -> f32 {
    let wide = x * 8193.0;
    wide - (wide - x)
}

#[inline(always)]
fn quantize<S: Matrix>(s: S, tile: &mut Tile, c: usize, x: &[f32]) {
    let width = tile.width;
    for (b, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let sign = s.splat(0.0);
        let mut max = sign;
        for part in x.chunks_exact(S::LANES) {
            let v = s.load(part);
            max = s.max(max, s.max(v, s.sub(sign, v)));
        }
        let max = s.max_lane(max);
        let scale = round_to_half(max / 127.0);
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };

        // Room for a whole vector of bytes, of which a block fills 32.
        let mut bytes = [0_u8; 64];
        for (part, out) in x.chunks_exact(S::LANES).zip(bytes.chunks_exact_mut(S::LANES)) {
            s.store_narrow(s.round(s.mul(s.load(part), s.splat(inverse))), out);
        }
        let mut quads = [0_i32; 16];
        let ones = s.splat_quad([1; 4]);
        s.store_i32(s.dot(s.splat_i32(0), ones, s.load_bytes(&bytes)), &mut quads);
        if width == 1 {
            tile.quants[32 * b..][..32].copy_from_slice(&bytes[..32]);
            tile.nquads[8 * b..][..8].iter_mut().zip(quads).for_each(|(slot, quad)| *slot = -quad);
        } else {
            let slots = tile.quants[32 * b * width..][..32 * width].chunks_exact_mut(S::RUN).skip(c).step_by(width);
            slots.zip(bytes.chunks_exact(S::RUN)).for_each(|(slot, run)| slot.copy_from_slice(run));
        }
        tile.scales[b * width + c] = scale;
        let sums = [0, 4].map(|at| quads[at..at + 4].iter().sum::<i32>());
        for (i, sum) in sums.into_iter().enumerate() {
            tile.by16.quants[(2 * b + i) * width + c] = -sum;
            tile.by16.floats[(2 * b + i) * width + c] = scale * sum as f32;
        }
        let sum = sums[0] + sums[1];
        tile.by32.quants[b * width + c] = -sum;
        tile.by32.floats[b * width + c] = scale * sum as f32;
    }
}
