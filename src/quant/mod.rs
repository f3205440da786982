//! Block formats: how a row of weights is packed, and the plain reference that packs and unpacks it.
//!
//! A quantized row is a sequence of *blocks* that each decode on their own. All numbers are little-endian, and a
//! scale called `d`, `m` or `dmin` is an IEEE half (`f16`). With `q` the stored integer (the *code*) of an element,
//! and `sc`, `mn` the small integers that the K formats store for each sub-block:
//!
//! | type | bits per weight | elements | bytes | sub-blocks | an element is | code | written here |
//! |------|-----------------|----------|-------|------------|---------------|------|--------------|
//! | F32  | 32     | 1   | 4   |         | itself                         |          | yes |
//! | F16  | 16     | 1   | 2   |         | itself                         |          | yes |
//! | BF16 | 16     | 1   | 2   |         | the upper half of an f32       |          | yes |
//! | I8   | 8      | 1   | 1   |         | itself                         | −128..=127 | yes |
//! | Q4_0 | 4.5    | 32  | 18  |         | `d · (q − 8)`                  | 0..=15   | yes |
//! | Q4_1 | 5      | 32  | 20  |         | `d · q + m`                    | 0..=15   | yes |
//! | Q5_0 | 5.5    | 32  | 22  |         | `d · (q − 16)`                 | 0..=31   | yes |
//! | Q5_1 | 6      | 32  | 24  |         | `d · q + m`                    | 0..=31   | yes |
//! | Q8_0 | 8.5    | 32  | 34  |         | `d · q`                        | −127..=127 | yes |
//! | Q2_K | 2.625  | 256 | 84  | 16 × 16 | `(d · sc) · q − (dmin · mn)`   | 0..=3    |     |
//! | Q3_K | 3.4375 | 256 | 110 | 16 × 16 | `(d · sc) · q`                 | −4..=3   |     |
//! | Q4_K | 4.5    | 256 | 144 | 8 × 32  | `(d · sc) · q − (dmin · mn)`   | 0..=15   | yes |
//! | Q5_K | 5.5    | 256 | 176 | 8 × 32  | `(d · sc) · q − (dmin · mn)`   | 0..=31   |     |
//! | Q6_K | 6.5625 | 256 | 210 | 16 × 16 | `(d · sc) · q`                 | −32..=31 | yes |
//!
//! The formats are ggml's; the layouts are written out byte by byte in [`legacy`] and [`k`]. Decoding does the f32
//! operations in the order of the parentheses, without fused multiply-adds, and so equals the Python package `gguf`
//! (`quants.py`) bit for bit; so do the bytes written for the types of 1 and 32 elements. `quants.py` does not write K
//! formats: [`fit`] does it here, by a search for the scales.
//!
//! This module says what the formats mean; the kernels multiply with them fast, and are tested against it.

mod dtype;
pub mod fit;
mod floats;
pub mod k;
pub mod legacy;
mod mix;

pub use dtype::DType;
pub use mix::Mix;

use crate::error::{Error, Result};

/// Decodes whole blocks: `bytes` holds `out.len() / dtype.block_len()` of them.
///
/// # Panics
/// If `out` is not a whole number of blocks, or `bytes` is not as long as those blocks. Lengths that come from a file
/// are checked when it is opened.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        dtype.row_bytes(out.len()),
        Some(bytes.len()),
        "{} elements of {dtype} do not take {} bytes",
        out.len(),
        bytes.len(),
    );
    match dtype {
        DType::F32 => decode(bytes, out, floats::decode_f32),
        DType::F16 => decode(bytes, out, floats::decode_f16),
        DType::BF16 => decode(bytes, out, floats::decode_bf16),
        DType::Q4_0 => decode(bytes, out, legacy::decode_q4_0),
        DType::Q4_1 => decode(bytes, out, legacy::decode_q4_1),
        DType::Q5_0 => decode(bytes, out, legacy::decode_q5_0),
        DType::Q5_1 => decode(bytes, out, legacy::decode_q5_1),
        DType::Q8_0 => decode(bytes, out, legacy::decode_q8_0),
        DType::Q2K => decode(bytes, out, k::decode_q2_k),
        DType::Q3K => decode(bytes, out, k::decode_q3_k),
        DType::Q4K => decode(bytes, out, k::decode_q4_k),
        DType::Q5K => decode(bytes, out, k::decode_q5_k),
        DType::Q6K => decode(bytes, out, k::decode_q6_k),
        DType::I8 => decode(bytes, out, floats::decode_i8),
    }
}

