//! The vector operations that the kernels are written in.
//!
//! Every kernel body is written once over these traits and instantiated per instruction set. A value of an
//! implementing type is the proof that the CPU has the instructions: it is only made after detection, inside
//! functions that carry the matching `#[target_feature]`. That is why the methods are safe to call.

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
    /// The first `LANES` of `x`.
    fn load(self, x: &[f32]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32]);
    /// The first numbers of `v`, as many as `out` has room for: at most `LANES`.
    #[inline(always)]
    fn store_first(self, v: Self::F, out: &mut [f32]) {
        let mut all = [0.0; 16];
        self.store(v, &mut all);
        out.copy_from_slice(&all[..out.len()]);
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
        out.copy_from_slice(&all[..out.len()]);
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

/// What reading quantized blocks needs besides: vectors of exactly 8 numbers, or 32 bytes.
pub(crate) trait Blocks: Simd {
    /// One half-precision number in all lanes.
    fn splat_f16(self, bits: u16) -> Self::F;
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
    /// Eight rows of eight numbers of 32 bits, transposed.
    fn transpose(self, rows: [Self::B; 8]) -> [Self::B; 8];
}
