//! Which range bytes stand for: the one with the least squared error.

use super::Samples;
use super::gains::Gains;
use super::layout::Layout;
use super::stats::Channels;
use crate::error::Result;
use crate::nets::convnet::Session;
use crate::nets::convnet::program::Quant;

/// Bins of a histogram.
const BINS: usize = 2048;

/// The smallest part of a range that is tried, and how many parts.
const LEAST: f32 = 0.3;
const TRIED: usize = 15;

/// How often elements of a group of values were seen.
struct Histogram {
    min: f32,
    max: f32,
    bins: Vec<f64>,
}

impl Histogram {
    fn add(&mut self, x: f32) {
        let bin = (x - self.min) * (BINS as f32 / (self.max - self.min));
        self.bins[(bin as usize).min(BINS - 1)] += 1.0;
    }

    /// The quantization with the least squared error.
    fn best(&self) -> Quant {
        let parts = || (0..TRIED).map(|i| 1.0 - (1.0 - LEAST) * i as f32 / (TRIED - 1) as f32);
        let mut best = (f64::INFINITY, quant(self.min, self.max));
        for low in parts().take(if self.min < 0.0 { TRIED } else { 1 }) {
            for high in parts().take(if self.max > 0.0 { TRIED } else { 1 }) {
                let quant = quant(low * self.min, high * self.max);
                let error = self.error(quant, best.0);
                if error < best.0 {
                    best = (error, quant);
                }
            }
        }
        best.1
    }

    /// The squared error, or at least `limit` where it is not less.
    fn error(&self, quant: Quant, limit: f64) -> f64 {
        let (width, zero) = ((self.max - self.min) / BINS as f32, f32::from(quant.zero));
        let mut sum = 0.0;
        for (i, &count) in self.bins.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let x = self.min + (i as f32 + 0.5) * width;
            let byte = (x / quant.scale + zero).round_ties_even().clamp(0.0, 255.0);
            let error = f64::from(x - quant.scale * (byte - zero));
            // Inside of the range, errors below a step are uniform, however fine the bins are.
            sum += count * error * error;
            if sum >= limit {
                return limit;
            }
        }
        sum
    }
}

/// Bytes for a range around 0.
fn quant(min: f32, max: f32) -> Quant {
    let scale = ((max - min) / 255.0).max(f32::MIN_POSITIVE * 1e6);
    Quant { scale, zero: (-min / scale).round().clamp(0.0, 255.0) as u8 }
}

/// The best quantization of each value that is stored in bytes.
pub(super) fn search(
    session: &mut Session,
    samples: &mut Samples,
    seen: &[Channels],
    layout: &Layout,
    gains: &Gains,
) -> Result<Vec<Option<Quant>>> {
    let mut histograms: Vec<Option<Histogram>> = (0..seen.len()).map(|_| None).collect();
    for (x, channels) in seen.iter().enumerate() {
        let Some(group) = layout.groups[x] else { continue };
        let empty = || Histogram { min: 0.0, max: f32::MIN_POSITIVE, bins: vec![0.0; BINS] };
        let histogram = histograms[group].get_or_insert_with(empty);
        for (c, gain) in gains[x].iter().enumerate() {
            histogram.min = histogram.min.min(gain * channels.min[c]);
            histogram.max = histogram.max.max(gain * channels.max[c]);
        }
    }
    for i in 0..samples.count {
        (samples.place)(i, session.input())?;
        session.observe(|x, value| {
            let Some(histogram) = layout.groups[x].and_then(|group| histograms[group].as_mut()) else { return };
            for pixel in value.chunks_exact(gains[x].len()) {
                pixel.iter().zip(&gains[x]).for_each(|(x, gain)| histogram.add(x * gain));
            }
        });
    }
    let best: Vec<_> = histograms.iter().map(|histogram| histogram.as_ref().map(Histogram::best)).collect();
    Ok(layout.groups.iter().map(|group| group.and_then(|group| best[group])).collect())
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
