//! Rows of maps: arithmetic, maxima, and softmax. The compiler vectorizes these for each instruction set.

use super::activation::{self, Activation};
use super::simd::Simd;
use serde::{Deserialize, Serialize};

/// What is done with two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// `x = x ∘ y`, where `y` has as many elements or one.
#[inline(always)]
pub(super) fn combine(with: Arithmetic, x: &mut [f32], y: &[f32]) {
    match with {
        Arithmetic::Add => zip(x, y, |x, y| x + y),
        Arithmetic::Sub => zip(x, y, |x, y| x - y),
        Arithmetic::Mul => zip(x, y, |x, y| x * y),
        Arithmetic::Div => zip(x, y, |x, y| x / y),
        Arithmetic::Max => zip(x, y, |x, y| if x > y { x } else { y }),
        Arithmetic::Min => zip(x, y, |x, y| if x < y { x } else { y }),
    }
}

#[inline(always)]
fn zip(x: &mut [f32], y: &[f32], f: impl Fn(f32, f32) -> f32) {
    match y {
        [y] => x.iter_mut().for_each(|x| *x = f(*x, *y)),
        _ => x.iter_mut().zip(y).for_each(|(x, y)| *x = f(*x, *y)),
    }
}

/// `x = max(x, y)`
#[inline(always)]
pub(super) fn maximum<T: PartialOrd + Copy>(x: &mut [T], y: &[T]) {
    x.iter_mut().zip(y).for_each(|(x, &y)| *x = if *x > y { *x } else { y });
}

/// `out = a + (b − a) × weight`
#[inline(always)]
pub(super) fn lerp(a: &[f32], b: &[f32], weight: f32, out: &mut [f32]) {
    out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a + (b - a) * weight);
}

/// Softmax over each pixel of `channels` elements.
#[inline(always)]
pub(super) fn softmax<S: Simd>(s: S, x: &mut [f32], channels: usize) {
    for pixel in x.chunks_exact_mut(channels) {
        let max = pixel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        pixel.iter_mut().for_each(|x| *x -= max);
    }
    activation::apply(s, Activation::Exp, x);
    for pixel in x.chunks_exact_mut(channels) {
        let sum = pixel.iter().sum::<f32>();
        pixel.iter_mut().for_each(|x| *x /= sum);
    }
}
