//! What is applied to each element of a map.

use super::ops::exp;
use super::simd::Simd;
use serde::{Deserialize, Serialize};

/// What is applied to each element.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, low), high)`: with 0 and 6, ReLU6.
    Clip(f32, f32),
    /// `x` where positive, else `x` times the slope.
    LeakyRelu(f32),
    /// `x σ(x)`, also called swish.
    Silu,
    /// `x min(max(x / 6 + ½, 0), 1)` (Howard et al. 2019).
    HardSwish,
    /// `min(max(αx + β, 0), 1)`
    HardSigmoid(f32, f32),
    /// `1 / (1 + e⁻ˣ)`
    Sigmoid,
    /// `eˣ`
    Exp,
    /// `√x`
    Sqrt,
    /// `tanh x`
    Tanh,
}

/// The activations made of straight lines: `min(max(max(x, slope × x), low), high)`. Kernels apply them to sums before
/// they leave the registers.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    slope: f32,
    low: f32,
    high: f32,
}

impl Lines {
    const NONE: Self = Self { slope: 1.0, low: f32::NEG_INFINITY, high: f32::INFINITY };

    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, s: S, x: S::F) -> S::F {
        let bent = s.max(x, s.mul(x, s.splat(self.slope)));
        s.min(s.max(bent, s.splat(self.low)), s.splat(self.high))
    }
}

impl Activation {
    /// As straight lines, and whether that is all of it; otherwise [`apply`] has to follow.
    pub(super) fn lines(self) -> (Lines, bool) {
        match self {
            Self::None => (Lines::NONE, true),
            Self::Relu => (Lines { slope: 0.0, ..Lines::NONE }, true),
            Self::Clip(low, high) => (Lines { low, high, ..Lines::NONE }, true),
            Self::LeakyRelu(slope) if (0.0..=1.0).contains(&slope) => (Lines { slope, ..Lines::NONE }, true),
            _ => (Lines::NONE, false),
        }
    }
}

/// Applies an activation to every element.
#[inline(always)]
pub(super) fn apply<S: Simd>(s: S, activation: Activation, x: &mut [f32]) {
    let one = || s.splat(1.0);
    let sigmoid = |x| s.div(one(), s.add(one(), exp(s, s.sub(s.splat(0.0), x))));
    let unit = |x| s.min(s.max(x, s.splat(0.0)), one());
    match activation {
        Activation::None => {}
        Activation::Relu | Activation::Clip(..) => {
            let (lines, _) = activation.lines();
            each(s, x, |x| lines.apply(s, x));
        }
        Activation::LeakyRelu(slope) => each(s, x, |x| {
            let zero = s.splat(0.0);
            s.mul_add(s.min(x, zero), s.splat(slope), s.max(x, zero))
        }),
        Activation::Silu => each(s, x, |x| s.mul(x, sigmoid(x))),
        Activation::HardSwish => each(s, x, |x| s.mul(x, unit(s.mul_add(x, s.splat(1.0 / 6.0), s.splat(0.5))))),
        Activation::HardSigmoid(a, b) => each(s, x, |x| unit(s.mul_add(x, s.splat(a), s.splat(b)))),
        Activation::Sigmoid => each(s, x, sigmoid),
        Activation::Exp => each(s, x, |x| exp(s, x)),
        // Rare enough to be left to the compiler.
        Activation::Sqrt => x.iter_mut().for_each(|x| *x = x.sqrt()),
        // tanh x = 2 σ(2x) − 1
        Activation::Tanh => each(s, x, |x| s.sub(s.mul(s.splat(2.0), sigmoid(s.add(x, x))), one())),
    }
}

/// Applies `f` to vectors of `x`, the last one filled up with zeros.
#[inline(always)]
fn each<S: Simd>(s: S, x: &mut [f32], f: impl Fn(S::F) -> S::F) {
    let mut vectors = x.chunks_exact_mut(S::LANES);
    for x in &mut vectors {
        s.store(f(s.load(x)), x);
    }
    let rest = vectors.into_remainder();
    if !rest.is_empty() {
        let mut x = [0.0; 16];
        x[..rest.len()].copy_from_slice(rest);
        let y = f(s.load(&x));
        s.store(y, &mut x);
        rest.copy_from_slice(&x[..rest.len()]);
    }
}
