//! Panels: some rows of weights, unpacked and interleaved so that vector lanes are rows.
//!
//! A panel is made right before it is multiplied with all tokens of a batch, and then overwritten by the next: weights
//! are never held twice. Unpacking costs a fraction of a percent of the product per token.

use super::formats::{Format, Kind};
use super::gemv::{Float, PREFETCH};
use super::simd::Blocks;

/// The scratch for one panel of `R` rows; each worker thread has its own.
#[derive(Default)]
pub struct Panel {
    /// Quants, `[cols / STEP][R][STEP]` ([`Matrix::STEP`](super::simd::Matrix::STEP)): unsigned for formats with mins, else signed and XORed with the ISA's `FLIP`.
    pub(super) quants: Vec<u8>,
    /// `[cols / group][R][TOKENS]`, all `TOKENS` the same.
    pub(super) scales: Vec<f32>,
    /// The same for formats with mins.
    pub(super) mins: Vec<f32>,
    /// Float weights, `[cols][R]`.
    pub(super) floats: Vec<f32>,
}

/// The bytes of row `r`, or of the last row where there are fewer: the surplus lanes are computed and ignored.
#[inline(always)]
fn row_of(rows: &[u8], row_bytes: usize, r: usize) -> &[u8] {
    let r = r.min(rows.len() / row_bytes - 1);
    &rows[r * row_bytes..(r + 1) * row_bytes]
}

/// Unpacks up to `R` quantized rows.
#[inline(always)]
pub(super) fn unpack<S: Blocks, F: Format, const R: usize>(s: S, rows: &[u8], row_bytes: usize, panel: &mut Panel) {
    let blocks_per_row = F::blocks(&rows[..row_bytes]).len();
    let (per_block, groups) = (F::LEN / 32, F::LEN / F::GROUP);
    panel.quants.resize(blocks_per_row * F::LEN * R, 0);
    let scales = blocks_per_row * groups * R * S::TOKENS;
    panel.scales.resize(scales, 0.0);
    panel.mins.resize(if F::KIND == Kind::Mins { scales } else { 0 }, 0.0);
    // The next eight rows are asked for in the order in which they lie in memory, as in `gemv`.
    let (part, ahead) = (8 * size_of::<F::Block>(), PREFETCH.max(8 * row_bytes));

    for r0 in (0..R).step_by(8) {
        let eight: [&[F::Block]; 8] = std::array::from_fn(|r| F::blocks(row_of(rows, row_bytes, r0 + r)));
        for b in 0..blocks_per_row {
            for line in (0..part).step_by(64) {
                s.prefetch(&eight[0][0], ahead + b * part + line);
            }
            for (r, row) in eight.iter().enumerate() {
                let (mut scales, mut mins) = ([0.0; 16], [0.0; 16]);
                F::scales(s, &row[b], &mut scales, &mut mins);
                for g in 0..groups {
                    let at = ((b * groups + g) * R + r0 + r) * S::TOKENS;
                    panel.scales[at..at + S::TOKENS].fill(scales[g]);
                    if F::KIND == Kind::Mins {
                        panel.mins[at..at + S::TOKENS].fill(mins[g]);
                    }
                }
            }
            for i in 0..per_block {
                let mut vectors = [s.splat_byte(0); 8];
                for (vector, row) in vectors.iter_mut().zip(&eight) {
                    let quants = F::quants(s, &row[b], i);
                    *vector = match F::KIND {
                        Kind::Mins => quants,
                        Kind::Signed => s.xor(quants, s.splat_byte(S::FLIP)),
                        Kind::Offset(shift) => {
                            s.xor(s.sub_bytes(quants, s.splat_byte(1 << shift)), s.splat_byte(S::FLIP))
                        }
                    };
                }
                let out = &mut panel.quants[(b * F::LEN + 32 * i) * R + r0 * S::STEP..];
                for (j, vector) in s.transpose(vectors).into_iter().enumerate() {
                    s.store_bytes(vector, &mut out[j / S::TOKENS * R * S::STEP + j % S::TOKENS * 32..]);
                }
            }
        }
    }
}

/// Unpacks up to `R` rows of float weights.
#[inline(always)]
pub(super) fn unpack_floats<F: Float, const R: usize>(rows: &[u8], row_bytes: usize, panel: &mut Panel) {
    let cols = F::row(&rows[..row_bytes]).len();
    panel.floats.resize(cols * R, 0.0);
    for r in 0..R {
        let row = F::row(row_of(rows, row_bytes, r));
        for (slot, &weight) in panel.floats.iter_mut().skip(r).step_by(R).zip(row) {
            *slot = F::one(weight);
        }
    }
}
