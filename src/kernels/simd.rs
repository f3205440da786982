//! The vector operations that the kernels are written in.
//!
//! Every kernel body is written once over these traits and instantiated per instruction set. A value of an
//! implementing type is the proof that the CPU has the instructions: it is only made after detection, inside
//! functions that carry the matching `#[target_feature]`. That is why the methods are safe to call.

use super::formats::Kind;

/// Vectors of `LANES` numbers of 32 bits, and integer dot products on bytes.
pub(crate) trait Simd: Copy {
    /// Numbers of 32 bits in one vector: 8 or 16.
    const LANES: usize;

    /// What signed weights are XORed with before [`Simd::dot`] sees them in a panel: `0x80` where the instruction
    /// multiplies unsigned by signed bytes and saturates nowhere (VNNI), 0 where it can multiply signed bytes.
    const FLIP: u8;

    /// `LANES` f32.
    type F: Copy;
    /// `LANES` i32.
    type I: Copy;
    /// `4 × LANES` bytes.
    type B: Copy;

    fn splat(self, x: f32) -> Self::F;
    /// Each of four numbers in all lanes of a vector: for many products, that costs nothing where an instruction can choose
    /// a lane to multiply with.
    #[inline(always)]
    fn splat_each(self, x: &[f32; 4]) -> [Self::F; 4] {
        [self.splat(x[0]), self.splat(x[1]), self.splat(x[2]), self.splat(x[3])]
    }
    /// The first `LANES` of `x`.
    fn load(self, x: &[f32]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32]);
    /// The first numbers of `v`, as many as `out` has room for: at most `LANES`.
    #[inline(always)]
    fn store_first(self, v: Self::F, out: &mut [f32]) {
        let mut all = [0.0; 16];
        self.store(v, &mut all);
        copy_first(&all, out);
    }
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `1 / x` for x from 1 to 2¹²⁵, to about 2 units in the last place: faster than a division.
    fn recip(self, x: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a × b + c`, fused where the CPU can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn sum(self, v: Self::F) -> f32;
    fn max_lane(self, v: Self::F) -> f32;
    /// `LANES` half-precision numbers, widened.
    fn load_f16(self, x: &[[u8; 2]]) -> Self::F;
    /// One half-precision number, widened.
    fn half(self, bits: u16) -> f32;
    /// `LANES` bfloat16 numbers, widened.
    fn load_bf16(self, x: &[[u8; 2]]) -> Self::F;

    fn splat_i32(self, x: i32) -> Self::I;
    fn load_i32(self, x: &[i32]) -> Self::I;
    /// `LANES` numbers of 32 bits from anywhere.
    fn load_quads(self, x: &[[u8; 4]]) -> Self::I;
    fn store_i32(self, v: Self::I, out: &mut [i32]);
    fn to_f32(self, v: Self::I) -> Self::F;
    /// To nearest, ties to even; the inputs are within ±2³¹.
    fn round(self, v: Self::F) -> Self::I;
    fn shl(self, v: Self::I, bits: u32) -> Self::I;
    /// The f32 whose bits are `v`.
    fn as_f32(self, v: Self::I) -> Self::F;
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// The low byte of each number.
    fn store_narrow(self, v: Self::I, out: &mut [u8]);
    /// The same of the first numbers, as many as `out` has room for: at most `LANES`.
    #[inline(always)]
    fn store_first_narrow(self, v: Self::I, out: &mut [u8]) {
        let mut all = [0; 16];
        self.store_narrow(v, &mut all);
        copy_first(&all, out);
    }

    /// `4 × LANES` bytes.
    fn load_bytes(self, x: &[u8]) -> Self::B;
    /// Repeats four bytes over the vector.
    fn splat_quad(self, x: [u8; 4]) -> Self::B;
    /// To each of the `LANES` sums, adds the dot product of four weights in `0..=127` (or, where `FLIP` is `0x80`, in
    /// `0..=255`) with four signed activations in `-127..=127`. Exact.
    fn dot(self, acc: Self::I, weights: Self::B, activations: Self::B) -> Self::I;
    /// The same for signed weights, XORed with `FLIP` in the panel: the caller takes the surplus of `FLIP` off.
    fn dot_flipped(self, acc: Self::I, weights: Self::B, activations: Self::B) -> Self::I;
    /// Unsigned bytes as the first factor of [`Simd::dot_flipped`]: XORed with `0x80` where `FLIP` is 0.
    fn flip(self, x: Self::B) -> Self::B;
    /// The first `LANES` bytes of each slice: a byte of the first, one of the second, the third and the fourth, and so on.
    fn interleave(self, x: [&[u8]; 4]) -> Self::B;
    fn store_bytes(self, v: Self::B, out: &mut [u8]);
    /// `LANES` unsigned bytes, widened.
    fn load_u8(self, x: &[u8]) -> Self::I;

    /// Asks for the cache line `offset` bytes after `x`, which need not exist.
    fn prefetch<T>(self, x: &T, offset: usize);
}

/// Copies the first elements, as many as `out` has room for, in pieces of 16, 8, 4, 2 and 1: a copy of any length is a call,
/// which costs the caller all of its vectors.
#[inline(always)]
fn copy_first<T: Copy>(all: &[T; 16], out: &mut [T]) {
    let mut at = 0;
    for size in [16, 8, 4, 2, 1] {
        if out.len() & size != 0 {
            out[at..at + size].copy_from_slice(&all[at..at + size]);
            at += size;
        }
    }
}

/// Products of panels and tiles. A vector of their sums is of `LANES / TOKENS` rows by `TOKENS` tokens, those of a row side
/// by side, and a step along the columns takes `4 × TOKENS` of them: where dot products are of four bytes, a vector of
/// rows by one token; where there are instructions for small matrices, as these have it. Several steps of a token are
/// loaded at once where instructions can choose one of them.
pub(crate) trait Matrix: Simd {
    /// 1 or 2.
    const TOKENS: usize = 1;
    /// Columns in a step: bytes of a row that lie side by side in a panel.
    const STEP: usize = 4 * Self::TOKENS;
    /// Bytes of a token that lie side by side in a tile: one step or four.
    const RUN: usize = Self::STEP;

    /// A run of `TOKENS` tokens, for all rows of a vector.
    #[inline(always)]
    fn load_run(self, x: &[u8]) -> Self::B {
        self.splat_quad(*x.first_chunk().expect("a step"))
    }
    /// A number for each of `TOKENS` tokens, for all rows of a vector.
    #[inline(always)]
    fn repeat(self, x: &[f32]) -> Self::F {
        self.splat(x[0])
    }
    /// Adds the products with step `I` of a run, as [`Simd::dot_flipped`] or, of weights that are not `SIGNED`, as
    /// [`Simd::dot`]. Exact.
    #[inline(always)]
    fn multiply<const SIGNED: bool, const I: usize>(self, acc: Self::I, weights: Self::B, x: Self::B) -> Self::I {
        if SIGNED { self.dot_flipped(acc, weights, x) } else { self.dot(acc, weights, x) }
    }
    /// Stores the rows of each token; those of the next token begin `apart` elements further.
    #[inline(always)]
    fn store_rows(self, v: Self::F, out: &mut [f32], apart: usize) {
        let _ = apart;
        self.store(v, out);
    }
}

/// What convolutions in bytes need where small matrices are multiplied: two pixels and two steps at once.
#[cfg(target_arch = "aarch64")]
pub(crate) trait Pairs: Matrix {
    /// Two steps of weights, `[LANES][4]` each, as `[LANES][8]`: the first and the second half of the rows.
    fn pair_weights(self, first: &[[u8; 4]], second: &[[u8; 4]]) -> [Self::B; 2];
    /// Two steps of two pixels, for all rows of a vector; as [`Simd::flip`].
    fn pair_pixels(self, pixels: [[[u8; 4]; 2]; 2]) -> Self::B;
    /// The sums of the first and of the second half of the rows, by two pixels each: those of the first and of the second
    /// pixel.
    fn by_pixel(self, sums: [Self::I; 2]) -> [Self::I; 2];
}

/// What reading quantized blocks needs besides: vectors of exactly 8 numbers, or 32 bytes.
pub(crate) trait Blocks: Matrix {
    /// `low` in lanes 0 to 3, `high` in lanes 4 to 7.
    fn splat_pair(self, low: f32, high: f32) -> Self::F;
    fn splat_byte(self, x: u8) -> Self::B;
    fn and(self, a: Self::B, b: Self::B) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    fn xor(self, a: Self::B, b: Self::B) -> Self::B;
    fn sub_bytes(self, a: Self::B, b: Self::B) -> Self::B;
    /// Shifts every byte right, by less than 8 bits.
    fn shr_bytes(self, v: Self::B, bits: u32) -> Self::B;
    /// Shifts every byte left, by less than 8 bits.
    fn shl_bytes(self, v: Self::B, bits: u32) -> Self::B;
    /// 16 bytes as 32 numbers: first the low nibbles, then the high ones.
    fn nibbles(self, x: &[u8; 16]) -> Self::B;
    /// 32 bits as 32 bytes of 0 or `value`, lowest bit first.
    fn spread_bits(self, bits: u32, value: u8) -> Self::B;
    /// To each of the 8 sums, adds the dot product of four signed weights with four signed activations; `nquads` are
    /// the negated sums of the activations' fours. Exact.
    fn dot_signed(self, acc: Self::I, weights: Self::B, activations: Self::B, nquads: Self::I) -> Self::I;
    /// Eight rows of 32 bytes in a panel's order: the first step of all of them, the second, and so on.
    fn transpose(self, rows: [Self::B; 8]) -> [Self::B; 8];
}

/// Four rows of blocks of 32 times one token. Dot products are sums of parts, and adding the parts up costs as much as they
/// did: it is done once at the end, for each row by itself, or for each block, where that takes few instructions for all
/// four together.
pub(crate) trait FourRows: Blocks {
    /// The parts of an integer dot product.
    type Dot: Copy;
    /// A sum for each row, or its parts.
    type Sums: Copy;

    fn zeros(self) -> Self::Sums;
    /// The dot product of a block's quants, of that kind, with activations; `nquads` are the negated sums of their fours.
    /// Exact.
    fn dot_block(self, kind: Kind, quants: Self::B, x: Self::B, nquads: &[i32; 8]) -> Self::Dot;
    /// Adds `halves[r] × x × dots[r]`, where the halves are half-precision numbers.
    fn add_dots(self, sums: Self::Sums, dots: [Self::Dot; 4], halves: [u16; 4], x: f32) -> Self::Sums;
    /// Adds `halves[r] × x`.
    fn add_halves(self, sums: Self::Sums, halves: [u16; 4], x: f32) -> Self::Sums;
    fn row_sums(self, sums: Self::Sums) -> [f32; 4];
    /// The products of whole rows of Q8_0's blocks with activations and their scales, if there is a faster way than the
    /// pieces above. Small models are in that format; as its quants need no unpacking, what else is done for each block
    /// counts most there.
    #[inline(always)]
    fn bytes(self, rows: [&[[u8; 34]]; 4], x: &[[u8; 32]], scales: &[f32]) -> Option<[f32; 4]> {
        let _ = (rows, x, scales);
        None
    }
}

/// What [`FourRows`] needs where the sums of each row are a vector of their own.
pub(crate) trait SplatHalf: Blocks {
    /// One half-precision number in all lanes.
    fn splat_f16(self, bits: u16) -> Self::F;
}

impl<S: SplatHalf> FourRows for S {
    type Dot = S::I;
    type Sums = [S::F; 4];

    #[inline(always)]
    fn zeros(self) -> Self::Sums {
        [self.splat(0.0); 4]
    }
    #[inline(always)]
    fn dot_block(self, kind: Kind, quants: S::B, x: S::B, nquads: &[i32; 8]) -> S::I {
        dot_block(self, kind, quants, x, nquads)
    }
    #[inline(always)]
    fn add_dots(self, mut sums: Self::Sums, dots: [S::I; 4], halves: [u16; 4], x: f32) -> Self::Sums {
        for r in 0..4 {
            let scale = self.mul(self.splat_f16(halves[r]), self.splat(x));
            sums[r] = self.mul_add(self.to_f32(dots[r]), scale, sums[r]);
        }
        sums
    }
    #[inline(always)]
    fn add_halves(self, mut sums: Self::Sums, halves: [u16; 4], x: f32) -> Self::Sums {
        // All of the 8 lanes get it.
        let x = self.splat(x / 8.0);
        for r in 0..4 {
            sums[r] = self.mul_add(self.splat_f16(halves[r]), x, sums[r]);
        }
        sums
    }
    #[inline(always)]
    fn row_sums(self, sums: Self::Sums) -> [f32; 4] {
        // Not by `map`: what it calls is compiled without the instruction set, and is not inlined.
        [self.sum(sums[0]), self.sum(sums[1]), self.sum(sums[2]), self.sum(sums[3])]
    }
}

/// The dot product of 32 quants with activations, as [`FourRows::dot_block`], in 8 lanes.
#[inline(always)]
pub(super) fn dot_block<S: Blocks>(s: S, kind: Kind, quants: S::B, x: S::B, nquads: &[i32; 8]) -> S::I {
    match kind {
        Kind::Signed => s.dot_signed(s.splat_i32(0), quants, x, s.load_i32(nquads)),
        Kind::Offset(shift) => s.dot(s.shl(s.load_i32(nquads), shift), quants, x),
        Kind::Mins => s.dot(s.splat_i32(0), quants, x),
    }
}
