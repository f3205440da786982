//! Writing Q4_K and Q6_K: a search for the scales.
//!
//! A block's quality hangs on its scales, and the best ones are not those that just span the largest value: cutting
//! one extreme a little may give all others a finer step. Both formats are written the same way:
//!
//! 1. **Each sub-block alone.** Try inverse scales around the one that spans the values. Each gives codes `q` by
//!    rounding; for those codes the best scale (and minimum) is a weighted least-squares fit in closed form. The fit
//!    of least error wins.
//! 2. **The block.** The widest scale gets the largest small integer, which gives `d` (and `dmin`) as a half.
//! 3. **Each sub-block again**, now with what a reader will see: among the small integers next to the fit (±1 for the
//!    scale, and for the minimum), take those of least error, each with the codes nearest to the values.
//!
//! The error is `Σ w·(x − x̂)²` with `w = |x| + rms(sub-block)`: large weights matter more to a product than small
//! ones, and no weight is free. Every step is deterministic.

use super::{
    inverse,
    k::{LEN, pack_scales},
    widest, write_f16,
};

/// Writes a block of Q4_K; the layout is in [`super::k`].
pub(super) fn encode_q4_k(x: &[f32; LEN]) -> [u8; 144] {
    let subs: [Sub<32>; 8] = subs(x);
    let fits = subs.each_ref().map(fit_affine);
    let most = fits.iter().fold((0f32, 0f32), |most, fit| (most.0.max(fit.0), most.1.max(fit.1)));

    let mut block = [0; 144];
    let d = write_f16(&mut block, 0, most.0 / 63.0);
    let dmin = write_f16(&mut block, 2, most.1 / 63.0);
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for (g, (sub, fit)) in subs.iter().zip(fits).enumerate() {
        let mut least = f32::INFINITY;
        for sc in around(fit.0, d, 0, 63) {
            for mn in around(fit.1, dmin, 0, 63) {
                let error = sub.affine_error(d * f32::from(sc), dmin * f32::from(mn));
                if error < least {
                    (least, scales[g], mins[g]) = (error, sc as u8, mn as u8);
                }
            }
        }
        let (s, m) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
        for (l, x) in sub.x.iter().enumerate() {
            let q = affine_code(*x, inverse(s), m) as u8;
            block[16 + g / 2 * 32 + l] |= q << (g % 2 * 4);
        }
    }
    block[4..16].copy_from_slice(&pack_scales(&scales, &mins));
    block
}

/// Writes a block of Q6_K; the layout is in [`super::k`].
pub(super) fn encode_q6_k(x: &[f32; LEN]) -> [u8; 210] {
    let subs: [Sub<16>; 16] = subs(x);
    let fits = subs.each_ref().map(fit_symmetric);

    let mut block = [0; 210];
    let d = write_f16(&mut block, 208, widest(&fits) / -128.0);
    for (j, (sub, fit)) in subs.iter().zip(fits).enumerate() {
        let (mut least, mut scale) = (f32::INFINITY, 0);
        for sc in around(fit, d, -128, 127) {
            let error = sub.symmetric_error(d * f32::from(sc));
            if error < least {
                (least, scale) = (error, sc);
            }
        }
        block[192 + j] = scale as i8 as u8;
        let inv = inverse(d * f32::from(scale));
        for (l, x) in sub.x.iter().enumerate() {
            let q = (symmetric_code(*x, inv) + 32.0) as u8;
            let i = 16 * j + l;
            block[i / 128 * 64 + i % 64] |= (q & 15) << (i / 64 % 2 * 4);
            block[128 + i / 128 * 32 + i % 32] |= (q >> 4) << (i / 32 % 4 * 2);
        }
    }
    block
}

/// The values of a sub-block and how much each one's error counts.
struct Sub<const N: usize> {
    x: [f32; N],
    w: [f32; N],
}

/// Cuts a block into its sub-blocks.
fn subs<const N: usize, const COUNT: usize>(x: &[f32; LEN]) -> [Sub<N>; COUNT] {
    std::array::from_fn(|j| {
        let x: [f32; N] = std::array::from_fn(|l| x[j * N + l]);
        let rms = (x.iter().map(|x| x * x).sum::<f32>() / N as f32).sqrt();
        Sub { x, w: x.map(|x| x.abs() + rms) }
    })
}

