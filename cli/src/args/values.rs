//! What options may be: each reads a value, or says what was expected.

#[cfg(feature = "detect")]
use super::Size;
use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

/// A value that fits.
pub fn fitting<T: FromStr>(text: &str, expected: impl Display, fits: impl Fn(&T) -> bool) -> Result<T, String> {
    text.parse().ok().filter(fits).ok_or_else(|| format!("expected {expected}"))
}

pub fn number(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let (min, max) = (range.start(), range.end());
    fitting(text, format_args!("a whole number from {min} to {max}"), |n| range.contains(n))
}

#[cfg(feature = "chat")]
pub fn seed(text: &str) -> Result<u64, String> {
    fitting(text, format_args!("a whole number from 0 to {}", u64::MAX), |_| true)
}

pub fn threads(text: &str) -> Result<usize, String> {
    number(text, 1..=pupil::MAX_THREADS)
}

pub fn tokens(text: &str) -> Result<usize, String> {
    number(text, 1..=1 << 20)
}

/// A number of pictures, sentences and so on: the first ones.
#[cfg(feature = "eval")]
pub fn limit(text: &str) -> Result<usize, String> {
    number(text, 1..=1 << 30)
}

#[cfg(feature = "chat")]
pub fn temperature(text: &str) -> Result<f32, String> {
    fitting(text, "a number from 0 up", |t: &f32| t.is_finite() && *t >= 0.0)
}

#[cfg(feature = "chat")]
pub fn above_zero(text: &str) -> Result<f32, String> {
    fitting(text, "a number above 0", |x: &f32| x.is_finite() && *x > 0.0)
}

#[cfg(any(feature = "chat", feature = "detect"))]
pub fn fraction<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    fitting(text, "a number from 0 to 1", |x| (T::from(0)..=T::from(1)).contains(x))
}

#[cfg(feature = "detect")]
pub fn size(text: &str) -> Result<Size, String> {
    let sides = text.split_once(['x', 'X', '×']);
    let sides = sides.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width, height)) => Ok(Size { width, height }),
        None => Err("expected WIDTHxHEIGHT in pixels, e.g. 640x480".into()),
    }
}

#[cfg(feature = "onnx")]
pub fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| "expected three numbers, e.g. 0,0,0".into())
}

#[cfg(feature = "eval")]
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((a, b)) if !a.trim().is_empty() && !b.trim().is_empty() => Ok((a.trim().into(), b.trim().into())),
        _ => Err("expected DATA=MODEL, two names of classes".into()),
    }
}
