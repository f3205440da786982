//! SSE2, which every 64-bit x86 has: for CPUs without AVX2, FMA or F16C, such as small Celerons and Atoms.
//!
//! Vectors of 8 numbers are pairs of registers.

use crate::kernels::simd::{Blocks, Matrix, Simd, SplatHalf};
use std::arch::x86_64::*;

/// Every 64-bit x86.
#[derive(Clone, Copy)]
pub(crate) struct Sse2(());

tokens!(Sse2);

/// Four sums of four products each. Bytes are taken two at a time, those of even and those of odd number, as numbers of 16
/// bits.
#[inline]
#[target_feature(enable = "sse2")]
fn dot(acc: __m128i, weights: __m128i, activations: __m128i) -> __m128i {
    let even = |x| _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(x));
    let odd = |x| _mm_srai_epi16::<8>(x);
    let evens = _mm_madd_epi16(even(weights), even(activations));
    let odds = _mm_madd_epi16(odd(weights), odd(activations));
    _mm_add_epi32(acc, _mm_add_epi32(evens, odds))
}

/// Half-precision numbers, one in each 32 bits, widened.
#[inline]
#[target_feature(enable = "sse2")]
fn widen(halves: __m128i) -> __m128 {
    let magnitude = _mm_and_si128(halves, _mm_set1_epi32(0x7fff));
    // Exponents differ by 112; infinity and NaN have the largest one in both.
    let normal = _mm_add_epi32(_mm_slli_epi32::<13>(magnitude), _mm_set1_epi32(112 << 23));
    let endless = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff)), _mm_set1_epi32(0x7f80_0000));
    // Those with the smallest exponent are multiples of 2⁻²⁴. As numbers of f32 with its smallest exponent they would be
    // slow, and 0 where a program has told the CPU to take such as 0.
    let small = _mm_castps_si128(_mm_mul_ps(_mm_cvtepi32_ps(magnitude), _mm_set1_ps(1.0 / (1 << 24) as f32)));
    let is_small = _mm_cmplt_epi32(magnitude, _mm_set1_epi32(0x400));
    let wide = _mm_or_si128(_mm_and_si128(is_small, small), _mm_andnot_si128(is_small, _mm_or_si128(normal, endless)));
    let sign = _mm_slli_epi32::<16>(_mm_xor_si128(halves, magnitude));
    _mm_castsi128_ps(_mm_or_si128(sign, wide))
}

