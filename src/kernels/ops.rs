//! What happens between the products: norms, activations, rotary embedding, softmax and the two halves of attention.

use super::simd::Simd;

/// `eˣ`, to about 2 units in the last place, by `2ⁿ × P(r)` with `x = n ln 2 + r` and the Taylor polynomial of degree 7
/// on `|r| ≤ ln 2 / 2` (its remainder is below 6e-9). Inputs below -87 give about 1e-38, never a denormal.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.min(s.max(x, s.splat(-87.0)), s.splat(88.0));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let nf = s.to_f32(n);
    // ln 2 in two parts, the first with few enough bits that n × it is exact.
    let r = s.mul_add(nf, s.splat(-0.693_359_4), x);
    let r = s.mul_add(nf, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.mul_add(p, r, s.splat(c));
    }
    s.mul(p, s.as_f32(s.shl(s.add_i32(n, s.splat_i32(127)), 23)))
}

/// Applies `f` to vectors of `x`, the last one filled up with zeros.
macro_rules! for_each_vector {
    ($s:ident, $S:ident, $x:expr, $y:expr, |$vx:ident, $vy:ident| $f:expr) => {{
        let (x, y): (&mut [f32], &[f32]) = ($x, $y);
        assert_eq!(x.len(), y.len());
        let mut xs = x.chunks_exact_mut($S::LANES);
        let mut ys = y.chunks_exact($S::LANES);
        for (x, y) in (&mut xs).zip(&mut ys) {
            let ($vx, $vy) = ($s.load(x), $s.load(y));
            $s.store($f, x);
        }
        let rest = xs.into_remainder();
        if !rest.is_empty() {
            let (mut x, mut y) = ([0.0; 16], [0.0; 16]);
            x[..rest.len()].copy_from_slice(rest);
            y[..rest.len()].copy_from_slice(ys.remainder());
            let ($vx, $vy) = ($s.load(&x), $s.load(&y));
            $s.store($f, &mut x);
            rest.copy_from_slice(&x[..rest.len()]);
        }
    }};
}

/// `out = x / √(mean(x²) + ε) × weight` (Zhang & Sennrich 2019).
#[inline(always)]
pub(super) fn rms_norm<S: Simd>(s: S, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let mut acc = s.splat(0.0);
    let parts = x.chunks_exact(S::LANES);
    let rest: f32 = parts.remainder().iter().map(|x| x * x).sum();
    for part in parts {
        let v = s.load(part);
        acc = s.mul_add(v, v, acc);
    }
    let scale = 1.0 / ((s.sum(acc) + rest) / x.len() as f32 + epsilon).sqrt();
    out.copy_from_slice(x);
    for_each_vector!(s, S, out, weight, |x, w| s.mul(s.mul(x, s.splat(scale)), w));
}

/// `gate = gate × σ(gate) × up`: SwiGLU (Shazeer 2020).
#[inline(always)]
pub(super) fn swiglu<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    for_each_vector!(s, S, gate, up, |g, u| {
        let denominator = s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), g)));
        s.mul(s.div(g, denominator), u)
    });
}

/// `gate = gelu(gate) × up`: GEGLU (Shazeer 2020) with GELU's approximation by tanh (Hendrycks & Gimpel 2016),
/// `½ x (1 + tanh u) = x σ(2u)` where `u = √(2/π) (x + 0.044715 x³)`.
#[inline(always)]
pub(super) fn geglu<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    const LINEAR: f32 = -1.595_769; // −2 √(2/π)
    for_each_vector!(s, S, gate, up, |g, u| {
        let slope = s.mul_add(s.mul(g, g), s.splat(LINEAR * 0.044_715), s.splat(LINEAR));
        let denominator = s.add(s.splat(1.0), exp(s, s.mul(g, slope)));
        s.mul(s.div(g, denominator), u)
    });
}

/// `Σ exp(x − max)`
#[inline(always)]
pub(super) fn sum_exp<S: Simd>(s: S, x: &[f32], max: f32) -> f32 {
    let (top, mut sum) = (s.splat(max), s.splat(0.0));
    let parts = x.chunks_exact(S::LANES);
    let rest: f32 = parts.remainder().iter().map(|x| (x - max).exp()).sum();
    for part in parts {
        sum = s.add(sum, exp(s, s.sub(s.load(part), top)));
    }
    s.sum(sum) + rest
}

/// `x += y`
#[inline(always)]
pub(super) fn add<S: Simd>(s: S, x: &mut [f32], y: &[f32]) {
    for_each_vector!(s, S, x, y, |x, y| s.add(x, y));
}

/// Keys in a block of the cache: one block gives a whole vector of scores.
pub const KEYS: usize = 16;

/// Turns scores into weights that sum to 1, in rows `c` of `scores: [blocks][width][KEYS]`; only the first `len` keys
/// count, the others get 0.
#[inline(always)]
pub(super) fn softmax<S: Simd>(s: S, scores: &mut [f32], width: usize, c: usize, len: usize) {
    let stride = width * KEYS;
    let used = len.div_ceil(KEYS);
    for block in scores.chunks_exact_mut(stride).skip(used) {
        block[c * KEYS..][..KEYS].fill(0.0);
    }
    if !len.is_multiple_of(KEYS) {
        scores[(used - 1) * stride + c * KEYS..][len % KEYS..KEYS].fill(f32::NEG_INFINITY);
    }
    let mut max = s.splat(f32::NEG_INFINITY);
    for block in scores.chunks_exact(stride).take(used) {
        for part in block[c * KEYS..][..KEYS].chunks_exact(S::LANES) {
            max = s.max(max, s.load(part));
        }
    }
    let max = s.splat(s.max_lane(max));
    let mut sum = s.splat(0.0);
    for block in scores.chunks_exact_mut(stride).take(used) {
        for part in block[c * KEYS..][..KEYS].chunks_exact_mut(S::LANES) {
            let e = exp(s, s.sub(s.load(part), max));
            sum = s.add(sum, e);
            s.store(e, part);
        }
    }
    let scale = s.splat(1.0 / s.sum(sum));
    for block in scores.chunks_exact_mut(stride).take(used) {
        for part in block[c * KEYS..][..KEYS].chunks_exact_mut(S::LANES) {
            s.store(s.mul(s.load(part), scale), part);
        }
    }
    if !len.is_multiple_of(KEYS) {
        // exp(-∞) comes out as 1e-38, not 0.
        scores[(used - 1) * stride + c * KEYS..][len % KEYS..KEYS].fill(0.0);
    }
}

