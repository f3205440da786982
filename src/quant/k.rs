//! The K formats: blocks of 256 elements in 8 or 16 sub-blocks, each with a small integer scale of its own.
//!
//! Layouts, as byte offset and length. Element `i` is 0..256; its sub-block is `i / 16` (Q2_K, Q3_K, Q6_K) or `i / 32`
//! (Q4_K, Q5_K). Write `g = i / 32` for its group of 32 (0..8), `l = i % 32` for its place there, and `h = i / 128` for
//! its half of the block; `x >> n & m` binds as in Rust, `(x >> n) & m`.
//!
//! ```text
//! Q2_K, 84 bytes     scales 0 [u8; 16]    qs 16 [u8; 64]    d 80 f16    dmin 82 f16
//!     sc = scales[i / 16] & 15            mn = scales[i / 16] >> 4
//!     q  = qs[32·h + l] >> 2·(g % 4) & 3
//!     x  = (d · sc) · q − (dmin · mn)
//!
//! Q3_K, 110 bytes    hmask 0 [u8; 32]     qs 32 [u8; 64]    scales 96 [u8; 12]    d 108 f16
//!     sc = six bits − 32, from unpack_scales_q3
//!     q  = (qs[32·h + l] >> 2·(g % 4) & 3) + 4·(hmask[l] >> g & 1) − 4
//!     x  = (d · sc) · q
//!
//! Q4_K, 144 bytes    d 0 f16    dmin 2 f16    scales 4 [u8; 12]    qs 16 [u8; 128]
//!     sc, mn = six bits each, from unpack_scales
//!     q  = qs[32·(g / 2) + l] >> 4·(g % 2) & 15
//!     x  = (d · sc) · q − (dmin · mn)
//!
//! Q5_K, 176 bytes    d 0 f16    dmin 2 f16    scales 4 [u8; 12]    qh 16 [u8; 32]    qs 48 [u8; 128]
//!     sc, mn = as Q4_K
//!     q  = (qs[32·(g / 2) + l] >> 4·(g % 2) & 15) + 16·(qh[l] >> g & 1)
//!     x  = (d · sc) · q − (dmin · mn)
//!
//! Q6_K, 210 bytes    ql 0 [u8; 128]    qh 128 [u8; 64]    scales 192 [i8; 16]    d 208 f16
//!     sc = scales[i / 16]
//!     q  = (ql[64·h + i % 64] >> 4·(i / 64 % 2) & 15) + 16·(qh[32·h + l] >> 2·(g % 4) & 3) − 32
//!     x  = (d · sc) · q
//! ```
//!
//! So in Q4_K and Q5_K 32 consecutive bytes of `qs` hold two groups: the low nibbles are group `2p`, the high ones group
//! `2p + 1`. In Q6_K 64 consecutive bytes of `ql` hold half a block: low nibbles its elements 0..64, high ones 64..128.

use super::read_f16;

/// Elements in a block.
pub(super) const LEN: usize = 256;

pub(super) fn decode_q2_k(block: &[u8; 84], out: &mut [f32; LEN]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, dmin) = (read_f16(block, 80), read_f16(block, 82));
    for (g, out) in groups(out) {
        for (l, out) in out.iter_mut().enumerate() {
            let scale = scales[2 * g + l / 16];
            let q = qs[g / 4 * 32 + l] >> (g % 4 * 2) & 3;
            *out = (d * f32::from(scale & 15)) * f32::from(q) - (dmin * f32::from(scale >> 4));
        }
    }
}

pub(super) fn decode_q3_k(block: &[u8; 110], out: &mut [f32; LEN]) {
    let (hmask, qs) = (&block[..32], &block[32..96]);
    let scales = unpack_scales_q3(block[96..].first_chunk().expect("12 bytes"));
    let d = read_f16(block, 108);
    for (g, out) in groups(out) {
        for (l, out) in out.iter_mut().enumerate() {
            let low = qs[g / 4 * 32 + l] >> (g % 4 * 2) & 3;
            let high = hmask[l] >> g & 1;
            *out = (d * f32::from(scales[2 * g + l / 16])) * (f32::from(low | high << 2) - 4.0);
        }
    }
}

pub(super) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; LEN]) {
    let (d, dmin) = (read_f16(block, 0), read_f16(block, 2));
    let (scales, mins) = unpack_scales(block[4..].first_chunk().expect("12 bytes"));
    let qs = &block[16..];
    for (g, out) in groups(out) {
        let (scale, min) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
        for (l, out) in out.iter_mut().enumerate() {
            let q = qs[g / 2 * 32 + l] >> (g % 2 * 4) & 15;
            *out = scale * f32::from(q) - min;
        }
    }
}

