//! Rows of weights times one token: decoding. The weights are read once, from where they are mapped; the aim is to
//! keep up with the memory.
//!
//! For each vector of 32 weights: an exact integer dot product, widened to f32 and accumulated with
//! `weight scale × activation scale`. What unsigned quants add too much comes off in integers beforehand
//! ([`Kind::Offset`]) or, for formats with mins, as `min × sum of the activations` per group.

use super::formats::{Format, Kind, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Small};
use super::simd::{Blocks, FourRows, Simd, dot_block};
use super::tile::Tile;

/// How far ahead of the weights in use the next ones are asked for, at least. The hardware's own prefetchers stop at the ends
/// of pages.
pub(super) const PREFETCH: usize = 4096;

/// For formats with blocks of 32. `rows` holds `out.len()` rows.
#[inline(always)]
pub(super) fn small<S: FourRows, F: Rows>(s: S, rows: &[u8], x: &Tile, out: &mut [f32]) {
    let blocks = x.scales.len();
    // Four rows at a time share the activations and hide each other's latencies.
    let (fours, rest) = out.as_chunks_mut::<4>();
    let mut rows = F::blocks(rows).chunks(4 * blocks);
    for (out, rows) in fours.iter_mut().zip(&mut rows) {
        let (first, second) = rows.split_at(2 * blocks);
        let ((a, b), (c, d)) = (first.split_at(blocks), second.split_at(blocks));
        *out = F::four(s, [a, b, c, d], x);
    }
    // Where there are fewer, the last one is computed again instead.
    if let (Some(last), Some(rows)) = (rest.len().checked_sub(1), rows.next()) {
        let row = |r: usize| &rows[r.min(last) * blocks..][..blocks];
        rest.copy_from_slice(&F::four(s, [row(0), row(1), row(2), row(3)], x)[..=last]);
    }
}

/// How four rows of a format are multiplied with a token.
pub(super) trait Rows: Small {
    #[inline(always)]
    fn four<S: FourRows>(s: S, rows: [&[Self::Block]; 4], x: &Tile) -> [f32; 4] {
        in_pieces::<S, Self>(s, rows, x)
    }
}

impl Rows for Q4_0 {}
impl Rows for Q4_1 {}
impl Rows for Q5_0 {}
impl Rows for Q5_1 {}

impl Rows for Q8_0 {
    #[inline(always)]
    fn four<S: FourRows>(s: S, rows: [&[Self::Block]; 4], x: &Tile) -> [f32; 4] {
        match s.bytes(rows, x.quants.as_chunks().0, &x.scales) {
            Some(sums) => sums,
            None => in_pieces::<S, Self>(s, rows, x),
        }
    }
}

#[inline(always)]
fn in_pieces<S: FourRows, F: Small>(s: S, rows: [&[F::Block]; 4], x: &Tile) -> [f32; 4] {
    let mut sums = s.zeros();
    let blocks = x.scales.len();
    let first = &rows[0][0];
    let pairs = |r: usize| rows[r].as_chunks::<2>();
    let rows = [pairs(0), pairs(1), pairs(2), pairs(3)];
    let xs = x.quants.as_chunks::<32>().0[..blocks].as_chunks::<2>();
    let nquads = x.nquads.as_chunks::<8>().0[..blocks].as_chunks::<2>();
    let (scales, xsums) = (x.scales.as_chunks::<2>(), x.by32.floats[..blocks].as_chunks::<2>());
    // Blocks in pairs: prefetching and counting once for two is enough. What follows the four rows is asked for in the order
    // in which it lies in memory, not four rows at once: the hardware then goes along, which is up to 1.6 times as fast.
    let pair = 8 * size_of::<F::Block>();
    let ahead = PREFETCH.max(blocks * pair / 2);
    for i in 0..blocks / 2 {
        for line in (0..pair).step_by(64) {
            s.prefetch(first, ahead + i * pair + line);
        }
        for j in 0..2 {
            let block = |r: usize| &rows[r].0[i][j];
            let four = [block(0), block(1), block(2), block(3)];
            sums = add_block::<S, F>(s, sums, four, &xs.0[i][j], &nquads.0[i][j], scales.0[i][j], xsums.0[i][j]);
        }
    }
    if let ([x], [nquads], [scale], [xsum]) = (xs.1, nquads.1, scales.1, xsums.1) {
        let last = |r: usize| &rows[r].1[0];
        let four = [last(0), last(1), last(2), last(3)];
        sums = add_block::<S, F>(s, sums, four, x, nquads, *scale, *xsum);
    }
    s.row_sums(sums)
}

/// A block of each row.
#[inline(always)]
fn add_block<S: FourRows, F: Small>(
    s: S,
    mut sums: S::Sums,
    blocks: [&F::Block; 4],
    x: &[u8; 32],
    nquads: &[i32; 8],
    scale: f32,
    xsum: f32,
) -> S::Sums {
    let x = s.load_bytes(x);
    let mut dots = [s.dot_block(F::KIND, F::quants(s, blocks[0], 0), x, nquads); 4];
    for r in 1..4 {
        dots[r] = s.dot_block(F::KIND, F::quants(s, blocks[r], 0), x, nquads);
    }
    sums = s.add_dots(sums, dots, blocks.map(F::scale), scale);
    if F::KIND == Kind::Mins {
        sums = s.add_halves(sums, blocks.map(F::min), xsum);
    }
    sums
}

