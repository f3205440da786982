//! A panel of rows times a tile of tokens: prefill. All of the arithmetic of a long prompt is in these loops.
//!
//! Lanes are rows and each step broadcasts four activations of one token, so there are no horizontal sums: for 16 rows
//! and 32 columns, 8 dot instructions, then one widening, one product of scales and one fused multiply-add. Instructions
//! that multiply small matrices take two tokens at once instead ([`Matrix`]).

use super::panel::Panel;
use super::simd::{Matrix, Simd};
use super::tile::Tile;
use crate::tensor::DType;

/// For weights of any type before they were unpacked. Floats are taken as `V` vectors of rows times `C` tokens, quants as
/// `QV` vectors of rows times `QC` vectors of tokens, which are the same rows and tokens.
#[inline(always)]
pub(super) fn any<S: Matrix, const V: usize, const QV: usize, const C: usize, const QC: usize>(
    s: S,
    dtype: DType,
    panel: &Panel,
    x: &Tile,
    out: &mut [f32],
) {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::I8 => floats::<_, V, C>(s, panel, x, out),
        DType::Q8_0 | DType::Q4_0 | DType::Q5_0 => quants::<_, QV, QC, 32, false>(s, panel, x, out),
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => quants::<_, QV, QC, 32, true>(s, panel, x, out),
        DType::Q3K | DType::Q6K => quants::<_, QV, QC, 16, false>(s, panel, x, out),
        DType::Q2K => quants::<_, QV, QC, 16, true>(s, panel, x, out),
    }
}

/// `V` vectors of rows times `C` vectors of tokens, for quantized weights with `GROUP` elements to a scale. Writes
/// `out[token][row]`.
#[inline(always)]
fn quants<S: Matrix, const V: usize, const C: usize, const GROUP: usize, const MINS: bool>(
    s: S,
    panel: &Panel,
    x: &Tile,
    out: &mut [f32],
) {
    const { assert!(S::FLIP == 0 || S::TOKENS == 1) };
    let (rows, tokens) = (V * S::LANES / S::TOKENS, C * S::TOKENS);
    let sums = if GROUP == 16 { &x.by16 } else { &x.by32 };
    let mut acc = [[s.splat(0.0); C]; V];
    // A scale of the activations is for 32 columns: one group, or two.
    let groups = 32 / GROUP;
    let weights = panel.quants.chunks_exact(32 * rows).zip(panel.scales.chunks_exact(groups * V * S::LANES));
    let sums = sums.quants.chunks_exact(groups * tokens).zip(sums.floats.chunks_exact(groups * tokens));
    let xs = x.quants.chunks_exact(32 * tokens).zip(x.scales.chunks_exact(tokens)).zip(sums);
    let mut mins = panel.mins.chunks_exact(groups * V * S::LANES);
    for ((weights, scales), ((xq, xscales), (nsums, sums))) in weights.zip(xs) {
        let mins = if MINS { mins.next().expect("as many as scales") } else { &[] };
        for g in 0..groups {
            let mut dots = [[s.splat_i32(0); C]; V];
            if !MINS && S::FLIP != 0 {
                for c in 0..C {
                    let surplus = s.shl(s.splat_i32(nsums[g * tokens + c]), 7);
                    for dots in &mut dots {
                        dots[c] = surplus;
                    }
                }
            }
            let weights = weights[g * GROUP * rows..][..GROUP * rows].chunks_exact(rows * S::RUN);
            let xq = xq[g * GROUP * tokens..][..GROUP * tokens].chunks_exact(tokens * S::RUN);
            for (w, xq) in weights.zip(xq) {
                let mut runs = [s.load_run(xq); C];
                for (c, run) in runs.iter_mut().enumerate().skip(1) {
                    *run = s.load_run(&xq[c * S::TOKENS * S::RUN..]);
                }
                dots = step::<S, V, C, MINS, 0>(s, dots, w, &runs);
                if S::RUN > S::STEP {
                    dots = step::<S, V, C, MINS, 1>(s, dots, w, &runs);
                    dots = step::<S, V, C, MINS, 2>(s, dots, w, &runs);
                    dots = step::<S, V, C, MINS, 3>(s, dots, w, &runs);
                }
            }
            for v in 0..V {
                let scales = s.load(&scales[(g * V + v) * S::LANES..]);
                for c in 0..C {
                    let scale = s.mul(scales, s.repeat(&xscales[c * S::TOKENS..]));
                    acc[v][c] = s.mul_add(s.to_f32(dots[v][c]), scale, acc[v][c]);
                }
                if MINS {
                    let mins = s.load(&mins[(g * V + v) * S::LANES..]);
                    for c in 0..C {
                        acc[v][c] = s.mul_add(mins, s.repeat(&sums[g * tokens + c * S::TOKENS..]), acc[v][c]);
                    }
                }
            }
        }
    }
    for c in 0..C {
        for (v, acc) in acc.iter().enumerate() {
            s.store_rows(acc[c], &mut out[c * S::TOKENS * rows + v * S::LANES / S::TOKENS..], rows);
        }
    }
}

/// Step `I` of a run.
#[inline(always)]
fn step<S: Matrix, const V: usize, const C: usize, const MINS: bool, const I: usize>(
    s: S,
    mut dots: [[S::I; C]; V],
    weights: &[u8],
    runs: &[S::B; C],
) -> [[S::I; C]; V] {
    for (v, dots) in dots.iter_mut().enumerate() {
        let w = s.load_bytes(&weights[(I * V + v) * S::LANES * 4..]);
        for c in 0..C {
            dots[c] = if MINS {
                s.multiply::<false, I>(dots[c], w, runs[c])
            } else {
                s.multiply::<true, I>(dots[c], w, runs[c])
            };
        }
    }
    dots
}

/// `V` vectors of rows times `C` tokens, for float weights. Writes `out[c][V × LANES]`.
#[inline(always)]
fn floats<S: Simd, const V: usize, const C: usize>(s: S, panel: &Panel, x: &Tile, out: &mut [f32]) {
    let rows = V * S::LANES;
    let mut acc = [[s.splat(0.0); C]; V];
    for (weights, x) in panel.floats.chunks_exact(rows).zip(x.floats.as_chunks::<C>().0) {
        for (v, acc) in acc.iter_mut().enumerate() {
            let w = s.load(&weights[v * S::LANES..]);
            for c in 0..C {
                acc[c] = s.mul_add(w, s.splat(x[c]), acc[c]);
            }
        }
    }
    for c in 0..C {
        for (v, acc) in acc.iter().enumerate() {
            s.store(acc[c], &mut out[(c * V + v) * S::LANES..]);
        }
    }
}