/// Four rows of four numbers as four columns.
#[inline]
#[target_feature(enable = "sse2")]
fn columns([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
    let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
    let (first, second) = (_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
    let (ab, cd) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
    [first, second, _mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd)]
}

impl Simd for Sse2 {
    const LANES: usize = 8;
    const FLIP: u8 = 0;
    type F = [__m128; 2];
    type I = [__m128i; 2];
    type B = [__m128i; 2];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        intrinsics!([_mm_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        let x = &x[..8];
        load!(_mm_loadu_ps, x)
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32]) {
        let out = &mut out[..8];
        store!(_mm_storeu_ps, out, v)
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm_div_ps(a, b))
    }
    #[inline(always)]
    fn recip(self, x: Self::F) -> Self::F {
        self.div(self.splat(1.0), x)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm_min_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn sum(self, v: Self::F) -> f32 {
        intrinsics!({
            let v = _mm_add_ps(v[0], v[1]);
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        })
    }
    #[inline(always)]
    fn max_lane(self, v: Self::F) -> f32 {
        intrinsics!({
            let v = _mm_max_ps(v[0], v[1]);
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
        })
    }
    #[inline(always)]
    fn load_f16(self, x: &[[u8; 2]]) -> Self::F {
        let x = &x[..8];
        intrinsics!({
            let (x, zero) = (_mm_loadu_si128(x.as_ptr().cast()), _mm_setzero_si128());
            [widen(_mm_unpacklo_epi16(x, zero)), widen(_mm_unpackhi_epi16(x, zero))]
        })
    }
    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        intrinsics!(_mm_cvtss_f32(widen(_mm_cvtsi32_si128(bits.into()))))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[[u8; 2]]) -> Self::F {
        let x = &x[..8];
        intrinsics!({
            let (x, zero) = (_mm_loadu_si128(x.as_ptr().cast()), _mm_setzero_si128());
            [_mm_castsi128_ps(_mm_unpacklo_epi16(zero, x)), _mm_castsi128_ps(_mm_unpackhi_epi16(zero, x))]
        })
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        intrinsics!([_mm_set1_epi32(x); 2])
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> Self::I {
        let x = &x[..8];
        load!(_mm_loadu_si128, x)
    }
    #[inline(always)]
    fn load_quads(self, x: &[[u8; 4]]) -> Self::I {
        let x = &x[..8];
        load!(_mm_loadu_si128, x)
    }
    #[inline(always)]
    fn store_i32(self, v: Self::I, out: &mut [i32]) {
        let out = &mut out[..8];
        store!(_mm_storeu_si128, out, v)
    }
    #[inline(always)]
    fn to_f32(self, v: Self::I) -> Self::F {
        both!(_mm_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn round(self, v: Self::F) -> Self::I {
        both!(_mm_cvtps_epi32(v))
    }
    #[inline(always)]
    fn shl(self, v: Self::I, bits: u32) -> Self::I {
        let bits = intrinsics!([_mm_cvtsi32_si128(bits as i32); 2]);
        both!(_mm_sll_epi32(v, bits))
    }
    #[inline(always)]
    fn as_f32(self, v: Self::I) -> Self::F {
        both!(_mm_castsi128_ps(v))
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm_add_epi32(a, b))
    }
    #[inline(always)]
    fn store_narrow(self, v: Self::I, out: &mut [u8]) {
        let out = &mut out[..8];
        let low = self.and(v, self.splat_i32(0xff));
        intrinsics!({
            let words = _mm_packs_epi32(low[0], low[1]);
            _mm_storel_epi64(out.as_mut_ptr().cast(), _mm_packus_epi16(words, words))
        })
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8]) -> Self::B {
        let x = &x[..32];
        load!(_mm_loadu_si128, x)
    }
    #[inline(always)]
    fn splat_quad(self, x: [u8; 4]) -> Self::B {
        self.splat_i32(i32::from_ne_bytes(x))
    }
    #[inline(always)]
    fn dot(self, acc: Self::I, weights: Self::B, activations: Self::B) -> Self::I {
        both!(dot(acc, weights, activations))
    }
    #[inline(always)]
    fn dot_flipped(self, acc: Self::I, weights: Self::B, activations: Self::B) -> Self::I {
        self.dot(acc, weights, activations)
    }
    #[inline(always)]
    fn flip(self, x: Self::B) -> Self::B {
        self.xor(x, self.splat_byte(0x80))
    }
    #[inline(always)]
    fn interleave(self, x: [&[u8]; 4]) -> Self::B {
        let [a, b, c, d] = [&x[0][..8], &x[1][..8], &x[2][..8], &x[3][..8]];
        intrinsics!({
            let ab = _mm_unpacklo_epi8(_mm_loadl_epi64(a.as_ptr().cast()), _mm_loadl_epi64(b.as_ptr().cast()));
            let cd = _mm_unpacklo_epi8(_mm_loadl_epi64(c.as_ptr().cast()), _mm_loadl_epi64(d.as_ptr().cast()));
            [_mm_unpacklo_epi16(ab, cd), _mm_unpackhi_epi16(ab, cd)]
        })
    }
    #[inline(always)]
    fn store_bytes(self, v: Self::B, out: &mut [u8]) {
        let out = &mut out[..32];
        store!(_mm_storeu_si128, out, v)
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> Self::I {
        let x = &x[..8];
        intrinsics!({
            let zero = _mm_setzero_si128();
            let words = _mm_unpacklo_epi8(_mm_loadl_epi64(x.as_ptr().cast()), zero);
            [_mm_unpacklo_epi16(words, zero), _mm_unpackhi_epi16(words, zero)]
        })
    }
    #[inline(always)]
    fn prefetch<T>(self, x: &T, offset: usize) {
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).wrapping_byte_add(offset).cast()))
    }
}

