//! Which range bytes stand for: the one with the least squared error.
//!
//! An element inside of the range is off by anything up to half a step, which makes a twelfth of the squared step on
//! average; one outside is off by its distance to the range's end. A narrower range trades one for the other.

use super::gains::Gains;
use super::layout::Layout;
use super::stats::{BINS, Channels};
use crate::nets::convnet::program::{Program, Quant};

/// Bins of a histogram over several channels.
const FINE: usize = 4 * BINS;

/// The parts of a range that are tried: from all of it down to a fifth.
const TRIED: usize = 41;
const LEAST: f32 = 0.2;

/// What lies in each part of a range.
struct Histogram {
    min: f32,
    max: f32,
    /// For each bin, the number of elements in all bins before it, their sum, and the sum of their squares.
    sums: Vec<[f64; 3]>,
}

impl Histogram {
    /// Of elements between `min` and `max`, and how often there is each.
    fn new(min: f32, max: f32, elements: impl Iterator<Item = (f32, f64)>) -> Self {
        let mut sums = vec![[0.0; 3]; FINE + 1];
        let step = FINE as f32 / (max - min).max(f32::MIN_POSITIVE);
        for (x, count) in elements {
            let bin = (((x - min) * step) as usize).min(FINE - 1);
            let (x, sums) = (f64::from(x), &mut sums[bin + 1]);
            *sums = [sums[0] + count, sums[1] + count * x, sums[2] + count * x * x];
        }
        for i in 1..sums.len() {
            let before = sums[i - 1];
            sums[i].iter_mut().zip(before).for_each(|(sum, before)| *sum += before);
        }
        Self { min, max, sums }
    }

    /// Of the elements of values, multiplied with their gains.
    fn over(values: Vec<usize>, seen: &[Channels], gains: &Gains) -> Self {
        let channels = || values.iter().flat_map(|&x| (0..gains[x].len()).map(move |c| (x, c)));
        let min = channels().map(|(x, c)| gains[x][c] * seen[x].min[c]).fold(0.0, f32::min);
        let max = channels().map(|(x, c)| gains[x][c] * seen[x].max[c]).fold(f32::MIN_POSITIVE, f32::max);
        let elements = channels().flat_map(|(x, c)| seen[x].histogram(c).map(move |(e, n)| (gains[x][c] * e, n)));
        Self::new(min, max, elements)
    }

    /// The quantization with the least squared error.
    fn best(&self) -> Quant {
        let parts = |n: usize| (0..n).map(|i| 1.0 - (1.0 - LEAST) * i as f32 / (TRIED - 1) as f32);
        let lows = if self.min < 0.0 { TRIED } else { 1 };
        let highs = if self.max > 0.0 { TRIED } else { 1 };
        let ranges = parts(lows).flat_map(|low| parts(highs).map(move |high| (low, high)));
        let quants = ranges.map(|(low, high)| quant(low * self.min, high * self.max));
        let (_, best) =
            quants.map(|quant| (self.error(quant), quant)).min_by(|a, b| a.0.total_cmp(&b.0)).expect("some");
        best
    }

    /// The squared error.
    fn error(&self, Quant { scale, zero }: Quant) -> f64 {
        let (low, high) = (-scale * f32::from(zero), scale * (255.0 - f32::from(zero)));
        let step = FINE as f32 / (self.max - self.min).max(f32::MIN_POSITIVE);
        let up_to = |x: f32| self.sums[((x - self.min) * step).round().clamp(0.0, FINE as f32) as usize];
        let (all, below, to_high) = (self.sums[FINE], up_to(low), up_to(high));
        let off = |sums: [f64; 3], end: f32| {
            let end = f64::from(end);
            sums[2] - 2.0 * end * sums[1] + end * end * sums[0]
        };
        let above = [0, 1, 2].map(|i| all[i] - to_high[i]);
        let inside = to_high[0] - below[0];
        inside * f64::from(scale).powi(2) / 12.0 + off(below, low) + off(above, high)
    }
}

/// Bytes for a range around 0.
fn quant(min: f32, max: f32) -> Quant {
    let scale = ((max - min) / 255.0).max(f32::MIN_POSITIVE * 1e6);
    Quant { scale, zero: (-min / scale).round().clamp(0.0, 255.0) as u8 }
}

/// The best quantization of each value that is stored in bytes, its channels multiplied with their gains.
pub(super) fn search(program: &Program, seen: &[Channels], layout: &Layout, gains: &Gains) -> Vec<Option<Quant>> {
    let mut quants = vec![None; seen.len()];
    for x in 0..seen.len() {
        let Some(group) = layout.groups[x] else { continue };
        let same = (0..x).find(|&other| layout.groups[other] == Some(group));
        let sources = (1..seen.len()).filter(|&x| layout.groups[x] == Some(group) && layout.is_source(program, x));
        quants[x] = same.map_or_else(|| Some(Histogram::over(sources.collect(), seen, gains).best()), |x| quants[x]);
    }
    quants
}

