//! Types without scales, as blocks of one element: little-endian IEEE single, IEEE half, bfloat16, which is the upper
//! half of a single, and signed bytes. Narrowing rounds to the nearest, ties to even, and keeps a NaN a NaN.

use half::{bf16, f16};

pub(super) fn decode_f32(bytes: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*bytes);
}

pub(super) fn decode_f16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f16::from_le_bytes(*bytes).to_f32();
}

pub(super) fn decode_bf16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = bf16::from_le_bytes(*bytes).to_f32();
}

pub(super) fn encode_f32(values: &[f32; 1]) -> [u8; 4] {
    values[0].to_le_bytes()
}

pub(super) fn encode_f16(values: &[f32; 1]) -> [u8; 2] {
    f16::from_f32(values[0]).to_le_bytes()
}

pub(super) fn encode_bf16(values: &[f32; 1]) -> [u8; 2] {
    bf16::from_f32(values[0]).to_le_bytes()
}

pub(super) fn decode_i8(bytes: &[u8; 1], out: &mut [f32; 1]) {
    out[0] = i8::from_le_bytes(*bytes).into();
}

pub(super) fn encode_i8(values: &[f32; 1]) -> [u8; 1] {
    (values[0].round_ties_even() as i8).to_le_bytes()
}