/// Encodes whole blocks.
///
/// The float types take any value and round to the nearest, ties to even (F16 turns what is beyond 65504 into an
/// infinity, I8 saturates). The block types take what their half-precision scales can hold: finite values of at most 65504 in
/// magnitude, and what they write always decodes to finite values.
///
/// # Errors
/// `Unsupported` for Q2_K, Q3_K and Q5_K, which are only read. `Input` if `values` is not a whole number of blocks, or
/// a block type is given a NaN, an infinity, or a value beyond ±65504.
///
/// ```
/// use pupil::quant::{self, DType};
///
/// let weights: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
/// let bytes = quant::quantize(DType::Q8_0, &weights)?;
/// assert_eq!(bytes.len(), 68); // two blocks of 34 bytes
///
/// let mut back = [0.0; 64];
/// quant::dequantize(DType::Q8_0, &bytes, &mut back);
/// assert!(weights.iter().zip(back).all(|(x, y)| (x - y).abs() < 0.5 / 127.0 + 0.0005));
/// # Ok::<(), pupil::Error>(())
/// ```
pub fn quantize(dtype: DType, values: &[f32]) -> Result<Vec<u8>> {
    if !values.len().is_multiple_of(dtype.block_len()) {
        return Err(Error::input(format!(
            "{dtype} stores blocks of {} elements: {} elements are not a whole number of them",
            dtype.block_len(),
            values.len(),
        )));
    }
    if dtype.block_len() > 1 {
        let limit = half::f16::MAX.to_f32();
        if let Some(i) = values.iter().position(|v| v.is_nan() || v.abs() > limit) {
            return Err(Error::input(format!(
                "element {i} is {}: {dtype} stores finite values of at most {limit} in magnitude",
                values[i],
            )));
        }
    }
    Ok(match dtype {
        DType::F32 => encode(values, floats::encode_f32),
        DType::F16 => encode(values, floats::encode_f16),
        DType::BF16 => encode(values, floats::encode_bf16),
        DType::Q4_0 => encode(values, legacy::encode_q4_0),
        DType::Q4_1 => encode(values, legacy::encode_q4_1),
        DType::Q5_0 => encode(values, legacy::encode_q5_0),
        DType::Q5_1 => encode(values, legacy::encode_q5_1),
        DType::Q8_0 => encode(values, legacy::encode_q8_0),
        DType::Q4K => encode(values, fit::encode_q4_k),
        DType::Q6K => encode(values, fit::encode_q6_k),
        DType::I8 => encode(values, floats::encode_i8),
        DType::Q2K | DType::Q3K | DType::Q5K => {
            return Err(Error::unsupported(format!("{dtype} is only read; write q4_k or q6_k instead")));
        }
    })
}

/// Runs `block` over every block of `bytes` and its place in `out`.
fn decode<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (bytes, rest) = bytes.as_chunks();
    let (out, tail) = out.as_chunks_mut();
    assert!(bytes.len() == out.len() && rest.is_empty() && tail.is_empty());
    for (bytes, out) in bytes.iter().zip(out) {
        block(bytes, out);
    }
}

/// Runs `block` over every block of `values` and strings the results together.
fn encode<const BYTES: usize, const LEN: usize>(values: &[f32], block: impl Fn(&[f32; LEN]) -> [u8; BYTES]) -> Vec<u8> {
    let (values, tail) = values.as_chunks();
    assert!(tail.is_empty());
    let mut bytes = Vec::with_capacity(values.len() * BYTES);
    for values in values {
        bytes.extend_from_slice(&block(values));
    }
    bytes
}

/// The half-precision number at byte `at` of a block, widened (which is exact).
fn read_f16(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Rounds `value` to half precision, puts it at byte `at` of a block, and returns what a reader will see there.
fn write_f16(block: &mut [u8], at: usize, value: f32) -> f32 {
    let value = half::f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
    value.to_f32()
}

/// The value of the largest magnitude, with its sign; the first of several.
fn widest(x: &[f32]) -> f32 {
    x.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a }).unwrap_or(0.0)
}

/// `1 / d`, or 0 where that is not finite: then `d` is 0 as a half, and the codes do not matter.
fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}