impl Matrix for Sse2 {}

impl SplatHalf for Sse2 {
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> Self::F {
        intrinsics!([widen(_mm_set1_epi32(bits.into())); 2])
    }
}

impl Blocks for Sse2 {
    #[inline(always)]
    fn splat_pair(self, low: f32, high: f32) -> Self::F {
        intrinsics!([_mm_set1_ps(low), _mm_set1_ps(high)])
    }
    #[inline(always)]
    fn splat_byte(self, x: u8) -> Self::B {
        intrinsics!([_mm_set1_epi8(x as i8); 2])
    }
    #[inline(always)]
    fn and(self, a: Self::B, b: Self::B) -> Self::B {
        both!(_mm_and_si128(a, b))
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        both!(_mm_or_si128(a, b))
    }
    #[inline(always)]
    fn xor(self, a: Self::B, b: Self::B) -> Self::B {
        both!(_mm_xor_si128(a, b))
    }
    #[inline(always)]
    fn sub_bytes(self, a: Self::B, b: Self::B) -> Self::B {
        both!(_mm_sub_epi8(a, b))
    }
    #[inline(always)]
    fn shr_bytes(self, v: Self::B, bits: u32) -> Self::B {
        let count = intrinsics!([_mm_cvtsi32_si128(bits as i32); 2]);
        self.and(both!(_mm_srl_epi16(v, count)), self.splat_byte(0xff >> bits))
    }
    #[inline(always)]
    fn shl_bytes(self, v: Self::B, bits: u32) -> Self::B {
        let count = intrinsics!([_mm_cvtsi32_si128(bits as i32); 2]);
        self.and(both!(_mm_sll_epi16(v, count)), self.splat_byte(0xff << bits))
    }
    #[inline(always)]
    fn nibbles(self, x: &[u8; 16]) -> Self::B {
        let both = intrinsics!({
            let x = _mm_loadu_si128(x.as_ptr().cast());
            [x, _mm_srli_epi16::<4>(x)]
        });
        self.and(both, self.splat_byte(15))
    }
    #[inline(always)]
    fn spread_bits(self, bits: u32, value: u8) -> Self::B {
        // Byte i of the vector gets byte i / 8 of the bits, keeps bit i % 8 and is compared with it.
        let (each, mask) = intrinsics!({
            let bytes = _mm_cvtsi32_si128(bits as i32);
            let twice = _mm_unpacklo_epi8(bytes, bytes);
            let fourfold = _mm_unpacklo_epi16(twice, twice);
            let each = [_mm_unpacklo_epi32(fourfold, fourfold), _mm_unpackhi_epi32(fourfold, fourfold)];
            (each, [_mm_set1_epi64x(0x8040_2010_0804_0201_u64 as i64); 2])
        });
        let kept = self.and(each, mask);
        self.and(both!(_mm_cmpeq_epi8(kept, mask)), self.splat_byte(value))
    }
    #[inline(always)]
    fn dot_signed(self, acc: Self::I, weights: Self::B, activations: Self::B, _: Self::I) -> Self::I {
        self.dot(acc, weights, activations)
    }
    #[inline(always)]
    fn transpose(self, r: [Self::B; 8]) -> [Self::B; 8] {
        let four = |first: usize, half: usize| {
            intrinsics!(columns([r[first][half], r[first + 1][half], r[first + 2][half], r[first + 3][half]]))
        };
        let halves = [[four(0, 0), four(4, 0)], [four(0, 1), four(4, 1)]];
        std::array::from_fn(|i| [halves[i / 4][0][i % 4], halves[i / 4][1][i % 4]])
    }
}
