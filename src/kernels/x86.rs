//! x86: AVX2 with FMA, AVX-VNNI, and AVX-512 with VNNI; and SSE2, for those that have none of them.

mod sse2;

pub(crate) use sse2::Sse2;

use super::simd::{Blocks, Matrix, Simd, SplatHalf};
use std::arch::x86_64::*;

/// Haswell and Zen, and later.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// AVX2 with the VEX-coded byte dot product: client CPUs since Alder Lake.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni(());

/// 512-bit vectors with VNNI: servers since Cascade Lake, Zen 4.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// The same CPUs, working on 256 bits: for what comes in units of 32 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Half(());

tokens!(Avx2 AvxVnni Avx512 Avx512Half);

impl Matrix for Avx2 {}
impl Matrix for AvxVnni {}
impl Matrix for Avx512 {}
impl Matrix for Avx512Half {}

/// What the three 256-bit types do each in their own way. Methods, because closures would be compiled without the instruction
/// sets, and called.
trait Dots {
    /// [`Simd::FLIP`].
    const FLIP: u8;
    /// [`Simd::dot`].
    fn dot(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i;
    /// [`Simd::dot_flipped`].
    fn dot_flipped(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i;
    /// [`Blocks::dot_signed`].
    fn dot_signed(self, acc: __m256i, weights: __m256i, activations: __m256i, nquads: __m256i) -> __m256i;
}

impl Dots for Avx2 {
    const FLIP: u8 = 0;

    /// `vpmaddubsw` cannot saturate here: 2 × 127 × 127 < 2¹⁵.
    #[inline(always)]
    fn dot(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        intrinsics!({
            let pairs = _mm256_maddubs_epi16(weights, activations);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    /// |w| × (a with w's sign); 2 × 128 × 127 < 2¹⁵ as well.
    #[inline(always)]
    fn dot_flipped(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        let (size, signed) = intrinsics!((_mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights)));
        Dots::dot(self, acc, size, signed)
    }
    #[inline(always)]
    fn dot_signed(self, acc: __m256i, weights: __m256i, activations: __m256i, _: __m256i) -> __m256i {
        Dots::dot_flipped(self, acc, weights, activations)
    }
}

/// With VNNI, signed weights become unsigned by adding 128, and 128 × the activations' sum is taken off beforehand.
macro_rules! vnni {
    ($name:ident, $dot:ident) => {
        impl Dots for $name {
            const FLIP: u8 = 0x80;

            #[inline(always)]
            fn dot(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
                intrinsics!($dot(acc, weights, activations))
            }
            #[inline(always)]
            fn dot_flipped(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
                intrinsics!($dot(acc, weights, activations))
            }
            #[inline(always)]
            fn dot_signed(self, acc: __m256i, weights: __m256i, activations: __m256i, nquads: __m256i) -> __m256i {
                intrinsics!({
                    let acc = _mm256_add_epi32(acc, _mm256_slli_epi32::<7>(nquads));
                    $dot(acc, _mm256_xor_si256(weights, _mm256_set1_epi8(-128)), activations)
                })
            }
        }
    };
}

vnni!(AvxVnni, _mm256_dpbusd_avx_epi32);
vnni!(Avx512Half, _mm256_dpbusd_epi32);

/// The operations that the three 256-bit types share.
macro_rules! simd_256 {
    ($($name:ident)*) => {$(
        impl Simd for $name {
            const LANES: usize = 8;
            const FLIP: u8 = <Self as Dots>::FLIP;
            type F = __m256;
            type I = __m256i;
            type B = __m256i;

            #[inline(always)]
            fn splat(self, x: f32) -> __m256 {
                intrinsics!(_mm256_set1_ps(x))
            }
            #[inline(always)]
            fn load(self, x: &[f32]) -> __m256 {
                let x = &x[..8];
                intrinsics!(_mm256_loadu_ps(x.as_ptr()))
            }
            #[inline(always)]
            fn store(self, v: __m256, out: &mut [f32]) {
                let out = &mut out[..8];
                intrinsics!(_mm256_storeu_ps(out.as_mut_ptr(), v))
            }
            #[inline(always)]
            fn add(self, a: __m256, b: __m256) -> __m256 {
                intrinsics!(_mm256_add_ps(a, b))
            }
            #[inline(always)]
            fn sub(self, a: __m256, b: __m256) -> __m256 {
                intrinsics!(_mm256_sub_ps(a, b))
            }
            #[inline(always)]
            fn mul(self, a: __m256, b: __m256) -> __m256 {
                intrinsics!(_mm256_mul_ps(a, b))
            }
            #[inline(always)]
            fn div(self, a: __m256, b: __m256) -> __m256 {
                intrinsics!(_mm256_div_ps(a, b))
            }
            #[inline(always)]
            fn recip(self, x: __m256) -> __m256 {
                // One step of Newton's doubles the estimate's 12 bits.
                intrinsics!({
                    let y = _mm256_rcp_ps(x);
                    _mm256_mul_ps(y, _mm256_fnmadd_ps(x, y, _mm256_set1_ps(2.0)))
                })
            }
            #[inline(always)]
            fn max(self, a: __m256, b: __m256) -> __m256 {
                intrinsics!(_mm256_max_ps(a, b))
            }
            #[inline(always)]
            fn min(self, a: __m256, b: __m256) -> __m256 {
                intrinsics!(_mm256_min_ps(a, b))
            }
            #[inline(always)]
            fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
                intrinsics!(_mm256_fmadd_ps(a, b, c))
            }
            #[inline(always)]
            fn sum(self, v: __m256) -> f32 {
                intrinsics!({
                    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
                    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
                })
            }
            #[inline(always)]
            fn max_lane(self, v: __m256) -> f32 {
                intrinsics!({
                    let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                    let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
                    _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
                })
            }
            #[inline(always)]
            fn load_f16(self, x: &[[u8; 2]]) -> __m256 {
                let x = &x[..8];
                intrinsics!(_mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())))
            }
            #[inline(always)]
            fn half(self, bits: u16) -> f32 {
                intrinsics!(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into()))))
            }
            #[inline(always)]
            fn load_bf16(self, x: &[[u8; 2]]) -> __m256 {
                let x = &x[..8];
                intrinsics!({
                    let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                })
            }
            #[inline(always)]
            fn splat_i32(self, x: i32) -> __m256i {
                intrinsics!(_mm256_set1_epi32(x))
            }
            #[inline(always)]
            fn load_i32(self, x: &[i32]) -> __m256i {
                let x = &x[..8];
                intrinsics!(_mm256_loadu_si256(x.as_ptr().cast()))
            }
            #[inline(always)]
            fn load_quads(self, x: &[[u8; 4]]) -> __m256i {
                let x = &x[..8];
                intrinsics!(_mm256_loadu_si256(x.as_ptr().cast()))
            }
            #[inline(always)]
            fn store_i32(self, v: __m256i, out: &mut [i32]) {
                let out = &mut out[..8];
                intrinsics!(_mm256_storeu_si256(out.as_mut_ptr().cast(), v))
            }
            #[inline(always)]
            fn to_f32(self, v: __m256i) -> __m256 {
                intrinsics!(_mm256_cvtepi32_ps(v))
            }
            #[inline(always)]
            fn round(self, v: __m256) -> __m256i {
                intrinsics!(_mm256_cvtps_epi32(v))
            }
            #[inline(always)]
            fn shl(self, v: __m256i, bits: u32) -> __m256i {
                intrinsics!(_mm256_sll_epi32(v, _mm_cvtsi32_si128(bits as i32)))
            }
            #[inline(always)]
            fn as_f32(self, v: __m256i) -> __m256 {
                intrinsics!(_mm256_castsi256_ps(v))
            }
            #[inline(always)]
            fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
                intrinsics!(_mm256_add_epi32(a, b))
            }
            #[inline(always)]
            fn store_narrow(self, v: __m256i, out: &mut [u8]) {
                let out = &mut out[..8];
                intrinsics!({
                    // The low byte of each number to the front of its half, then both halves' four bytes together.
                    let low = _mm256_setr_epi8(
                        0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, //
                        0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                    );
                    let v = _mm256_shuffle_epi8(v, low);
                    let both = _mm_unpacklo_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
                    _mm_storel_epi64(out.as_mut_ptr().cast(), both)
                })
            }
            #[inline(always)]
            fn load_bytes(self, x: &[u8]) -> __m256i {
                let x = &x[..32];
                intrinsics!(_mm256_loadu_si256(x.as_ptr().cast()))
            }
            #[inline(always)]
            fn splat_quad(self, x: [u8; 4]) -> __m256i {
                intrinsics!(_mm256_set1_epi32(i32::from_ne_bytes(x)))
            }
            #[inline(always)]
            fn dot(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
                Dots::dot(self, acc, weights, activations)
            }
            #[inline(always)]
            fn dot_flipped(self, acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
                Dots::dot_flipped(self, acc, weights, activations)
            }
            #[inline(always)]
            fn flip(self, x: __m256i) -> __m256i {
                if <Self as Dots>::FLIP == 0 { intrinsics!(_mm256_xor_si256(x, _mm256_set1_epi8(-128))) } else { x }
            }
            #[inline(always)]
            fn store_bytes(self, v: __m256i, out: &mut [u8]) {
                let out = &mut out[..32];
                intrinsics!(_mm256_storeu_si256(out.as_mut_ptr().cast(), v))
            }
            #[inline(always)]
            fn interleave(self, x: [&[u8]; 4]) -> __m256i {
                let [a, b, c, d] = [&x[0][..8], &x[1][..8], &x[2][..8], &x[3][..8]];
                intrinsics!({
                    let ab = _mm_unpacklo_epi8(_mm_loadl_epi64(a.as_ptr().cast()), _mm_loadl_epi64(b.as_ptr().cast()));
                    let cd = _mm_unpacklo_epi8(_mm_loadl_epi64(c.as_ptr().cast()), _mm_loadl_epi64(d.as_ptr().cast()));
                    _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd))
                })
            }
            #[inline(always)]
            fn load_u8(self, x: &[u8]) -> __m256i {
                let x = &x[..8];
                intrinsics!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast())))
            }
            #[inline(always)]
            fn prefetch<T>(self, x: &T, offset: usize) {
                intrinsics!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).wrapping_byte_add(offset).cast()))
            }
        }

        impl SplatHalf for $name {
            #[inline(always)]
            fn splat_f16(self, bits: u16) -> __m256 {
                intrinsics!(_mm256_cvtph_ps(_mm_set1_epi16(bits as i16)))
            }
        }

        impl Blocks for $name {
            #[inline(always)]
            fn splat_pair(self, low: f32, high: f32) -> __m256 {
                intrinsics!(_mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low)))
            }
            #[inline(always)]
            fn splat_byte(self, x: u8) -> __m256i {
                intrinsics!(_mm256_set1_epi8(x as i8))
            }
            #[inline(always)]
            fn and(self, a: __m256i, b: __m256i) -> __m256i {
                intrinsics!(_mm256_and_si256(a, b))
            }
            #[inline(always)]
            fn or(self, a: __m256i, b: __m256i) -> __m256i {
                intrinsics!(_mm256_or_si256(a, b))
            }
            #[inline(always)]
            fn xor(self, a: __m256i, b: __m256i) -> __m256i {
                intrinsics!(_mm256_xor_si256(a, b))
            }
            #[inline(always)]
            fn sub_bytes(self, a: __m256i, b: __m256i) -> __m256i {
                intrinsics!(_mm256_sub_epi8(a, b))
            }
            #[inline(always)]
            fn shr_bytes(self, v: __m256i, bits: u32) -> __m256i {
                intrinsics!({
                    let shifted = _mm256_srl_epi16(v, _mm_cvtsi32_si128(bits as i32));
                    _mm256_and_si256(shifted, _mm256_set1_epi8((0xff_u8 >> bits) as i8))
                })
            }
            #[inline(always)]
            fn shl_bytes(self, v: __m256i, bits: u32) -> __m256i {
                intrinsics!({
                    let shifted = _mm256_sll_epi16(v, _mm_cvtsi32_si128(bits as i32));
                    _mm256_and_si256(shifted, _mm256_set1_epi8((0xff_u8 << bits) as i8))
                })
            }
            #[inline(always)]
            fn nibbles(self, x: &[u8; 16]) -> __m256i {
                intrinsics!({
                    let x = _mm_loadu_si128(x.as_ptr().cast());
                    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(x), x);
                    _mm256_and_si256(both, _mm256_set1_epi8(15))
                })
            }
            #[inline(always)]
            fn spread_bits(self, bits: u32, value: u8) -> __m256i {
                intrinsics!({
                    // Byte i of the vector gets byte i / 8 of the bits, keeps bit i % 8 and is compared with it.
                    let each =
                        _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
                    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), each);
                    let mask = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), mask);
                    _mm256_and_si256(set, _mm256_set1_epi8(value as i8))
                })
            }
            #[inline(always)]
            fn dot_signed(self, acc: __m256i, weights: __m256i, activations: __m256i, nquads: __m256i) -> __m256i {
                Dots::dot_signed(self, acc, weights, activations, nquads)
            }
            #[inline(always)]
            fn transpose(self, r: [__m256i; 8]) -> [__m256i; 8] {
                intrinsics!({
                    let lo = |a, b| _mm256_unpacklo_epi32(a, b);
                    let hi = |a, b| _mm256_unpackhi_epi32(a, b);
                    let pairs = [
                        (lo(r[0], r[1]), lo(r[2], r[3]), lo(r[4], r[5]), lo(r[6], r[7])),
                        (hi(r[0], r[1]), hi(r[2], r[3]), hi(r[4], r[5]), hi(r[6], r[7])),
                    ];
                    let lo = |a, b| _mm256_unpacklo_epi64(a, b);
                    let hi = |a, b| _mm256_unpackhi_epi64(a, b);
                    let [(a, b, c, d), (e, f, g, h)] = pairs;
                    let left = [lo(a, b), hi(a, b), lo(e, f), hi(e, f)];
                    let right = [lo(c, d), hi(c, d), lo(g, h), hi(g, h)];
                    let low = |i: usize| _mm256_permute2x128_si256::<0x20>(left[i], right[i]);
                    let high = |i: usize| _mm256_permute2x128_si256::<0x31>(left[i], right[i]);
                    [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)]
                })
            }
        }
    )*};
}