impl<const N: usize> Sub<N> {
    /// The error of the best codes for `x̂ = s·q − m`.
    fn affine_error(&self, s: f32, m: f32) -> f32 {
        let inv = inverse(s);
        self.error(|x| s * affine_code(x, inv, m) - m)
    }

    /// The error of the best codes for `x̂ = s·q`.
    fn symmetric_error(&self, s: f32) -> f32 {
        let inv = inverse(s);
        self.error(|x| s * symmetric_code(x, inv))
    }

    fn error(&self, decoded: impl Fn(f32) -> f32) -> f32 {
        self.x.iter().zip(&self.w).map(|(&x, w)| w * (decoded(x) - x).powi(2)).sum()
    }
}

/// Fits `x ≈ s·q − m` with `q` in 0..=15 and `s, m ≥ 0`; returns `(s, m)`.
fn fit_affine<const N: usize>(sub: &Sub<N>) -> (f32, f32) {
    let (lo, hi) = sub.x.iter().fold((0f32, f32::MIN), |(lo, hi), &x| (lo.min(x), hi.max(x)));
    let mut best = (0.0, 0.0 - lo); // not −0, which a later `max` might pick or not
    let mut least = sub.affine_error(best.0, best.1);
    for tenths in -10..=10 {
        let inv = (15.0 + 0.1 * tenths as f32) * inverse(hi - lo);
        let Some((s, m)) = least_squares(sub, |x| affine_code(x, inv, -lo)) else { continue };
        let error = sub.affine_error(s, m);
        if error < least {
            (least, best) = (error, (s, m));
        }
    }
    best
}

/// The `s ≥ 0` and `m ≥ 0` of least `Σ w·(s·q − m − x)²` for the codes `q = code(x)`, if the codes determine them.
fn least_squares<const N: usize>(sub: &Sub<N>, code: impl Fn(f32) -> f32) -> Option<(f32, f32)> {
    let (mut w1, mut wq, mut wqq, mut wx, mut wxq) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (&x, &w) in sub.x.iter().zip(&sub.w) {
        let q = code(x);
        w1 += w;
        wq += w * q;
        wqq += w * q * q;
        wx += w * x;
        wxq += w * x * q;
    }
    let det = w1 * wqq - wq * wq;
    let (s, m) = ((w1 * wxq - wq * wx) / det, (wq * wxq - wqq * wx) / det);
    let (s, m) = if m > 0.0 { (s, m) } else { (wxq / wqq, 0.0) };
    (s.is_finite() && m.is_finite() && s >= 0.0).then_some((s, m))
}

/// Fits `x ≈ s·q` with `q` in −32..=31; the sign of `s` is that which gives the widest value the code −32.
fn fit_symmetric<const N: usize>(sub: &Sub<N>) -> f32 {
    let per_widest = inverse(widest(&sub.x));
    let (mut best, mut most) = (0.0, 0.0);
    for tenths in -9..=9 {
        let inv = -(32.0 + 0.1 * tenths as f32) * per_widest;
        let (mut wxq, mut wqq) = (0.0, 0.0);
        for (&x, &w) in sub.x.iter().zip(&sub.w) {
            let q = symmetric_code(x, inv);
            wxq += w * x * q;
            wqq += w * q * q;
        }
        // With s = wxq / wqq the error is Σ w·x² less this.
        let gain = wxq * (wxq / wqq);
        if gain > most {
            (most, best) = (gain, wxq / wqq);
        }
    }
    best
}

/// The code in 0..=15 of `x̂ = s·q − m` that is nearest to `x`, with `inv = 1 / s`.
fn affine_code(x: f32, inv: f32, m: f32) -> f32 {
    round(((x + m) * inv).clamp(0.0, 15.0))
}

/// The code in −32..=31 of `x̂ = s·q` that is nearest to `x`, with `inv = 1 / s`.
fn symmetric_code(x: f32, inv: f32) -> f32 {
    round((x * inv).clamp(-32.0, 31.0))
}

/// Rounds a small number to the nearest integer, ties to even: between 2²³ and 2²⁴ the spacing of f32 is 1. Unlike
/// [`f32::round`] this is two additions on every CPU.
fn round(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³
    (x + MAGIC) - MAGIC
}

/// The integers next to `value / step`, in `min..=max`.
fn around(value: f32, step: f32, min: i16, max: i16) -> std::ops::RangeInclusive<i16> {
    // The cast saturates.
    let nearest = ((value * inverse(step)).round() as i16).clamp(min, max);
    (nearest - 1).max(min)..=(nearest + 1).min(max)
}