/// Integers for the weights of one output channel, and their scale, with the least squared error.
pub(super) fn integers(weights: &[f32]) -> (Vec<i8>, f32) {
    let largest = weights.iter().fold(0.0_f32, |a, w| a.max(w.abs()));
    if largest == 0.0 {
        return (vec![0; weights.len()], 1.0);
    }
    let round = |w: f32, scale: f32| (w / scale).round_ties_even().clamp(-127.0, 127.0);
    let error = |scale: f32| weights.iter().map(|&w| f64::from(w - scale * round(w, scale)).powi(2)).sum::<f64>();
    let scales = (0..40).map(|i| largest / 127.0 * (1.0 - 0.01 * i as f32));
    let scale = scales.min_by(|a, b| error(*a).total_cmp(&error(*b))).expect("some scales");
    (weights.iter().map(|&w| round(w, scale) as i8).collect(), scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements from `-end` to `end`, as often as `density` says.
    fn symmetric(end: f32, density: impl Fn(f32) -> f64) -> Histogram {
        let elements = (-10_000..10_000).map(|i| (i as f32 + 0.5) / 10_000.0 * end);
        Histogram::new(-end, end, elements.map(|x| (x, density(x))))
    }

    fn ends(Quant { scale, zero }: Quant) -> [f32; 2] {
        [-scale * f32::from(zero), scale * (255.0 - f32::from(zero))]
    }

    /// The optimal ends for 8 bits are 3.92 standard deviations of a normal and 9.89 widths of a Laplace distribution
    /// (Banner et al. 2019).
    #[test]
    fn the_best_ranges_of_known_distributions() {
        let near = |quant: Quant, end: f32| ends(quant).iter().all(|x| (x.abs() - end).abs() < 0.25);
        let normal = symmetric(8.0, |x| f64::from(-x * x / 2.0).exp()).best();
        assert!(near(normal, 3.92), "{:?}", ends(normal));
        let laplace = symmetric(16.0, |x| f64::from(-x.abs()).exp()).best();
        assert!(near(laplace, 9.89), "{:?}", ends(laplace));
        let uniform = symmetric(2.0, |_| 1.0).best();
        assert!(near(uniform, 2.0), "{:?}", ends(uniform));
    }

    #[test]
    fn what_has_one_sign_gets_all_steps() {
        let elements = (0..1000).map(|i| (i as f32 / 100.0, 1.0));
        let quant = Histogram::new(0.0, 10.0, elements).best();
        assert_eq!((quant.zero, (ends(quant)[1] - 10.0).abs() < 0.2), (0, true));
        let nothing = Histogram::new(0.0, f32::MIN_POSITIVE, std::iter::empty()).best();
        assert!(nothing.scale.is_normal() && nothing.zero == 0);
    }

    /// The error is that of really rounding the elements.
    #[test]
    fn the_error_is_what_rounding_makes() {
        let elements: Vec<f32> =
            (0..20_000).map(|i| (i as f32 + 0.5) / 20_000.0).map(|u| -2.0 * u.ln() - 1.0).collect();
        let (min, max) = elements.iter().fold((0.0_f32, 0.0_f32), |(min, max), &x| (min.min(x), max.max(x)));
        let histogram = Histogram::new(min, max, elements.iter().map(|&x| (x, 1.0)));
        for (low, high) in [(min, max), (min, 0.5 * max), (0.4 * min, 0.3 * max)] {
            let quant = quant(low, high);
            let byte = |x: f32| (x / quant.scale + f32::from(quant.zero)).round_ties_even().clamp(0.0, 255.0);
            let off = |x: f32| f64::from(x - quant.scale * (byte(x) - f32::from(quant.zero)));
            let real: f64 = elements.iter().map(|&x| off(x).powi(2)).sum();
            let ratio = histogram.error(quant) / real;
            assert!((0.97..1.03).contains(&ratio), "{low} to {high}: {ratio}");
        }
    }

    #[test]
    fn weights_are_rounded_with_the_least_error() {
        assert_eq!(integers(&[0.0; 3]), (vec![0; 3], 1.0));
        let (values, scale) = integers(&[2.54, -1.27, 0.02]);
        assert_eq!((values, (scale - 0.02).abs() < 1e-6), (vec![127, -64, 1], true));
        // One outlier costs less than all others.
        let weights: Vec<f32> = (0..20_000).map(|i| (i as f32 * 0.618_034).fract() - 0.5).chain([0.56]).collect();
        let (values, scale) = integers(&weights);
        let error = |scale: f32, value: &dyn Fn(usize) -> f32| -> f64 {
            weights.iter().enumerate().map(|(i, w)| f64::from(w - scale * value(i)).powi(2)).sum()
        };
        let plain = error(0.56 / 127.0, &|i| (weights[i] / (0.56 / 127.0)).round());
        assert!(error(scale, &|i| f32::from(values[i])) < 0.95 * plain);
    }
}
