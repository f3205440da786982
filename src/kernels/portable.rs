//! The plain implementation, for CPUs that have nothing better: arrays that the compiler may vectorize.

use super::simd::{Blocks, Matrix, Simd, SplatHalf};
use half::{bf16, f16};
use std::array::from_fn;

/// Runs everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    const LANES: usize = 8;
    const FLIP: u8 = 0;
    type F = [f32; 8];
    type I = [i32; 8];
    type B = [u8; 32];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> [f32; 8] {
        *x.first_chunk().expect("8 numbers")
    }
    #[inline(always)]
    fn store(self, v: [f32; 8], out: &mut [f32]) {
        *out.first_chunk_mut().expect("8 numbers") = v;
    }
    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn recip(self, x: [f32; 8]) -> [f32; 8] {
        x.map(|x| 1.0 / x)
    }
    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // Not `f32::mul_add`, which is a slow library call where the CPU has no fused instruction.
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn sum(self, v: [f32; 8]) -> f32 {
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
    #[inline(always)]
    fn max_lane(self, v: [f32; 8]) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    fn load_f16(self, x: &[[u8; 2]]) -> [f32; 8] {
        let x: &[[u8; 2]; 8] = x.first_chunk().expect("8 numbers");
        from_fn(|i| f16::from_le_bytes(x[i]).to_f32())
    }
    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        f16::from_bits(bits).to_f32()
    }
    #[inline(always)]
    fn load_bf16(self, x: &[[u8; 2]]) -> [f32; 8] {
        let x: &[[u8; 2]; 8] = x.first_chunk().expect("8 numbers");
        from_fn(|i| bf16::from_le_bytes(x[i]).to_f32())
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> [i32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> [i32; 8] {
        *x.first_chunk().expect("8 numbers")
    }
    #[inline(always)]
    fn load_quads(self, x: &[[u8; 4]]) -> [i32; 8] {
        x.first_chunk::<8>().expect("8 numbers").map(i32::from_le_bytes)
    }
    #[inline(always)]
    fn store_i32(self, v: [i32; 8], out: &mut [i32]) {
        *out.first_chunk_mut().expect("8 numbers") = v;
    }
    #[inline(always)]
    fn to_f32(self, v: [i32; 8]) -> [f32; 8] {
        v.map(|x| x as f32)
    }
    #[inline(always)]
    fn round(self, v: [f32; 8]) -> [i32; 8] {
        v.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    fn shl(self, v: [i32; 8], bits: u32) -> [i32; 8] {
        v.map(|x| x << bits)
    }
    #[inline(always)]
    fn as_f32(self, v: [i32; 8]) -> [f32; 8] {
        v.map(|x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    fn add_i32(self, a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn store_narrow(self, v: [i32; 8], out: &mut [u8]) {
        *out.first_chunk_mut().expect("8 bytes") = v.map(|x| x as u8);
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8]) -> [u8; 32] {
        *x.first_chunk().expect("32 bytes")
    }
    #[inline(always)]
    fn splat_quad(self, x: [u8; 4]) -> [u8; 32] {
        from_fn(|i| x[i % 4])
    }
    #[inline(always)]
    fn dot(self, acc: [i32; 8], weights: [u8; 32], activations: [u8; 32]) -> [i32; 8] {
        let mut acc = acc;
        for (i, acc) in acc.iter_mut().enumerate() {
            for j in 4 * i..4 * i + 4 {
                *acc += i32::from(weights[j] as i8) * i32::from(activations[j] as i8);
            }
        }
        acc
    }
    #[inline(always)]
    fn dot_flipped(self, acc: [i32; 8], weights: [u8; 32], activations: [u8; 32]) -> [i32; 8] {
        self.dot(acc, weights, activations)
    }
    #[inline(always)]
    fn flip(self, x: [u8; 32]) -> [u8; 32] {
        x.map(|x| x ^ 0x80)
    }
    #[inline(always)]
    fn store_bytes(self, v: [u8; 32], out: &mut [u8]) {
        *out.first_chunk_mut().expect("32 bytes") = v;
    }
    #[inline(always)]
    fn interleave(self, x: [&[u8]; 4]) -> [u8; 32] {
        from_fn(|i| x[i % 4][i / 4])
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> [i32; 8] {
        x.first_chunk::<8>().expect("8 bytes").map(i32::from)
    }
    #[inline(always)]
    fn prefetch<T>(self, _: &T, _: usize) {}
}

impl Matrix for Portable {}

impl SplatHalf for Portable {
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> [f32; 8] {
        [f16::from_bits(bits).to_f32(); 8]
    }
}

impl Blocks for Portable {
    #[inline(always)]
    fn splat_pair(self, low: f32, high: f32) -> [f32; 8] {
        from_fn(|i| if i < 4 { low } else { high })
    }
    #[inline(always)]
    fn splat_byte(self, x: u8) -> [u8; 32] {
        [x; 32]
    }
    #[inline(always)]
    fn and(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn or(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn xor(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn sub_bytes(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn shr_bytes(self, v: [u8; 32], bits: u32) -> [u8; 32] {
        v.map(|x| x >> bits)
    }
    #[inline(always)]
    fn shl_bytes(self, v: [u8; 32], bits: u32) -> [u8; 32] {
        v.map(|x| x << bits)
    }
    #[inline(always)]
    fn nibbles(self, x: &[u8; 16]) -> [u8; 32] {
        from_fn(|i| if i < 16 { x[i] & 15 } else { x[i - 16] >> 4 })
    }
    #[inline(always)]
    fn spread_bits(self, bits: u32, value: u8) -> [u8; 32] {
        from_fn(|i| if bits >> i & 1 == 1 { value } else { 0 })
    }
    #[inline(always)]
    fn dot_signed(self, acc: [i32; 8], weights: [u8; 32], activations: [u8; 32], _: [i32; 8]) -> [i32; 8] {
        self.dot(acc, weights, activations)
    }
    #[inline(always)]
    fn transpose(self, rows: [[u8; 32]; 8]) -> [[u8; 32]; 8] {
        from_fn(|i| from_fn(|j| rows[j / 4][4 * i + j % 4]))
    }
}
