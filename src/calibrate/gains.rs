//! Gains: what each channel is multiplied with where it is made, and divided by where it is read.
//!
//! Channels are followed through everything that only moves them, adds them to others, or interpolates between pixels.
//! All places that a channel is seen at this way have the same gain. A channel that goes anywhere else keeps the gain 1.

use super::stats::Channels;
use crate::nets::convnet::program::{Activation, Arithmetic, Axis, Op, Pooling, Program};
use crate::nets::convnet::weights::{Draft, FilterShape, Weights};

/// For each value, the gain of each channel.
pub(super) type Gains = Vec<Vec<f32>>;

/// Gains of 1.
pub(super) fn none(program: &Program) -> Gains {
    program.shapes().iter().map(|shape| vec![1.0; shape.c]).collect()
}

/// Gains that share the difficulty of rounding between values and weights: `1 / (rᵅ w^(α − 1))` for a channel whose
/// largest magnitude is r, if the largest magnitude of the weights that read it is w (Xiao et al. 2022). Depthwise
/// convolutions have a scale for each channel, so they take all of it. Only values that are stored in bytes, which have
/// histograms, count.
pub(super) fn balance(draft: &Draft, seen: &[Channels], alpha: f32) -> Gains {
    let program = &draft.program;
    let tracks = Tracks::follow(program);
    let mut peaks = vec![0.0_f32; tracks.parents.len()];
    let mut weights = vec![0.0_f32; tracks.parents.len()];
    for (x, channels) in seen.iter().enumerate().filter(|(_, channels)| !channels.bins.is_empty()) {
        for c in 0..channels.min.len() {
            let track = tracks.of(x, c);
            peaks[track] = peaks[track].max(channels.peak(c));
        }
    }
    for op in program.ops() {
        if let Op::Conv { x, name, .. } = op {
            let shape = FilterShape::of(op, program.shapes()[*x].c).expect("a convolution");
            if let (Weights::F32(values), false) = (&draft.filters[name].weights, shape.is_depthwise()) {
                for (c, largest) in column_peaks(shape, values).into_iter().enumerate() {
                    let track = tracks.of(*x, c);
                    weights[track] = weights[track].max(largest);
                }
            }
        }
    }
    let gain = |track: usize| {
        let (peak, weight) = (peaks[track], weights[track]);
        if tracks.locked[track] || peak <= 0.0 {
            return 1.0;
        }
        let gain = if weight > 0.0 { weight.powf(1.0 - alpha) / peak.powf(alpha) } else { 1.0 / peak };
        gain.clamp(1e-4, 1e4)
    };
    let gains = program.shapes().iter().enumerate();
    gains.map(|(x, shape)| (0..shape.c).map(|c| gain(tracks.of(x, c))).collect()).collect()
}

/// The largest magnitude of the weights that read each input channel, in units of the output channel's largest.
fn column_peaks(shape: FilterShape, weights: &[f32]) -> Vec<f32> {
    let mut peaks = vec![0.0_f32; shape.groups * shape.inputs];
    for (output, weights) in weights.chunks_exact(shape.per_channel()).enumerate() {
        let largest = weights.iter().fold(0.0_f32, |a, w| a.max(w.abs())).max(f32::MIN_POSITIVE);
        let first = output / shape.outputs * shape.inputs;
        for tap in weights.chunks_exact(shape.inputs) {
            for (peak, w) in peaks[first..].iter_mut().zip(tap) {
                *peak = peak.max(w.abs() / largest);
            }
        }
    }
    peaks
}

/// Which channels of which values have to have the same gain: a union-find over all channels of all values.
struct Tracks {
    first: Vec<usize>,
    parents: Vec<usize>,
    locked: Vec<bool>,
}

impl Tracks {
    fn follow(program: &Program) -> Self {
        let mut first = Vec::new();
        let mut count = 0;
        for shape in program.shapes() {
            first.push(count);
            count += shape.c;
        }
        let mut tracks = Self { first, parents: (0..count).collect(), locked: vec![false; count] };
        tracks.lock(program, 0);
        for (i, op) in program.ops().iter().enumerate() {
            tracks.through(program, i + 1, op);
        }
        for &x in program.outputs() {
            tracks.lock(program, x);
        }
        for track in 0..count {
            let root = tracks.root(track);
            tracks.parents[track] = root;
        }
        let locked: Vec<_> = (0..count).filter(|&track| tracks.locked[track]).collect();
        for track in locked {
            let root = tracks.parents[track];
            tracks.locked[root] = true;
        }
        tracks
    }

    /// The channel's representative.
    fn of(&self, value: usize, channel: usize) -> usize {
        self.parents[self.first[value] + channel]
    }

    fn root(&self, mut track: usize) -> usize {
        while self.parents[track] != track {
            track = self.parents[track];
        }
        track
    }

    fn join(&mut self, (a, ca): (usize, usize), (b, cb): (usize, usize)) {
        let (a, b) = (self.root(self.first[a] + ca), self.root(self.first[b] + cb));
        self.parents[a] = b;
    }

    fn lock(&mut self, program: &Program, value: usize) {
        self.locked[self.first[value]..][..program.shapes()[value].c].fill(true);
    }

    fn through(&mut self, program: &Program, result: usize, op: &Op) {
        let shapes = program.shapes();
        let c = shapes[result].c;
        match op {
            Op::Conv { .. } => {}
            Op::Concat { xs, axis: Axis::C } => {
                let mut channel = 0;
                for &x in xs {
                    for i in 0..shapes[x].c {
                        self.join((x, i), (result, channel));
                        channel += 1;
                    }
                }
            }
            Op::Slice { x, axis: Axis::C, from, step, .. } => {
                (0..c).for_each(|i| self.join((*x, from + i * step), (result, i)));
            }
            Op::Shuffle { x, groups } => {
                (0..c).for_each(|i| self.join((*x, i % groups * (c / groups) + i / groups), (result, i)));
            }
            Op::Combine { x, y, with: Arithmetic::Add, then: Activation::None | Activation::Relu }
                if shapes[*x] == shapes[*y] =>
            {
                (0..c).for_each(|i| {
                    self.join((*x, i), (result, i));
                    self.join((*y, i), (result, i));
                });
            }
            Op::Concat { .. }
            | Op::Slice { .. }
            | Op::Resize { .. }
            | Op::Convert { .. }
            | Op::Pool { pooling: Pooling::Max | Pooling::Mean | Pooling::PaddedMean, .. } => {
                for x in op.inputs() {
                    (0..c).for_each(|i| self.join((x, i), (result, i)));
                }
            }
            Op::Reshape { x, .. } if shapes[*x].c == c => {
                (0..c).for_each(|i| self.join((*x, i), (result, i)));
            }
            _ => {
                op.inputs().into_iter().for_each(|x| self.lock(program, x));
                self.lock(program, result);
            }
        }
    }
}