/// Scores of `C` queries against one block of keys: `q: [dims][C]`, `keys: [dims][KEYS]`, `out: [C][KEYS]`.
#[inline(always)]
pub(super) fn scores<S: Simd, const C: usize>(s: S, q: &[f32], keys: &[f32], out: &mut [f32]) {
    // As many dimensions at once as it takes for four numbers of the queries.
    let step = 4_usize.div_ceil(C);
    let mut acc = [[s.splat(0.0); C]; 2];
    let (qs, blocks) = (q.chunks_exact(step * C), keys.chunks_exact(step * KEYS));
    let (q_rest, keys_rest) = (qs.remainder(), blocks.remainder());
    for (q, keys) in qs.zip(blocks) {
        for (i, four) in q.as_chunks::<4>().0.iter().enumerate() {
            let four = s.splat_each(four);
            for (j, q) in four.into_iter().enumerate() {
                let (d, c) = ((4 * i + j) / C, (4 * i + j) % C);
                for (p, acc) in acc.iter_mut().enumerate().take(KEYS / S::LANES) {
                    acc[c] = s.mul_add(s.load(&keys[d * KEYS + p * S::LANES..]), q, acc[c]);
                }
            }
        }
    }
    for (q, keys) in q_rest.as_chunks::<C>().0.iter().zip(keys_rest.as_chunks::<KEYS>().0) {
        for (p, acc) in acc.iter_mut().enumerate().take(KEYS / S::LANES) {
            let keys = s.load(&keys[p * S::LANES..]);
            for c in 0..C {
                acc[c] = s.mul_add(keys, s.splat(q[c]), acc[c]);
            }
        }
    }
    for (p, acc) in acc.into_iter().enumerate().take(KEYS / S::LANES) {
        for (c, acc) in acc.into_iter().enumerate() {
            s.store(acc, &mut out[c * KEYS + p * S::LANES..]);
        }
    }
}

/// Adds one block of values, weighted: `weights: [C][KEYS]`, `values: [KEYS][dims]`, `out: [C][dims]`; `dims` is a
/// multiple of 16.
#[inline(always)]
pub(super) fn mix<S: Simd, const C: usize>(s: S, weights: &[f32], values: &[f32], dims: usize, out: &mut [f32]) {
    let weights = &weights[..C * KEYS];
    for d in (0..dims).step_by(16) {
        let mut acc = [[s.splat(0.0); C]; 2];
        for (p, acc) in acc.iter_mut().enumerate().take(16 / S::LANES) {
            for (c, acc) in acc.iter_mut().enumerate() {
                *acc = s.load(&out[c * dims + d + p * S::LANES..]);
            }
        }
        for j in (0..KEYS).step_by(4) {
            let mut four = [[s.splat(0.0); 4]; C];
            for (c, four) in four.iter_mut().enumerate() {
                *four = s.splat_each(weights[c * KEYS + j..].first_chunk().expect("keys come in fours"));
            }
            for i in 0..4 {
                let values = &values[(j + i) * dims + d..][..16];
                for (p, acc) in acc.iter_mut().enumerate().take(16 / S::LANES) {
                    let v = s.load(&values[p * S::LANES..]);
                    for c in 0..C {
                        acc[c] = s.mul_add(v, four[c][i], acc[c]);
                    }
                }
            }
        }
        for (p, acc) in acc.into_iter().enumerate().take(16 / S::LANES) {
            for (c, acc) in acc.into_iter().enumerate() {
                s.store(acc, &mut out[c * dims + d + p * S::LANES..]);
            }
        }
    }
}

/// Widens half-precision numbers.
#[inline(always)]
pub(super) fn widen<S: Simd>(s: S, x: &[[u8; 2]], out: &mut [f32]) {
    let (xs, x_rest) = x.as_chunks::<32>();
    let (outs, out_rest) = out.as_chunks_mut::<32>();
    for (x, out) in xs.iter().zip(outs) {
        for at in (0..32).step_by(S::LANES) {
            s.store(s.load_f16(&x[at..]), &mut out[at..]);
        }
    }
    for (x, out) in x_rest.iter().zip(out_rest) {
        *out = half::f16::from_le_bytes(*x).to_f32();
    }
}

/// Rotates each head's pairs by the angles given (Su et al. 2021): pairs are neighbours, or the two halves of the
/// rotated part.
#[inline(always)]
pub(super) fn rope(head: &mut [f32], cos: &[f32], sin: &[f32], halves: bool) {
    let n = cos.len();
    if halves {
        let (a, b) = head[..2 * n].split_at_mut(n);
        for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        }
    } else {
        for ((pair, cos), sin) in head[..2 * n].as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
            *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
        }
    }
}
