//! A panel of rows times a tile of tokens: prefill. All of the arithmetic of a long prompt is in these loops.
//!
//! Lanes are rows and each step broadcasts four activations of one token, so there are no horizontal sums: for 16 rows
//! and 32 columns, 8 dot instructions, then one widening, one product of scales and one fused multiply-add.

use super::panel::Panel;
use super::simd::Simd;
use super::tile::Tile;

/// `V` vectors of rows times `C` tokens, for quantized weights with `GROUP` elements to a scale. Writes
/// `out[c][V × LANES]`.
#[inline(always)]
pub(super) fn quants<S: Simd, const V: usize, const C: usize, const GROUP: usize, const MINS: bool>(
    s: S,
    panel: &Panel,
    x: &Tile,
    out: &mut [f32],
) {
    let (rows, quads) = (V * S::LANES, GROUP / 4);
    let sums = if GROUP == 16 { &x.by16 } else { &x.by32 };
    let mut acc = [[s.splat(0.0); C]; V];
    let weights = panel.quants.chunks_exact(quads * rows * 4).zip(panel.scales.chunks_exact(rows)).enumerate();
    let xs = x.quants.chunks_exact(quads * C * 4).zip(sums.quants.as_chunks::<C>().0);
    for ((g, (weights, scales)), (xq, nsums)) in weights.zip(xs) {
        let mut dots = [[s.splat_i32(0); C]; V];
        if !MINS && S::FLIP != 0 {
            for c in 0..C {
                let surplus = s.shl(s.splat_i32(nsums[c]), 7);
                for dots in &mut dots {
                    dots[c] = surplus;
                }
            }
        }
        for (w, xq) in weights.chunks_exact(rows * 4).zip(xq.as_chunks::<4>().0.as_chunks::<C>().0) {
            for (v, dots) in dots.iter_mut().enumerate() {
                let w = s.load_bytes(&w[v * S::LANES * 4..]);
                for c in 0..C {
                    let xq = s.splat_quad(xq[c]);
                    dots[c] = if MINS { s.dot(dots[c], w, xq) } else { s.dot_flipped(dots[c], w, xq) };
                }
            }
        }
        let xscales: &[f32; C] = x.scales[g * GROUP / 32 * C..].first_chunk().expect("a scale for each 32");
        for v in 0..V {
            let scales = s.load(&scales[v * S::LANES..]);
            for c in 0..C {
                let scale = s.mul(scales, s.splat(xscales[c]));
                acc[v][c] = s.mul_add(s.to_f32(dots[v][c]), scale, acc[v][c]);
            }
            if MINS {
                let mins = s.load(&panel.mins[g * rows + v * S::LANES..]);
                let sums: &[f32; C] = sums.floats[g * C..].first_chunk().expect("a sum for each group");
                for c in 0..C {
                    acc[v][c] = s.mul_add(mins, s.splat(sums[c]), acc[v][c]);
                }
            }
        }
    }
    write(s, &acc, out);
}

/// `V` vectors of rows times `C` tokens, for float weights. Writes `out[c][V × LANES]`.
#[inline(always)]
pub(super) fn floats<S: Simd, const V: usize, const C: usize>(s: S, panel: &Panel, x: &Tile, out: &mut [f32]) {
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
    write(s, &acc, out);
}

#[inline(always)]
fn write<S: Simd, const V: usize, const C: usize>(s: S, acc: &[[S::F; C]; V], out: &mut [f32]) {
    for c in 0..C {
        for (v, acc) in acc.iter().enumerate() {
            s.store(acc[c], &mut out[(c * V + v) * S::LANES..]);
        }
    }
}
