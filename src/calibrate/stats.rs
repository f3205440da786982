//! What is seen in each channel of each value, in f32.

use super::Samples;
use crate::bytes::Bytes;
use crate::error::Result;
use crate::gguf::{Gguf, Writer};
use crate::nets::convnet::weights::Draft;
use crate::nets::convnet::{ConvNet, Session};
use std::sync::Arc;

/// Bins of a channel's histogram.
pub(super) const BINS: usize = 512;

/// What is seen in the channels of one value.
#[derive(Debug, Clone, Default)]
pub(super) struct Channels {
    /// The smallest element, or 0.
    pub(super) min: Vec<f32>,
    /// The largest element, or 0.
    pub(super) max: Vec<f32>,
    pub(super) mean: Vec<f64>,
    /// How many elements other than 0, which every range has, lie in each of [`BINS`] parts from the smallest to the
    /// largest; channel by channel, or empty if nobody wants to know.
    pub(super) bins: Vec<u32>,
}

/// A network that can be run, out of one that is being made.
pub(super) fn session(draft: &Draft, threads: usize) -> Result<Session> {
    let (mut writer, mut file) = (Writer::new(), Vec::new());
    draft.write(&mut writer);
    writer.write(&mut file)?;
    let net = ConvNet::load(&Gguf::from_bytes(Bytes::from(&file[..]), "the network")?)?;
    Session::new(Arc::new(net), threads)
}

/// Runs a network on every sample and looks at every channel of every value; those that `wanted` names get histograms.
pub(super) fn gather(
    session: &mut Session,
    samples: &mut Samples,
    wanted: impl Fn(usize) -> bool,
    mut progress: impl FnMut(f64),
) -> Result<Vec<Channels>> {
    let shapes = session.net().program().shapes().to_vec();
    let mut seen: Vec<_> = shapes.iter().map(|shape| Channels::none(shape.c)).collect();
    for i in 0..samples.count {
        (samples.place)(i, session.input())?;
        session.observe(|x, value| seen[x].add(value));
        progress(0.5 * (i + 1) as f64 / samples.count as f64);
    }
    for (x, (channels, shape)) in seen.iter_mut().zip(&shapes).enumerate() {
        let count = (shape.pixels() * samples.count) as f64;
        channels.mean.iter_mut().for_each(|mean| *mean /= count);
        if wanted(x) {
            channels.bins = vec![0; shape.c * BINS];
        }
    }
    // The histograms' ranges are known only now.
    for i in 0..samples.count {
        (samples.place)(i, session.input())?;
        session.observe(|x, value| seen[x].count(value));
        progress(0.5 + 0.5 * (i + 1) as f64 / samples.count as f64);
    }
    Ok(seen)
}

impl Channels {
    /// Of so many channels, in which nothing was seen yet.
    pub(super) fn none(c: usize) -> Self {
        Self { min: vec![0.0; c], max: vec![0.0; c], mean: vec![0.0; c], bins: Vec::new() }
    }

    /// Adds a value's elements; zero always counts as seen.
    pub(super) fn add(&mut self, value: &[f32]) {
        let c = self.min.len();
        // Sums of one picture in f32, so that the compiler can work on many channels at once.
        let mut sums = vec![0.0_f32; c];
        for pixel in value.chunks_exact(c) {
            for (((&x, min), max), sum) in pixel.iter().zip(&mut self.min).zip(&mut self.max).zip(&mut sums) {
                *min = min.min(x);
                *max = max.max(x);
                *sum += x;
            }
        }
        self.mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += f64::from(sum));
    }

    /// Adds a value's elements to the histograms, if there are any.
    pub(super) fn count(&mut self, value: &[f32]) {
        if self.bins.is_empty() {
            return;
        }
        let steps: Vec<f32> = self.min.iter().zip(&self.max).map(|(min, max)| BINS as f32 / (max - min)).collect();
        for pixel in value.chunks_exact(steps.len()) {
            for (c, &x) in pixel.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                let bin = ((x - self.min[c]) * steps[c]) as usize;
                self.bins[c * BINS + bin.min(BINS - 1)] += 1;
            }
        }
    }

    /// The middle of each bin of a channel, and how many elements it has.
    pub(super) fn histogram(&self, channel: usize) -> impl Iterator<Item = (f32, f64)> {
        let width = (self.max[channel] - self.min[channel]) / BINS as f32;
        let bins = self.bins[channel * BINS..][..BINS].iter().enumerate().filter(|(_, count)| **count > 0);
        bins.map(move |(i, &count)| (self.min[channel] + (i as f32 + 0.5) * width, f64::from(count)))
    }

    /// The largest magnitude of a channel.
    pub(super) fn peak(&self, channel: usize) -> f32 {
        self.max[channel].max(-self.min[channel])
    }
}
