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

impl Activation {
    /// The activation as a line with a bend at 0, between two bounds, if that is what it is.
    pub(super) fn bent(self) -> Option<Bent> {
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        match self {
            Self::None => Some(Bent(1.0, low, high)),
            Self::Relu => Some(Bent(1.0, 0.0, high)),
            Self::Clip(low, high) => Some(Bent(1.0, low, high)),
            Self::LeakyRelu(slope) => Some(Bent(slope, low, high)),
            _ => None,
        }
    }
}

/// An activation that is known when a loop is compiled, so that the loop has no choice to make for each vector.
pub(super) trait Curve: Copy {
    fn apply<S: Simd>(self, s: S, x: S::F) -> S::F;
}

macro_rules! curves {
    ($($name:ident($($part:ident),*), |$s:ident, $x:ident| $f:expr;)*) => {$(
        #[derive(Clone, Copy)]
        pub(super) struct $name($(pub(super) curves!(@number $part)),*);

        impl Curve for $name {
            #[inline(always)]
            fn apply<S: Simd>(self, $s: S, $x: S::F) -> S::F {
                let $name($($part),*) = self;
                $f
            }
        }
    )*};
    (@number $part:ident) => { f32 };
}

curves! {
    // Of NaN and a number the second one is taken: NaN has to stay.
    Bent(slope, low, high), |s, x| {
        let y = s.mul_add(s.min(s.splat(0.0), x), s.splat(slope), s.max(s.splat(0.0), x));
        s.min(s.splat(high), s.max(s.splat(low), y))
    };
    Silu(), |s, x| s.mul(x, sigmoid(s, x));
    HardSwish(), |s, x| s.mul(x, unit(s, s.mul_add(x, s.splat(1.0 / 6.0), s.splat(0.5))));
    HardSigmoid(a, b), |s, x| unit(s, s.mul_add(x, s.splat(a), s.splat(b)));
    Sigmoid(), |s, x| sigmoid(s, x);
    Exp(), |s, x| exp(s, x);
    // tanh x = 2 σ(2x) − 1
    Tanh(), |s, x| s.mul_add(s.splat(2.0), sigmoid(s, s.add(x, x)), s.splat(-1.0));
}

/// Rare enough to be left to the compiler.
#[derive(Clone, Copy)]
pub(super) struct Sqrt;

impl Curve for Sqrt {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F) -> S::F {
        let mut all = [0.0; 16];
        s.store(x, &mut all);
        all.iter_mut().for_each(|x| *x = x.sqrt());
        s.load(&all)
    }
}

/// `$body` for the curve of an activation. A macro, because closures do not get the instruction set of the function that
/// they are in.
macro_rules! with_curve {
    ($activation:expr, |$curve:ident| $body:expr) => {{
        use $crate::kernels::activation::{self as curves, Activation};
        macro_rules! with {
            ($made:expr) => {{
                let $curve = $made;
                $body
            }};
        }
        match $activation {
            simple @ (Activation::None | Activation::Relu | Activation::Clip(..) | Activation::LeakyRelu(_)) => {
                with!(simple.bent().expect("such an activation"))
            }
            Activation::Silu => with!(curves::Silu()),
            Activation::HardSwish => with!(curves::HardSwish()),
            Activation::HardSigmoid(a, b) => with!(curves::HardSigmoid(a, b)),
            Activation::Sigmoid => with!(curves::Sigmoid()),
            Activation::Exp => with!(curves::Exp()),
            Activation::Sqrt => with!(curves::Sqrt),
            Activation::Tanh => with!(curves::Tanh()),
        }
    }};
}
pub(super) use with_curve;

/// Applies an activation to every element.
#[inline(always)]
pub(super) fn apply<S: Simd>(s: S, activation: Activation, values: &mut [f32]) {
    if activation == Activation::None {
        return;
    }
    with_curve!(activation, |curve| {
        let mut vectors = values.chunks_exact_mut(S::LANES);
        for vector in &mut vectors {
            s.store(curve.apply(s, s.load(vector)), vector);
        }
        let rest = vectors.into_remainder();
        if !rest.is_empty() {
            // The last vector is filled up with zeros.
            let mut vector = [0.0; 16];
            vector[..rest.len()].copy_from_slice(rest);
            s.store_first(curve.apply(s, s.load(&vector)), rest);
        }
    });
}

/// `1 / (1 + e⁻ˣ)`, to about `|x|` units in the last place, by `e⁻ˣ = 2ⁿ × P(r)` with `−x / ln 2 = n + r` and, on
/// `|r| ≤ ½`, the polynomial of degree 5 that is nearest to `2ʳ` (relative error 2e-7, and none at 0).
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let y = s.mul(x, s.splat(-std::f32::consts::LOG2_E));
    let y = s.min(s.max(y, s.splat(-125.0)), s.splat(125.0));
    let n = s.round(y);
    let r = s.sub(y, s.to_f32(n));
    let mut p = s.splat(POWER_OF_TWO[0]);
    for c in &POWER_OF_TWO[1..] {
        p = s.mul_add(p, r, s.splat(*c));
    }
    let power = s.as_f32(s.shl(s.add_i32(n, s.splat_i32(127)), 23));
    s.recip(s.mul_add(p, power, s.splat(1.0)))
}

/// The coefficients of `P`, that of the highest power first.
#[allow(clippy::approx_constant, reason = "the best polynomial has a coefficient near ln 2, but not that")]
const POWER_OF_TWO: [f32; 6] = [0.001_326_472_5, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147, 1.0];

/// `min(max(x, 0), 1)`
#[inline(always)]
fn unit<S: Simd>(s: S, x: S::F) -> S::F {
    s.min(s.max(x, s.splat(0.0)), s.splat(1.0))
}