/// For formats with blocks of 256. `rows` holds `out.len()` rows.
#[inline(always)]
pub(super) fn super_blocks<S: Blocks, F: Format>(s: S, rows: &[u8], x: &Tile, out: &mut [f32]) {
    let row_bytes = rows.len() / out.len();
    let sums = if F::GROUP == 16 { &x.by16.floats } else { &x.by32.floats };
    for (row, out) in rows.chunks_exact(row_bytes).zip(out) {
        let mut acc = [s.splat(0.0); 2];
        let mut surplus = s.splat(0.0);
        let xs = x.quants.as_chunks::<256>().0.iter().zip(x.nquads.as_chunks::<64>().0);
        let xs = xs.zip(x.scales.as_chunks::<8>().0.iter().zip(sums.chunks_exact(256 / F::GROUP)));
        for (block, ((x, nquads), (xscales, sums))) in F::blocks(row).iter().zip(xs) {
            let (mut scales, mut mins) = ([0.0; 16], [0.0; 16]);
            F::scales(s, block, &mut scales, &mut mins);
            for line in (0..size_of::<F::Block>()).step_by(64) {
                s.prefetch(block, PREFETCH + line);
            }
            for (i, scale) in scales.iter_mut().enumerate().take(256 / F::GROUP) {
                *scale *= xscales[i * F::GROUP / 32];
            }
            for i in 0..8 {
                let x = &x[32 * i..];
                let nquads = nquads[8 * i..].first_chunk().expect("64 of them");
                let scale =
                    if F::GROUP == 16 { s.splat_pair(scales[2 * i], scales[2 * i + 1]) } else { s.splat(scales[i]) };
                let dots = dot_block(s, F::KIND, F::quants(s, block, i), s.load_bytes(x), nquads);
                acc[i % 2] = s.mul_add(s.to_f32(dots), scale, acc[i % 2]);
            }
            if F::KIND == Kind::Mins {
                for (mins, sums) in mins.as_chunks::<8>().0.iter().zip(sums.as_chunks::<8>().0) {
                    surplus = s.mul_add(s.load(mins), s.load(sums), surplus);
                }
            }
        }
        *out = s.sum(s.add(s.add(acc[0], acc[1]), surplus));
    }
}

/// How float weights are read.
pub(super) trait Float {
    type Bits: Copy;
    fn row(bytes: &[u8]) -> &[Self::Bits];
    fn load<S: Simd>(s: S, x: &[Self::Bits]) -> S::F;
    fn one(x: Self::Bits) -> f32;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct BF16;
pub(super) struct I8;

impl Float for F32 {
    type Bits = [u8; 4];
    #[inline(always)]
    fn row(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[[u8; 4]]) -> S::F {
        s.as_f32(s.load_quads(x))
    }
    #[inline(always)]
    fn one(x: [u8; 4]) -> f32 {
        f32::from_le_bytes(x)
    }
}

impl Float for F16 {
    type Bits = [u8; 2];
    #[inline(always)]
    fn row(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[[u8; 2]]) -> S::F {
        s.load_f16(x)
    }
    #[inline(always)]
    fn one(x: [u8; 2]) -> f32 {
        half::f16::from_le_bytes(x).to_f32()
    }
}

impl Float for BF16 {
    type Bits = [u8; 2];
    #[inline(always)]
    fn row(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[[u8; 2]]) -> S::F {
        s.load_bf16(x)
    }
    #[inline(always)]
    fn one(x: [u8; 2]) -> f32 {
        half::bf16::from_le_bytes(x).to_f32()
    }
}

/// Detectors' matrices; no language model has such, so this one need not be fast.
impl Float for I8 {
    type Bits = [u8; 1];
    #[inline(always)]
    fn row(bytes: &[u8]) -> &[[u8; 1]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[[u8; 1]]) -> S::F {
        let mut wide = [0.0; 16];
        wide.iter_mut().zip(&x[..S::LANES]).for_each(|(wide, &x)| *wide = Self::one(x));
        s.load(&wide)
    }
    #[inline(always)]
    fn one(x: [u8; 1]) -> f32 {
        i8::from_le_bytes(x).into()
    }
}

/// For float weights and f32 activations; rows of any length.
#[inline(always)]
pub(super) fn floats<S: Simd, F: Float>(s: S, rows: &[u8], x: &Tile, out: &mut [f32]) {
    let row_bytes = rows.len() / out.len();
    let x = &x.floats[..];
    for (row, out) in rows.chunks_exact(row_bytes).zip(out) {
        let row = F::row(row);
        let mut acc = [s.splat(0.0); 4];
        let (xs, row_parts) = (x.chunks_exact(4 * S::LANES), row.chunks_exact(4 * S::LANES));
        let (x_rest, row_rest) = (xs.remainder(), row_parts.remainder());
        for (x, row) in xs.zip(row_parts) {
            for (i, acc) in acc.iter_mut().enumerate() {
                *acc = s.mul_add(F::load(s, &row[i * S::LANES..]), s.load(&x[i * S::LANES..]), *acc);
            }
        }
        let sum = s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])));
        *out = sum + row_rest.iter().zip(x_rest).map(|(&w, x)| F::one(w) * x).sum::<f32>();
    }
}