simd_256!(Avx2 AvxVnni Avx512Half);

/// A mask of the first `n` of 16 lanes.
#[inline(always)]
fn first_lanes(n: usize) -> u16 {
    ((1_u32 << n.min(16)) - 1) as u16
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const FLIP: u8 = 0x80;
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        intrinsics!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        let x = &x[..16];
        intrinsics!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32]) {
        let out = &mut out[..16];
        intrinsics!(_mm512_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn recip(self, x: __m512) -> __m512 {
        // One step of Newton's doubles the estimate's 14 bits.
        intrinsics!({
            let y = _mm512_rcp14_ps(x);
            _mm512_mul_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(2.0)))
        })
    }
    #[inline(always)]
    fn store_first(self, v: __m512, out: &mut [f32]) {
        let mask = first_lanes(out.len());
        intrinsics!(_mm512_mask_storeu_ps(out.as_mut_ptr(), mask, v))
    }
    #[inline(always)]
    fn store_first_narrow(self, v: __m512i, out: &mut [u8]) {
        let mask = first_lanes(out.len());
        intrinsics!(_mm_mask_storeu_epi8(out.as_mut_ptr().cast(), mask, _mm512_cvtepi32_epi8(v)))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsics!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        intrinsics!(_mm512_reduce_add_ps(v))
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        intrinsics!(_mm512_reduce_max_ps(v))
    }
    #[inline(always)]
    fn load_f16(self, x: &[[u8; 2]]) -> __m512 {
        let x = &x[..16];
        intrinsics!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        intrinsics!(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into()))))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[[u8; 2]]) -> __m512 {
        let x = &x[..16];
        intrinsics!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        intrinsics!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> __m512i {
        let x = &x[..16];
        intrinsics!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_quads(self, x: &[[u8; 4]]) -> __m512i {
        let x = &x[..16];
        intrinsics!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_i32(self, v: __m512i, out: &mut [i32]) {
        let out = &mut out[..16];
        intrinsics!(_mm512_storeu_si512(out.as_mut_ptr().cast(), v))
    }
    #[inline(always)]
    fn to_f32(self, v: __m512i) -> __m512 {
        intrinsics!(_mm512_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn round(self, v: __m512) -> __m512i {
        intrinsics!(_mm512_cvtps_epi32(v))
    }
    #[inline(always)]
    fn shl(self, v: __m512i, bits: u32) -> __m512i {
        intrinsics!(_mm512_sll_epi32(v, _mm_cvtsi32_si128(bits as i32)))
    }
    #[inline(always)]
    fn as_f32(self, v: __m512i) -> __m512 {
        intrinsics!(_mm512_castsi512_ps(v))
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn store_narrow(self, v: __m512i, out: &mut [u8]) {
        let out = &mut out[..16];
        intrinsics!(_mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(v)))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8]) -> __m512i {
        let x = &x[..64];
        intrinsics!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn splat_quad(self, x: [u8; 4]) -> __m512i {
        intrinsics!(_mm512_set1_epi32(i32::from_ne_bytes(x)))
    }
    #[inline(always)]
    fn dot(self, acc: __m512i, weights: __m512i, activations: __m512i) -> __m512i {
        intrinsics!(_mm512_dpbusd_epi32(acc, weights, activations))
    }
    #[inline(always)]
    fn dot_flipped(self, acc: __m512i, weights: __m512i, activations: __m512i) -> __m512i {
        self.dot(acc, weights, activations)
    }
    #[inline(always)]
    fn flip(self, x: __m512i) -> __m512i {
        x
    }
    #[inline(always)]
    fn interleave(self, x: [&[u8]; 4]) -> __m512i {
        let [a, b, c, d] = [&x[0][..16], &x[1][..16], &x[2][..16], &x[3][..16]];
        intrinsics!({
            let [a, b] = [_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast())];
            let [c, d] = [_mm_loadu_si128(c.as_ptr().cast()), _mm_loadu_si128(d.as_ptr().cast())];
            // a0 b0 a1 b1 … as one vector of 32 bytes, and so on.
            let ab = _mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b));
            let cd = _mm256_set_m128i(_mm_unpackhi_epi8(c, d), _mm_unpacklo_epi8(c, d));
            let low = _mm512_castsi256_si512(_mm256_unpacklo_epi16(ab, cd));
            let both = _mm512_inserti64x4::<1>(low, _mm256_unpackhi_epi16(ab, cd));
            // Halves of 16 bytes lie in the order 0, 2, 1, 3.
            _mm512_shuffle_i64x2::<0b11_01_10_00>(both, both)
        })
    }
    #[inline(always)]
    fn store_bytes(self, v: __m512i, out: &mut [u8]) {
        let out = &mut out[..64];
        intrinsics!(_mm512_storeu_si512(out.as_mut_ptr().cast(), v))
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> __m512i {
        let x = &x[..16];
        intrinsics!(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn prefetch<T>(self, x: &T, offset: usize) {
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).wrapping_byte_add(offset).cast()))
    }
}
