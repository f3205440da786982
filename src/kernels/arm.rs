//! ARM, 64-bit: base NEON, NEON with the byte dot product, and with products of small matrices of bytes.
//!
//! Vectors of 8 numbers are pairs of registers. What stable Rust has no intrinsic for, in the oldest version that the
//! crate builds with, is a line of assembly: half precision, the products of bytes, prefetching.

use super::formats::Kind;
use super::gemv::PREFETCH;
use super::simd::{Blocks, FourRows, Matrix, Pairs, Simd};
use std::arch::aarch64::*;
use std::arch::asm;

/// Every 64-bit ARM: Raspberry Pi 3 and 4, Zero 2 W, Jetson Nano.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// NEON with `sdot`: Raspberry Pi 5, Jetson Orin, phones since 2018, servers.
#[derive(Clone, Copy)]
pub(crate) struct Dotprod(());

/// The same with `smmla`: phones since 2021, Graviton 3, Apple's since the M2.
#[derive(Clone, Copy)]
pub(crate) struct I8mm(());

tokens!(Neon Dotprod I8mm);

/// Four sums of four products each. The products of bytes in -128..=127 and -127..=127 fit 16 bits, and so do the sums
/// of two of them.
#[inline]
#[target_feature(enable = "neon")]
fn dot_neon(acc: int32x4_t, weights: uint8x16_t, activations: uint8x16_t) -> int32x4_t {
    let (w, a) = (vreinterpretq_s8_u8(weights), vreinterpretq_s8_u8(activations));
    let low = vmull_s8(vget_low_s8(w), vget_low_s8(a));
    let high = vmull_high_s8(w, a);
    vpadalq_s16(acc, vpaddq_s16(low, high))
}

/// The same 16 products in an instruction less, but other ones in each sum.
#[inline]
#[target_feature(enable = "neon")]
fn dot_parts_neon(acc: int32x4_t, weights: uint8x16_t, activations: uint8x16_t) -> int32x4_t {
    let (w, a) = (vreinterpretq_s8_u8(weights), vreinterpretq_s8_u8(activations));
    vpadalq_s16(acc, vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(a)), w, a))
}

/// The same as [`dot_neon`] in one instruction.
#[inline]
#[target_feature(enable = "neon,dotprod")]
#[allow(unsafe_code)]
fn dot_dotprod(acc: int32x4_t, weights: uint8x16_t, activations: uint8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: registers only, and callers have found the feature.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {a:v}.16b", acc = inout(vreg) acc, w = in(vreg) weights,
            a = in(vreg) activations, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The same with four of the activations for all sums.
#[inline]
#[target_feature(enable = "neon,dotprod")]
#[allow(unsafe_code)]
fn dot_lane<const LANE: usize>(acc: int32x4_t, weights: uint8x16_t, activations: uint8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: registers only, and callers have found the feature.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]", acc = inout(vreg) acc, w = in(vreg) weights,
            a = in(vreg) activations, lane = const LANE, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Adds the products of two rows and two tokens, of eight bytes each: those of the first row, then those of the second.
#[inline]
#[target_feature(enable = "neon,i8mm")]
#[allow(unsafe_code)]
fn multiply_i8mm(acc: int32x4_t, weights: uint8x16_t, activations: uint8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: registers only, and callers have found the feature.
    unsafe {
        asm!("smmla {acc:v}.4s, {w:v}.16b, {a:v}.16b", acc = inout(vreg) acc, w = in(vreg) weights,
            a = in(vreg) activations, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Eight rows of 32 bytes, in steps of four.
#[inline]
#[target_feature(enable = "neon")]
fn in_fours(r: [[uint8x16_t; 2]; 8]) -> [[uint8x16_t; 2]; 8] {
    // Numbers 4h to 4h + 3 of rows `i..i + 4`, as columns.
    let four = |i: usize, h: usize| {
        let row = |j: usize| vreinterpretq_u32_u8(r[i + j][h]);
        let even = (vtrn1q_u32(row(0), row(1)), vtrn1q_u32(row(2), row(3)));
        let odd = (vtrn2q_u32(row(0), row(1)), vtrn2q_u32(row(2), row(3)));
        let low = |(a, b)| vtrn1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b));
        let high = |(a, b)| vtrn2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b));
        [low(even), low(odd), high(even), high(odd)].map(|column| vreinterpretq_u8_u64(column))
    };
    let parts = [[four(0, 0), four(4, 0)], [four(0, 1), four(4, 1)]];
    std::array::from_fn(|i| [parts[i / 4][0][i % 4], parts[i / 4][1][i % 4]])
}

