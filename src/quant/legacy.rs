//! The formats with blocks of 32 elements: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! Layouts, as byte offset and length. Element `i` is 0..32, and `j` is 0..16.
//!
//! ```text
//! Q4_0, 18 bytes    d 0 f16     qs 2 [u8; 16]                                    d · (q − 8)
//! Q4_1, 20 bytes    d 0 f16     m 2 f16     qs 4 [u8; 16]                        d · q + m
//! Q5_0, 22 bytes    d 0 f16     qh 2 u32    qs 6 [u8; 16]                        d · (q − 16)
//! Q5_1, 24 bytes    d 0 f16     m 2 f16     qh 4 u32    qs 8 [u8; 16]            d · q + m
//! Q8_0, 34 bytes    d 0 f16     qs 2 [i8; 32]                                    d · q
//! ```
//!
//! - Four-bit parts: the low nibble of `qs[j]` belongs to element `j`, the high nibble to element `j + 16`.
//! - Fifth bits: bit `i` of the little-endian word `qh` is bit 4 of the code of element `i`.
//! - Q8_0: `qs[i]` is the signed code of element `i`.
//!
//! Encoding follows ggml's reference: the symmetric types map the value of largest magnitude to the most negative code
//! (`d = max / −8` or `max / −16`, so `d` may be negative and the opposite extreme is clipped to 7 or 15), the others
//! map the range of the block to the range of the codes. Codes are chosen with `d` before it is rounded to a half.
//! With `h(v) = max(2⁻¹¹·|v|, 2⁻²⁵)`, the most that rounding `v` to a half may change it, an element is off by at most
//!
//! ```text
//! Q8_0    d/2 + 127·h(d)               d = max|x| / 127
//! Q4_0    d + 8·h(d)                   d = max|x| / 8, and d/2 but for the clipped extreme
//! Q5_0    d + 16·h(d)                  d = max|x| / 16, likewise
//! Q4_1    d/2 + 15·h(d) + h(min)       d = (max − min) / 15
//! Q5_1    d/2 + 31·h(d) + h(min)       d = (max − min) / 31
//! ```
//!
//! The bytes are those of `gguf`, but for one bit that nobody can name in advance: the sign of a minimum of zero, in
//! Q4_1 and Q5_1, if a block holds zeros of both signs. It decodes to the same numbers.

use super::{inverse, read_f16, widest, write_f16};

/// Elements in a block.
const LEN: usize = 32;

pub(super) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; LEN]) {
    let d = read_f16(block, 0);
    let q = nibbles(&block[2..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * (f32::from(q) - 8.0);
    }
}

pub(super) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; LEN]) {
    let (d, m) = (read_f16(block, 0), read_f16(block, 2));
    let q = nibbles(&block[4..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; LEN]) {
    let d = read_f16(block, 0);
    let q = five_bits(&block[2..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * (f32::from(q) - 16.0);
    }
}

pub(super) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; LEN]) {
    let (d, m) = (read_f16(block, 0), read_f16(block, 2));
    let q = five_bits(&block[4..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; LEN]) {
    let d = read_f16(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*q as i8) * d;
    }
}

pub(super) fn encode_q4_0(x: &[f32; LEN]) -> [u8; 18] {
    let mut block = [0; 18];
    let d = widest(x) / -8.0;
    let id = inverse(d);
    write_f16(&mut block, 0, d);
    put_nibbles(&mut block[2..], &x.map(|x| code(x * id + 8.5, 15)));
    block
}

pub(super) fn encode_q4_1(x: &[f32; LEN]) -> [u8; 20] {
    let mut block = [0; 20];
    let (min, max) = range(x);
    let d = (max - min) / 15.0;
    let id = inverse(d);
    write_f16(&mut block, 0, d);
    write_f16(&mut block, 2, min);
    put_nibbles(&mut block[4..], &x.map(|x| code((x - min) * id + 0.5, 15)));
    block
}

pub(super) fn encode_q5_0(x: &[f32; LEN]) -> [u8; 22] {
    let mut block = [0; 22];
    let d = widest(x) / -16.0;
    let id = inverse(d);
    write_f16(&mut block, 0, d);
    put_five_bits(&mut block[2..], &x.map(|x| code(x * id + 16.5, 31)));
    block
}

pub(super) fn encode_q5_1(x: &[f32; LEN]) -> [u8; 24] {
    let mut block = [0; 24];
    let (min, max) = range(x);
    let d = (max - min) / 31.0;
    let id = inverse(d);
    write_f16(&mut block, 0, d);
    write_f16(&mut block, 2, min);
    put_five_bits(&mut block[4..], &x.map(|x| code((x - min) * id + 0.5, 31)));
    block
}

pub(super) fn encode_q8_0(x: &[f32; LEN]) -> [u8; 34] {
    let mut block = [0; 34];
    let d = widest(x).abs() / 127.0;
    let id = inverse(d);
    write_f16(&mut block, 0, d);
    for (q, x) in block[2..].iter_mut().zip(x) {
        *q = (x * id).round() as i8 as u8;
    }
    block
}

/// The codes of 32 elements from 16 bytes of nibbles.
fn nibbles(qs: &[u8]) -> [u8; LEN] {
    std::array::from_fn(|i| if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 })
}

/// The reverse of [`nibbles`]; keeps the low four bits of each code.
fn put_nibbles(qs: &mut [u8], q: &[u8; LEN]) {
    for (j, byte) in qs.iter_mut().enumerate() {
        *byte = q[j] & 15 | q[j + 16] << 4;
    }
}

/// The codes of 32 elements from a word of fifth bits and 16 bytes of nibbles.
fn five_bits(bytes: &[u8]) -> [u8; LEN] {
    let low = nibbles(&bytes[4..]);
    std::array::from_fn(|i| low[i] | (bytes[i / 8] >> (i % 8) & 1) << 4)
}

/// The reverse of [`five_bits`].
fn put_five_bits(bytes: &mut [u8], q: &[u8; LEN]) {
    put_nibbles(&mut bytes[4..], q);
    for (i, q) in q.iter().enumerate() {
        bytes[i / 8] |= (q >> 4) << (i % 8);
    }
}

/// The least and the greatest value.
fn range(x: &[f32; LEN]) -> (f32, f32) {
    x.iter().fold((x[0], x[0]), |(min, max), &x| (if x < min { x } else { min }, if x > max { x } else { max }))
}

/// Truncates to a code of at most `max`; the caller has added the half that makes it rounding.
fn code(x: f32, max: u8) -> u8 {
    (x as u8).min(max)
}