pub(super) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; LEN]) {
    let (d, dmin) = (read_f16(block, 0), read_f16(block, 2));
    let (scales, mins) = unpack_scales(block[4..].first_chunk().expect("12 bytes"));
    let (qh, qs) = (&block[16..48], &block[48..]);
    for (g, out) in groups(out) {
        let (scale, min) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
        for (l, out) in out.iter_mut().enumerate() {
            let low = qs[g / 2 * 32 + l] >> (g % 2 * 4) & 15;
            let high = qh[l] >> g & 1;
            *out = scale * f32::from(low | high << 4) - min;
        }
    }
}

pub(super) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; LEN]) {
    let (ql, qh, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = read_f16(block, 208);
    for (g, out) in groups(out) {
        for (l, out) in out.iter_mut().enumerate() {
            let low = ql[g / 4 * 64 + g % 2 * 32 + l] >> (g % 4 / 2 * 4) & 15;
            let high = qh[g / 4 * 32 + l] >> (g % 4 * 2) & 3;
            *out = (d * f32::from(scales[2 * g + l / 16] as i8)) * (f32::from(low | high << 4) - 32.0);
        }
    }
}

/// The groups of 32 elements of a block, numbered.
fn groups(out: &mut [f32; LEN]) -> impl Iterator<Item = (usize, &mut [f32])> {
    out.chunks_exact_mut(32).enumerate()
}

/// Unpacks the eight 6-bit scales `sc` and minima `mn` of Q4_K and Q5_K.
///
/// ```text
/// j in 0..4:   sc[j]     = b[j] & 63                         mn[j]     = b[j + 4] & 63
///              sc[j + 4] = b[j + 8] & 15 | b[j] >> 6 << 4    mn[j + 4] = b[j + 8] >> 4 | b[j + 4] >> 6 << 4
/// ```
pub(crate) fn unpack_scales(b: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut sc, mut mn) = ([0; 8], [0; 8]);
    for j in 0..4 {
        sc[j] = b[j] & 63;
        mn[j] = b[j + 4] & 63;
        sc[j + 4] = b[j + 8] & 15 | b[j] >> 6 << 4;
        mn[j + 4] = b[j + 8] >> 4 | b[j + 4] >> 6 << 4;
    }
    (sc, mn)
}

/// The reverse of [`unpack_scales`].
pub(super) fn pack_scales(sc: &[u8; 8], mn: &[u8; 8]) -> [u8; 12] {
    let mut b = [0; 12];
    for j in 0..4 {
        b[j] = sc[j] | sc[j + 4] >> 4 << 6;
        b[j + 4] = mn[j] | mn[j + 4] >> 4 << 6;
        b[j + 8] = sc[j + 4] & 15 | mn[j + 4] << 4;
    }
    b
}

/// Unpacks the sixteen signed 6-bit scales of Q3_K.
///
/// ```text
/// j in 0..16:   sc[j] = (b[j % 8] >> 4·(j / 8) & 15 | (b[8 + j % 4] >> 2·(j / 4) & 3) << 4) − 32
/// ```
pub(crate) fn unpack_scales_q3(b: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|j| {
        let low = b[j % 8] >> (j / 8 * 4) & 15;
        let high = b[8 + j % 4] >> (j / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_scales_are_the_scales() {
        for first in 0..64 {
            let sc = std::array::from_fn(|j| (first + 9 * j as u8) % 64);
            let mn = std::array::from_fn(|j| (63 - first + 11 * j as u8) % 64);
            assert_eq!(unpack_scales(&pack_scales(&sc, &mn)), (sc, mn));
        }
    }

    /// One byte of each of the three rows of four, by hand.
    #[test]
    fn q3_scales_by_hand() {
        let mut b = [0; 12];
        (b[1], b[9]) = (0x5A, 0b11_10_01_00);
        let sc = unpack_scales_q3(&b);
        // b[1] holds the low bits of 1 and 9; b[9] the high bits of 1, 5, 9 and 13.
        assert_eq!([sc[1], sc[5], sc[9], sc[13]], [10 - 32, 16 - 32, 5 + 32 - 32, 48 - 32]);
        assert!((0..16).filter(|j| j % 4 != 1).all(|j| sc[j] == -32));
    }
}