/// The same in steps of eight: vectors 2i and 2i + 1 have step i of the first and of the last four rows.
#[inline]
#[target_feature(enable = "neon")]
fn in_eights(r: [[uint8x16_t; 2]; 8]) -> [[uint8x16_t; 2]; 8] {
    std::array::from_fn(|i| {
        let (first, step) = (4 * (i % 2), i / 2);
        let pair = |j: usize| {
            let [a, b] = [r[first + j], r[first + j + 1]].map(|row| vreinterpretq_u64_u8(row[step / 2]));
            vreinterpretq_u8_u64(if step.is_multiple_of(2) { vtrn1q_u64(a, b) } else { vtrn2q_u64(a, b) })
        };
        [pair(0), pair(2)]
    })
}

/// One half as a number.
#[inline(always)]
#[allow(unsafe_code)]
fn half(bits: u16) -> f32 {
    let wide;
    // SAFETY: registers only; the instruction is in base NEON.
    unsafe {
        asm!("fcvt {wide:s}, {half:h}", half = in(vreg) bits, wide = lateout(vreg) wide,
            options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// Four halves as numbers.
#[inline(always)]
#[allow(unsafe_code)]
fn widen_four(x: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: registers only; the instruction is in base NEON.
    unsafe {
        asm!("fcvtl {wide:v}.4s, {x:v}.4h", x = in(vreg) x, wide = lateout(vreg) wide,
            options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// Four halves as a vector, each loaded into its lane.
#[inline]
#[target_feature(enable = "neon")]
fn in_lanes(halves: [u16; 4]) -> uint16x4_t {
    let x = vset_lane_u16::<0>(halves[0], vdup_n_u16(0));
    let x = vset_lane_u16::<1>(halves[1], x);
    let x = vset_lane_u16::<2>(halves[2], x);
    vset_lane_u16::<3>(halves[3], x)
}

/// Asks for the cache line `offset` bytes after `at`: a number and not a pointer, since nothing need be there, and nothing
/// that the program can see is read.
#[inline(always)]
#[allow(unsafe_code)]
fn prefetch(at: usize, offset: usize) {
    // SAFETY: prefetching has no effects but on time.
    unsafe {
        asm!("prfm pldl1keep, [{at}, {offset}]", at = in(reg) at, offset = in(reg) offset,
            options(nomem, nostack, preserves_flags));
    }
}

/// The quants of a row's next block of Q8_0, with its scale put into a lane of `halves`; `row` moves on to the block after.
/// Loads that move their address are what makes blocks of 34 bytes take no more instructions than if they were of 32 with
/// the scales elsewhere.
///
/// # Safety
/// `row` points to a whole block.
#[inline]
#[target_feature(enable = "neon")]
#[allow(unsafe_code)]
unsafe fn next_block<const LANE: usize>(row: &mut *const u8, halves: &mut uint16x4_t) -> [uint8x16_t; 2] {
    let mut at = *row;
    let (low, high);
    // SAFETY: 2 and 32 bytes are read, which the caller says are there. The first scale replaces the whole vector, so that
    // no block waits for the one before.
    unsafe {
        if LANE == 0 {
            asm!("ldr {halves:h}, [{at}], #2", at = inout(reg) at, halves = lateout(vreg) *halves,
                options(readonly, nostack, preserves_flags));
        } else {
            asm!("ld1 {{{halves:v}.h}}[{lane}], [{at}], #2", at = inout(reg) at, halves = inout(vreg) *halves,
                lane = const LANE, options(readonly, nostack, preserves_flags));
        }
        asm!("ldp {low:q}, {high:q}, [{at}], #32", at = inout(reg) at, low = lateout(vreg) low,
            high = lateout(vreg) high, options(readonly, nostack, preserves_flags));
    }
    *row = at;
    [low, high]
}

/// Four rows of Q8_0's blocks on their way through a product. Dot products are added up over all blocks, modulo 2³²; a
/// block's own is what has come to them since the one before, which saves four zeros for each.
struct ByteRows {
    rows: [*const u8; 4],
    totals: [int32x4_t; 4],
    before: int32x4_t,
    sums: float32x4_t,
}

impl ByteRows {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(rows: [*const u8; 4]) -> Self {
        let zero = vdupq_n_s32(0);
        Self { rows, totals: [zero; 4], before: zero, sums: vdupq_n_f32(0.0) }
    }

    /// The next block of each row, and the scales.
    ///
    /// # Safety
    /// There is one.
    #[inline]
    #[target_feature(enable = "neon")]
    #[allow(unsafe_code)]
    unsafe fn next(&mut self) -> ([[uint8x16_t; 2]; 4], uint16x4_t) {
        let mut halves = vdup_n_u16(0);
        let [a, b, c, d] = &mut self.rows;
        // SAFETY: the caller says that each row has one.
        let quants = unsafe {
            [
                next_block::<0>(a, &mut halves),
                next_block::<1>(b, &mut halves),
                next_block::<2>(c, &mut halves),
                next_block::<3>(d, &mut halves),
            ]
        };
        (quants, halves)
    }

    /// Adds the block's products, which `totals` have in them.
    #[inline]
    #[target_feature(enable = "neon")]
    fn add(&mut self, halves: uint16x4_t, x: f32) {
        let t = self.totals;
        let now = vpaddq_s32(vpaddq_s32(t[0], t[1]), vpaddq_s32(t[2], t[3]));
        let dots = vsubq_s32(now, self.before);
        self.before = now;
        self.sums = vfmaq_f32(self.sums, vcvtq_f32_s32(dots), vmulq_n_f32(widen_four(halves), x));
    }
}

/// Halves as numbers.
#[inline(always)]
#[allow(unsafe_code)]
fn widen(x: uint16x8_t) -> [float32x4_t; 2] {
    let (low, high);
    // SAFETY: registers only; the instructions are in base NEON.
    unsafe {
        asm!("fcvtl {low:v}.4s, {x:v}.4h", x = in(vreg) x, low = lateout(vreg) low,
            options(pure, nomem, nostack, preserves_flags));
        asm!("fcvtl2 {high:v}.4s, {x:v}.8h", x = in(vreg) x, high = lateout(vreg) high,
            options(pure, nomem, nostack, preserves_flags));
    }
    [low, high]
}

/// The operations that the types share, with what they differ in: the dot product, and the order of panels.
macro_rules! simd_128x2 {
    ($name:ident, dot: $dot:ident, parts: $parts:ident, order: $order:ident) => {
        impl Simd for $name {
            const LANES: usize = 8;
            const FLIP: u8 = 0;
            type F = [float32x4_t; 2];
            type I = [int32x4_t; 2];
            type B = [uint8x16_t; 2];

            #[inline(always)]
            fn splat(self, x: f32) -> Self::F {
                intrinsics!([vdupq_n_f32(x); 2])
            }
            #[inline(always)]
            fn splat_each(self, x: &[f32; 4]) -> [Self::F; 4] {
                intrinsics!({
                    let x = vld1q_f32(x.as_ptr());
                    [
                        [vdupq_laneq_f32::<0>(x); 2],
                        [vdupq_laneq_f32::<1>(x); 2],
                        [vdupq_laneq_f32::<2>(x); 2],
                        [vdupq_laneq_f32::<3>(x); 2],
                    ]
                })
            }
            #[inline(always)]
            fn load(self, x: &[f32]) -> Self::F {
                let x = &x[..8];
                load!(vld1q_f32, x)
            }
            #[inline(always)]
            fn store(self, v: Self::F, out: &mut [f32]) {
                let out = &mut out[..8];
                store!(vst1q_f32, out, v)
            }
            #[inline(always)]
            fn add(self, a: Self::F, b: Self::F) -> Self::F {
                both!(vaddq_f32(a, b))
            }
            #[inline(always)]
            fn sub(self, a: Self::F, b: Self::F) -> Self::F {
                both!(vsubq_f32(a, b))
            }
            #[inline(always)]
            fn mul(self, a: Self::F, b: Self::F) -> Self::F {
                both!(vmulq_f32(a, b))
            }
            #[inline(always)]
            fn div(self, a: Self::F, b: Self::F) -> Self::F {
                both!(vdivq_f32(a, b))
            }
            #[inline(always)]
            fn recip(self, x: Self::F) -> Self::F {
                // Each step of Newton's doubles the estimate's 8 bits.
                let mut y = both!(vrecpeq_f32(x));
                for _ in 0..2 {
                    let left = both!(vrecpsq_f32(x, y));
                    y = both!(vmulq_f32(y, left));
                }
                y
            }
            #[inline(always)]
            fn max(self, a: Self::F, b: Self::F) -> Self::F {
                both!(vmaxq_f32(a, b))
            }
            #[inline(always)]
            fn min(self, a: Self::F, b: Self::F) -> Self::F {
                both!(vminq_f32(a, b))
            }
            #[inline(always)]
            fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
                both!(vfmaq_f32(c, a, b))
            }
            #[inline(always)]
            fn sum(self, v: Self::F) -> f32 {
                intrinsics!({
                    let v = vaddq_f32(v[0], v[1]);
                    let v = vadd_f32(vget_low_f32(v), vget_high_f32(v));
                    vaddv_f32(v)
                })
            }
            #[inline(always)]
            fn max_lane(self, v: Self::F) -> f32 {
                intrinsics!(vmaxvq_f32(vmaxq_f32(v[0], v[1])))
            }
            #[inline(always)]
            fn load_f16(self, x: &[[u8; 2]]) -> Self::F {
                let x = &x[..8];
                widen(intrinsics!(vreinterpretq_u16_u8(vld1q_u8(x.as_ptr().cast()))))
            }
            #[inline(always)]
            fn half(self, bits: u16) -> f32 {
                half(bits)
            }
            #[inline(always)]
            fn load_bf16(self, x: &[[u8; 2]]) -> Self::F {
                let x = &x[..8];
                intrinsics!({
                    let x = vreinterpretq_u16_u8(vld1q_u8(x.as_ptr().cast()));
                    let wide = [vshll_n_u16::<16>(vget_low_u16(x)), vshll_high_n_u16::<16>(x)];
                    wide.map(|x| vreinterpretq_f32_u32(x))
                })
            }
            #[inline(always)]
            fn splat_i32(self, x: i32) -> Self::I {
                intrinsics!([vdupq_n_s32(x); 2])
            }
            #[inline(always)]
            fn load_i32(self, x: &[i32]) -> Self::I {
                let x = &x[..8];
                load!(vld1q_s32, x)
            }
            #[inline(always)]
            fn load_quads(self, x: &[[u8; 4]]) -> Self::I {
                let x = &x[..8];
                let x = load!(vld1q_u8, x);
                both!(vreinterpretq_s32_u8(x))
            }
            #[inline(always)]
            fn store_i32(self, v: Self::I, out: &mut [i32]) {
                let out = &mut out[..8];
                store!(vst1q_s32, out, v)
            }
            #[inline(always)]
            fn to_f32(self, v: Self::I) -> Self::F {
                both!(vcvtq_f32_s32(v))
            }
            #[inline(always)]
            fn round(self, v: Self::F) -> Self::I {
                both!(vcvtnq_s32_f32(v))
            }
            #[inline(always)]
            fn shl(self, v: Self::I, bits: u32) -> Self::I {
                let bits = self.splat_i32(bits as i32);
                both!(vshlq_s32(v, bits))
            }
            #[inline(always)]
            fn as_f32(self, v: Self::I) -> Self::F {
                both!(vreinterpretq_f32_s32(v))
            }
            #[inline(always)]
            fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
                both!(vaddq_s32(a, b))
            }
            #[inline(always)]
            fn store_narrow(self, v: Self::I, out: &mut [u8]) {
                let out = &mut out[..8];
                intrinsics!({
                    let v = vmovn_s16(vmovn_high_s32(vmovn_s32(v[0]), v[1]));
                    vst1_s8(out.as_mut_ptr().cast(), v)
                })
            }
            #[inline(always)]
            fn load_bytes(self, x: &[u8]) -> Self::B {
                let x = &x[..32];
                load!(vld1q_u8, x)
            }
            #[inline(always)]
            fn splat_quad(self, x: [u8; 4]) -> Self::B {
                intrinsics!([vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(x))); 2])
            }
            #[inline(always)]
            fn dot(self, acc: Self::I, weights: Self::B, activations: Self::B) -> Self::I {
                both!($dot(acc, weights, activations))
            }
            #[inline(always)]
            fn dot_flipped(self, acc: Self::I, weights: Self::B, activations: Self::B) -> Self::I {
                both!($dot(acc, weights, activations))
            }
            #[inline(always)]
            fn flip(self, x: Self::B) -> Self::B {
                let flip = intrinsics!(vdupq_n_u8(0x80));
                intrinsics!([veorq_u8(x[0], flip), veorq_u8(x[1], flip)])
            }
            #[inline(always)]
            fn store_bytes(self, v: Self::B, out: &mut [u8]) {
                let out = &mut out[..32];
                store!(vst1q_u8, out, v)
            }
            #[inline(always)]
            fn interleave(self, x: [&[u8]; 4]) -> Self::B {
                let [a, b, c, d] = [&x[0][..8], &x[1][..8], &x[2][..8], &x[3][..8]];
                intrinsics!({
                    let pairs = |a: &[u8], b: &[u8]| {
                        let (a, b) = (vld1_u8(a.as_ptr()), vld1_u8(b.as_ptr()));
                        vreinterpretq_u16_u8(vcombine_u8(vzip1_u8(a, b), vzip2_u8(a, b)))
                    };
                    let (ab, cd) = (pairs(a, b), pairs(c, d));
                    [vreinterpretq_u8_u16(vzip1q_u16(ab, cd)), vreinterpretq_u8_u16(vzip2q_u16(ab, cd))]
                })
            }
            #[inline(always)]
            fn load_u8(self, x: &[u8]) -> Self::I {
                let x = &x[..8];
                intrinsics!({
                    let wide = vmovl_u8(vld1_u8(x.as_ptr()));
                    let wide = [vmovl_u16(vget_low_u16(wide)), vmovl_high_u16(wide)];
                    wide.map(|x| vreinterpretq_s32_u32(x))
                })
            }
            #[inline(always)]
            fn prefetch<T>(self, x: &T, offset: usize) {
                prefetch(std::ptr::from_ref(x).addr(), offset);
            }
        }

        impl Blocks for $name {
            #[inline(always)]
            fn splat_pair(self, low: f32, high: f32) -> Self::F {
                intrinsics!([vdupq_n_f32(low), vdupq_n_f32(high)])
            }
            #[inline(always)]
            fn splat_byte(self, x: u8) -> Self::B {
                intrinsics!([vdupq_n_u8(x); 2])
            }
            #[inline(always)]
            fn and(self, a: Self::B, b: Self::B) -> Self::B {
                both!(vandq_u8(a, b))
            }
            #[inline(always)]
            fn or(self, a: Self::B, b: Self::B) -> Self::B {
                both!(vorrq_u8(a, b))
            }
            #[inline(always)]
            fn xor(self, a: Self::B, b: Self::B) -> Self::B {
                both!(veorq_u8(a, b))
            }
            #[inline(always)]
            fn sub_bytes(self, a: Self::B, b: Self::B) -> Self::B {
                both!(vsubq_u8(a, b))
            }
            #[inline(always)]
            fn shr_bytes(self, v: Self::B, bits: u32) -> Self::B {
                let bits = intrinsics!([vdupq_n_s8(-(bits as i8)); 2]);
                both!(vshlq_u8(v, bits))
            }
            #[inline(always)]
            fn shl_bytes(self, v: Self::B, bits: u32) -> Self::B {
                let bits = intrinsics!([vdupq_n_s8(bits as i8); 2]);
                both!(vshlq_u8(v, bits))
            }
            #[inline(always)]
            fn nibbles(self, x: &[u8; 16]) -> Self::B {
                intrinsics!({
                    let x = vld1q_u8(x.as_ptr());
                    [vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8::<4>(x)]
                })
            }
            #[inline(always)]
            fn spread_bits(self, bits: u32, value: u8) -> Self::B {
                intrinsics!({
                    // Byte i of the vector gets byte i / 8 of the bits and is tested for bit i % 8.
                    let bytes = vreinterpretq_u8_u32(vdupq_n_u32(bits));
                    let mask = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
                    let each = |first| vcombine_u8(vdup_n_u8(first), vdup_n_u8(first + 1));
                    let set = |first| vtstq_u8(vqtbl1q_u8(bytes, each(first)), mask);
                    let value = vdupq_n_u8(value);
                    [vandq_u8(set(0), value), vandq_u8(set(2), value)]
                })
            }
            #[inline(always)]
            fn dot_signed(self, acc: Self::I, weights: Self::B, activations: Self::B, _: Self::I) -> Self::I {
                both!($dot(acc, weights, activations))
            }
            #[inline(always)]
            fn transpose(self, r: [Self::B; 8]) -> [Self::B; 8] {
                intrinsics!($order(r))
            }
        }

        impl $name {
            /// Adds the products of the next block of each row.
            ///
            /// # Safety
            /// There is one.
            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn add_bytes(self, sums: &mut ByteRows, x: &[u8; 32], scale: f32) {
                let x = self.load_bytes(x);
                // SAFETY: the caller says that there is one, and `self` that the CPU has NEON.
                let (quants, halves) = unsafe { sums.next() };
                intrinsics!({
                    for (total, w) in sums.totals.iter_mut().zip(quants) {
                        *total = $parts($parts(*total, w[0], x[0]), w[1], x[1]);
                    }
                    sums.add(halves, scale);
                });
            }
        }

        impl FourRows for $name {
            type Dot = int32x4_t;
            type Sums = float32x4_t;

            #[inline(always)]
            fn zeros(self) -> float32x4_t {
                intrinsics!(vdupq_n_f32(0.0))
            }
            #[inline(always)]
            fn dot_block(self, kind: Kind, quants: Self::B, x: Self::B, nquads: &[i32; 8]) -> int32x4_t {
                let parts = match kind {
                    Kind::Signed | Kind::Mins => intrinsics!(vdupq_n_s32(0)),
                    Kind::Offset(shift) => {
                        let nquads = self.load_i32(nquads);
                        intrinsics!(vshlq_s32(vaddq_s32(nquads[0], nquads[1]), vdupq_n_s32(shift as i32)))
                    }
                };
                intrinsics!($parts($parts(parts, quants[0], x[0]), quants[1], x[1]))
            }
            #[inline(always)]
            fn add_dots(self, sums: float32x4_t, dots: [int32x4_t; 4], halves: [u16; 4], x: f32) -> float32x4_t {
                intrinsics!({
                    let dots = vpaddq_s32(vpaddq_s32(dots[0], dots[1]), vpaddq_s32(dots[2], dots[3]));
                    let scales = vmulq_n_f32(widen_four(in_lanes(halves)), x);
                    vfmaq_f32(sums, vcvtq_f32_s32(dots), scales)
                })
            }
            #[inline(always)]
            fn add_halves(self, sums: float32x4_t, halves: [u16; 4], x: f32) -> float32x4_t {
                intrinsics!(vfmaq_n_f32(sums, widen_four(in_lanes(halves)), x))
            }
            #[inline(always)]
            fn row_sums(self, sums: float32x4_t) -> [f32; 4] {
                let mut out = [0.0; 4];
                intrinsics!(vst1q_f32(out.as_mut_ptr(), sums));
                out
            }
            #[inline(always)]
            #[allow(unsafe_code)]
            fn bytes(self, rows: [&[[u8; 34]]; 4], x: &[[u8; 32]], scales: &[f32]) -> Option<[f32; 4]> {
                let blocks = rows[0].len();
                assert!(rows.iter().all(|row| row.len() == blocks));
                let mut sums = intrinsics!(ByteRows::new(rows.map(|row| row.as_ptr().cast())));
                let (xs, last_x) = x[..blocks].as_chunks::<2>();
                let (scales, last_scale) = scales[..blocks].as_chunks::<2>();
                for (xs, scales) in xs.iter().zip(scales) {
                    sums.rows.iter().for_each(|row| prefetch(row.addr(), PREFETCH));
                    // SAFETY: each row has as many blocks as there are of `xs`, one after the other.
                    unsafe {
                        self.add_bytes(&mut sums, &xs[0], scales[0]);
                        self.add_bytes(&mut sums, &xs[1], scales[1]);
                    }
                }
                if let ([x], [scale]) = (last_x, last_scale) {
                    // SAFETY: as above; this is the last one.
                    unsafe { self.add_bytes(&mut sums, x, *scale) }
                }
                Some(self.row_sums(sums.sums))
            }
        }
    };
}

simd_128x2!(Neon, dot: dot_neon, parts: dot_parts_neon, order: in_fours);
simd_128x2!(Dotprod, dot: dot_dotprod, parts: dot_dotprod, order: in_fours);
simd_128x2!(I8mm, dot: dot_dotprod, parts: dot_dotprod, order: in_eights);

impl Matrix for Neon {}

impl Matrix for Dotprod {
    const RUN: usize = 16;

    #[inline(always)]
    fn load_run(self, x: &[u8]) -> Self::B {
        let x = &x[..16];
        intrinsics!([vld1q_u8(x.as_ptr()); 2])
    }
    #[inline(always)]
    fn multiply<const SIGNED: bool, const I: usize>(self, acc: Self::I, weights: Self::B, x: Self::B) -> Self::I {
        intrinsics!([dot_lane::<I>(acc[0], weights[0], x[0]), dot_lane::<I>(acc[1], weights[1], x[1])])
    }
}

impl Matrix for I8mm {
    const TOKENS: usize = 2;

    #[inline(always)]
    fn load_run(self, x: &[u8]) -> Self::B {
        let x = &x[..16];
        intrinsics!([vld1q_u8(x.as_ptr()); 2])
    }
    #[inline(always)]
    fn repeat(self, x: &[f32]) -> Self::F {
        let x = &x[..2];
        intrinsics!({
            let x = vld1_f32(x.as_ptr());
            [vcombine_f32(x, x); 2]
        })
    }
    #[inline(always)]
    fn multiply<const SIGNED: bool, const I: usize>(self, acc: Self::I, weights: Self::B, x: Self::B) -> Self::I {
        both!(multiply_i8mm(acc, weights, x))
    }
    #[inline(always)]
    fn store_rows(self, v: Self::F, out: &mut [f32], apart: usize) {
        let (first, second) = out.split_at_mut(apart);
        let (first, second) = (&mut first[..4], &mut second[..4]);
        intrinsics!({
            vst1q_f32(first.as_mut_ptr(), vuzp1q_f32(v[0], v[1]));
            vst1q_f32(second.as_mut_ptr(), vuzp2q_f32(v[0], v[1]));
        })
    }
}

impl Pairs for I8mm {
    #[inline(always)]
    fn pair_weights(self, first: &[[u8; 4]], second: &[[u8; 4]]) -> [Self::B; 2] {
        let [first, second] = [self.load_quads(first), self.load_quads(second)];
        intrinsics!({
            let halves = [0, 1].map(|i| {
                let low = vzip1q_s32(first[i], second[i]);
                [low, vzip2q_s32(first[i], second[i])].map(|x| vreinterpretq_u8_s32(x))
            });
            halves
        })
    }
    #[inline(always)]
    fn pair_pixels(self, pixels: [[[u8; 4]; 2]; 2]) -> Self::B {
        let [first, second] = [pixels[0].as_flattened(), pixels[1].as_flattened()];
        intrinsics!({
            let x = vcombine_u8(vld1_u8(first.as_ptr()), vld1_u8(second.as_ptr()));
            [veorq_u8(x, vdupq_n_u8(0x80)); 2]
        })
    }
    #[inline(always)]
    fn by_pixel(self, [a, b]: [Self::I; 2]) -> [Self::I; 2] {
        intrinsics!([
            [vuzp1q_s32(a[0], a[1]), vuzp1q_s32(b[0], b[1])],
            [vuzp2q_s32(a[0], a[1]), vuzp2q_s32(b[0], b[1])],
        ])
    }
}
