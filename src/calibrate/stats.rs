//! What is seen in each channel of each value, in f32.

use super::Samples;
use crate::bytes::Bytes;
use crate::error::Result;
use crate::gguf::{Gguf, Writer};
use crate::nets::convnet::weights::Draft;
use crate::nets::convnet::{ConvNet, Session};
use std::sync::Arc;

/// What is seen in the channels of one value.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    pub(super) min: Vec<f32>,
    pub(super) max: Vec<f32>,
    pub(super) mean: Vec<f64>,
}

/// A network that can be run, out of one that is being made.
pub(super) fn session(draft: &Draft, threads: usize) -> Result<Session> {
    let (mut writer, mut file) = (Writer::new(), Vec::new());
    draft.write(&mut writer);
    writer.write(&mut file)?;
    let net = ConvNet::load(&Gguf::from_bytes(Bytes::from(&file[..]), "the network")?)?;
    Session::new(Arc::new(net), threads)
}

/// Runs a network on every sample and looks at every channel of every value.
pub(super) fn gather(
    session: &mut Session,
    samples: &mut Samples,
    mut progress: impl FnMut(f64),
) -> Result<Vec<Channels>> {
    let shapes = session.net().program().shapes().to_vec();
    let none = |c: usize| Channels { min: vec![0.0; c], max: vec![0.0; c], mean: vec![0.0; c] };
    let mut seen: Vec<_> = shapes.iter().map(|shape| none(shape.c)).collect();
    for i in 0..samples.count {
        (samples.place)(i, session.input())?;
        session.observe(|x, value| seen[x].add(value));
        progress((i + 1) as f64 / samples.count as f64);
    }
    for (channels, shape) in seen.iter_mut().zip(&shapes) {
        let count = (shape.pixels() * samples.count) as f64;
        channels.mean.iter_mut().for_each(|mean| *mean /= count);
    }
    Ok(seen)
}

impl Channels {
    /// Adds a value's elements; zero always counts as seen.
    fn add(&mut self, value: &[f32]) {
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

    /// The largest magnitude of a channel.
    pub(super) fn peak(&self, channel: usize) -> f32 {
        self.max[channel].max(-self.min[channel])
    }
}
