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

/// Applies `$f` to vectors of `$x`, the last one filled up with zeros. A macro, because closures do not get the
/// instruction set of the function that they are in.
macro_rules! each {
    ($s:ident, $S:ident, $values:ident, |$x:ident| $f:expr) => {{
        let mut vectors = $values.chunks_exact_mut($S::LANES);
        for vector in &mut vectors {
            let $x = $s.load(vector);
            $s.store($f, vector);
        }
        let rest = vectors.into_remainder();
        if !rest.is_empty() {
            let mut vector = [0.0; 16];
            vector[..rest.len()].copy_from_slice(rest);
            let $x = $s.load(&vector);
            $s.store($f, &mut vector);
            rest.copy_from_slice(&vector[..rest.len()]);
        }
    }};
}

/// Applies an activation to every element.
#[inline(always)]
pub(super) fn apply<S: Simd>(s: S, activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::None => {}
        Activation::Relu | Activation::Clip(..) => {
            let (lines, _) = activation.lines();
            each!(s, S, values, |x| lines.apply(s, x));
        }
        Activation::LeakyRelu(slope) => each!(s, S, values, |x| {
            let zero = s.splat(0.0);
            s.mul_add(s.min(x, zero), s.splat(slope), s.max(x, zero))
        }),
        Activation::Silu => each!(s, S, values, |x| s.mul(x, sigmoid(s, x))),
        Activation::HardSwish => {
            each!(s, S, values, |x| s.mul(x, unit(s, s.mul_add(x, s.splat(1.0 / 6.0), s.splat(0.5)))));
        }
        Activation::HardSigmoid(a, b) => each!(s, S, values, |x| unit(s, s.mul_add(x, s.splat(a), s.splat(b)))),
        Activation::Sigmoid => each!(s, S, values, |x| sigmoid(s, x)),
        Activation::Exp => each!(s, S, values, |x| exp(s, x)),
        // Rare enough to be left to the compiler.
        Activation::Sqrt => values.iter_mut().for_each(|x| *x = x.sqrt()),
        // tanh x = 2 σ(2x) − 1
        Activation::Tanh => {
            each!(s, S, values, |x| s.mul_add(s.splat(2.0), sigmoid(s, s.add(x, x)), s.splat(-1.0)));
        }
    }
}

/// `1 / (1 + e⁻ˣ)`
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    s.div(s.splat(1.0), s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), x))))
}

/// `min(max(x, 0), 1)`
#[inline(always)]
fn unit<S: Simd>(s: S, x: S::F) -> S::F {
    s.min(s.max(x, s.splat(0.0)), s.splat(1.0))
}
