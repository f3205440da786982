//! What operations read: maps whose norms are applied on the way, and gradients that go back through these norms.
//!
//! The result of a convolution is kept as it is before its norm. Whoever reads it normalises and activates what it reads,
//! while it is in the cache anyway: memory is what is scarce, not arithmetic.

use super::super::super::{TASK, each_variant, vectorised};
use super::super::Activation;
use super::super::moments::{EPSILON, Moments};
use rayon::prelude::*;
use std::ops::Range;

/// Runs `$body` for all channels, `$L` of them from `$c` on at a time: as many as stay in registers.
macro_rules! each_block {
    ($channels:expr, $c:ident, $L:ident => $body:expr) => {{
        let mut $c = 0;
        while $c + 16 <= $channels {
            const $L: usize = 16;
            $body;
            $c += $L;
        }
        while $c + 8 <= $channels {
            const $L: usize = 8;
            $body;
            $c += $L;
        }
        while $c < $channels {
            const $L: usize = 1;
            $body;
            $c += $L;
        }
    }};
}
pub(super) use each_block;

#[inline(always)]
pub(super) fn lanes<const L: usize>(numbers: &[f32], at: usize) -> &[f32; L] {
    numbers[at..at + L].try_into().expect("L numbers")
}

#[inline(always)]
pub(super) fn lanes_mut<const L: usize>(numbers: &mut [f32], at: usize) -> &mut [f32; L] {
    (&mut numbers[at..at + L]).try_into().expect("L numbers")
}

/// A norm and an activation that readers apply.
#[derive(Debug)]
pub(super) struct Norm {
    activation: Activation,
    mean: Vec<f32>,
    /// `1 / √(σ² + ε)`
    inverses: Vec<f32>,
    /// Of the batch whose moments these are; 0 if they are constants.
    rows: usize,
    /// What numbers are multiplied with.
    factor: Vec<f32>,
    /// What is added after that.
    offset: Vec<f32>,
}

/// Of each channel: `Σ g` and `Σ g (y − μ)`, g being the gradient before the activation.
pub(super) struct Sums {
    plain: Vec<f32>,
    along: Vec<f32>,
}

impl Sums {
    /// In f64 and in order, so that it does not depend on the threads.
    pub(super) fn total(parts: Vec<Self>) -> Self {
        let total = |of: fn(&Self) -> &[f32]| {
            let mut sums = vec![0.0_f64; of(&parts[0]).len()];
            for part in &parts {
                sums.iter_mut().zip(of(part)).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            sums.into_iter().map(|sum| sum as f32).collect()
        };
        Self { plain: total(|part| &part.plain), along: total(|part| &part.along) }
    }
}

/// Where the gradient of maps goes.
pub(super) struct Target<'a> {
    pub(super) numbers: &'a mut [f32],
    /// Whether there are numbers in it already, to which more are added.
    pub(super) add: bool,
    /// The maps, if they have a norm and this is the last part of their gradient: then its sums are taken while it is in
    /// the cache.
    pub(super) last: Option<(Lens<'a>, &'a Norm)>,
}

impl Norm {
    pub(super) fn new(moments: &Moments, [weight, bias]: [&[f32]; 2], activation: Activation) -> Self {
        let inverses: Vec<f32> = moments.variance.iter().map(|v| (v + EPSILON).sqrt().recip()).collect();
        let factor: Vec<f32> = weight.iter().zip(&inverses).map(|(weight, inverse)| weight * inverse).collect();
        let offset = bias.iter().zip(&moments.mean).zip(&factor).map(|((bias, mean), factor)| bias - mean * factor);
        let (offset, mean) = (offset.collect(), moments.mean.clone());
        Self { activation, mean, inverses, rows: moments.rows, factor, offset }
    }

    /// Sums over all rows, on all threads.
    pub(super) fn sums(&self, y: &[f32], gradient: &[f32]) -> Sums {
        let task = self.task();
        let part = |(y, gradient): (&[f32], &[f32])| self.sum_rows(y, gradient);
        Sums::total(y.par_chunks(task).zip(gradient.par_chunks(task)).map(part).collect())
    }

    /// Parts of the sums over some rows, on this thread.
    pub(super) fn add_parts(&self, y: &[f32], gradient: &[f32], parts: &mut Vec<Sums>) {
        let task = self.task();
        parts.extend(y.chunks(task).zip(gradient.chunks(task)).map(|(y, gradient)| self.sum_rows(y, gradient)));
    }

    /// Numbers whose rows are summed in f32.
    fn task(&self) -> usize {
        (TASK / self.mean.len()).max(1) * self.mean.len()
    }

    fn sum_rows(&self, y: &[f32], gradient: &[f32]) -> Sums {
        let channels = self.mean.len();
        let mut sums = Sums { plain: vec![0.0; channels], along: vec![0.0; channels] };
        each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, self.activation, ACTIVATION => vectorised(
            #[inline(always)]
            || self.add_sums(ACTIVATION, y, gradient, &mut sums),
        ));
        sums
    }

    #[inline(always)]
    fn add_sums(&self, activation: Activation, y: &[f32], gradient: &[f32], sums: &mut Sums) {
        let channels = self.mean.len();
        let Sums { plain, along } = sums;
        for (y, gradient) in y.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
            each_block!(channels, c, L => {
                let (factor, offset) = (*lanes::<L>(&self.factor, c), *lanes::<L>(&self.offset, c));
                let mean = *lanes::<L>(&self.mean, c);
                let (y, gradient) = (lanes::<L>(y, c), lanes::<L>(gradient, c));
                let (plain, along) = (lanes_mut::<L>(plain, c), lanes_mut::<L>(along, c));
                for l in 0..L {
                    let g = gradient[l] * activation.at(y[l].mul_add(factor[l], offset[l])).1;
                    plain[l] += g;
                    along[l] = (y[l] - mean[l]).mul_add(g, along[l]);
                }
            });
        }
    }

    /// The gradients of the norm's weight and bias: `Σ g (y − μ) / √(σ² + ε)` and `Σ g`.
    pub(super) fn of_parameters(&self, sums: &Sums) -> [Vec<f32>; 2] {
        let of_weight = sums.along.iter().zip(&self.inverses).map(|(sum, inverse)| sum * inverse);
        [of_weight.collect(), sums.plain.clone()]
    }
}

/// The moments of rows, read once after they were written: mean and sum of squared differences from it. Sums are of
/// differences from the first row, which loses less where the mean is far from 0.
pub(super) fn moments(rows: &[f32], channels: usize) -> [Vec<f32>; 2] {
    let (mut means, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    let inverse = channels as f32 / rows.len() as f32;
    vectorised(
        #[inline(always)]
        || {
            each_block!(channels, c, L => {
                let first = *lanes::<L>(rows, c);
                let mut mean = [0.0_f32; L];
                for row in rows.chunks_exact(channels) {
                    let row = lanes::<L>(row, c);
                    for l in 0..L {
                        mean[l] += row[l] - first[l];
                    }
                }
                for l in 0..L {
                    mean[l] = first[l] + mean[l] * inverse;
                }
                let mut square = [0.0_f32; L];
                for row in rows.chunks_exact(channels) {
                    let row = lanes::<L>(row, c);
                    for l in 0..L {
                        let difference = row[l] - mean[l];
                        square[l] = difference.mul_add(difference, square[l]);
                    }
                }
                *lanes_mut::<L>(&mut means, c) = mean;
                *lanes_mut::<L>(&mut squares, c) = square;
            });
        },
    );
    [means, squares]
}

/// Maps as their readers see them.
#[derive(Clone, Copy)]
pub(super) struct Lens<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) channels: usize,
    pub(super) norm: Option<&'a Norm>,
}

impl Lens<'_> {
    /// Writes rows into the first columns of rows of `stride` numbers.
    pub(super) fn read(&self, rows: Range<usize>, out: &mut [f32], stride: usize) {
        let channels = self.channels;
        let x = &self.numbers[rows.start * channels..rows.end * channels];
        let Some(norm) = self.norm else {
            for (x, out) in x.chunks_exact(channels).zip(out.chunks_mut(stride)) {
                out[..channels].copy_from_slice(x);
            }
            return;
        };
        each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, norm.activation, ACTIVATION => vectorised(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(channels).zip(out.chunks_mut(stride)) {
                    each_block!(channels, c, L => *lanes_mut::<L>(out, c) = norm.forward::<L>(ACTIVATION, x, c)(0));
                }
            },
        ));
    }

    /// Calls `f` with what gives `L` channels of a row, from channel `c` on.
    #[inline(always)]
    pub(super) fn lanes<const L: usize>(&self, c: usize, f: &mut impl Rows<L>) {
        let Self { numbers, channels, norm } = *self;
        match norm {
            None => f.see(
                #[inline(always)]
                |row| *lanes::<L>(numbers, row * channels + c),
            ),
            Some(norm) => {
                each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, norm.activation, ACTIVATION => {
                    f.see(norm.forward::<L>(ACTIVATION, numbers, c))
                })
            }
        }
    }
}

/// What looks at some channels of rows.
pub(super) trait Rows<const L: usize> {
    fn see(&mut self, at: impl Fn(usize) -> [f32; L]);
}

impl Norm {
    /// Gives channels of a row as readers see them.
    #[inline(always)]
    fn forward<const L: usize>(&self, activation: Activation, y: &[f32], c: usize) -> impl Fn(usize) -> [f32; L] {
        let channels = self.mean.len();
        let (factor, offset) = (*lanes::<L>(&self.factor, c), *lanes::<L>(&self.offset, c));
        #[inline(always)]
        move |row| {
            let y = lanes::<L>(y, row * channels + c);
            let mut out = [0.0; L];
            for l in 0..L {
                out[l] = activation.at(y[l].mul_add(factor[l], offset[l])).0;
            }
            out
        }
    }
}

/// The gradient of a convolution's result, out of that of what its readers see.
pub(super) struct Slope<'a> {
    y: &'a [f32],
    gradient: &'a [f32],
    channels: usize,
    norm: Option<(&'a Norm, Sums)>,
}

impl<'a> Slope<'a> {
    /// With g the gradient before the activation, ŷ the normalised number and s the factor it is
    /// `s (g − mean(g) − ŷ mean(g ŷ))`, of which only `s g` is left where the moments are constants.
    pub(super) fn new(lens: Lens<'a>, gradient: &'a [f32], sums: Option<&Sums>) -> Self {
        let norm = lens.norm.zip(sums).map(|(norm, sums)| {
            let share = if norm.rows == 0 { 0.0 } else { (norm.rows as f32).recip() };
            let along = sums.along.iter().zip(&norm.inverses).map(|(sum, inverse)| sum * inverse * inverse * share);
            (norm, Sums { plain: sums.plain.iter().map(|sum| sum * share).collect(), along: along.collect() })
        });
        Self { y: lens.numbers, gradient, channels: lens.channels, norm }
    }

    /// Rows, in `scratch` if they have to be computed.
    pub(super) fn rows<'s>(&'s self, rows: Range<usize>, scratch: &'s mut [f32]) -> &'s [f32] {
        let channels = self.channels;
        let numbers = rows.start * channels..rows.end * channels;
        let Some((norm, means)) = &self.norm else { return &self.gradient[numbers] };
        let out = &mut scratch[..numbers.len()];
        each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, norm.activation, ACTIVATION => vectorised(
            #[inline(always)]
            || {
                let [ys, gradients] = [self.y, self.gradient].map(|all| all[numbers.clone()].chunks_exact(channels));
                for ((y, gradient), out) in ys.zip(gradients).zip(out.chunks_exact_mut(channels)) {
                    each_block!(channels, c, L => {
                        *lanes_mut::<L>(out, c) = norm.backward::<L>(ACTIVATION, [y, gradient], means, c)(0);
                    });
                }
            },
        ));
        out
    }

    /// Calls `f` with what gives `L` channels of a row, from channel `c` on.
    #[inline(always)]
    pub(super) fn lanes<const L: usize>(&self, c: usize, f: &mut impl Rows<L>) {
        let (gradient, channels) = (self.gradient, self.channels);
        match &self.norm {
            None => f.see(
                #[inline(always)]
                |row| *lanes::<L>(gradient, row * channels + c),
            ),
            Some((norm, means)) => {
                each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, norm.activation, ACTIVATION => {
                    f.see(norm.backward::<L>(ACTIVATION, [self.y, gradient], means, c))
                })
            }
        }
    }
}

impl Norm {
    #[inline(always)]
    fn backward<const L: usize>(
        &self,
        activation: Activation,
        [y, gradient]: [&[f32]; 2],
        means: &Sums,
        c: usize,
    ) -> impl Fn(usize) -> [f32; L] {
        let channels = self.mean.len();
        let (factor, offset) = (*lanes::<L>(&self.factor, c), *lanes::<L>(&self.offset, c));
        let (mean, plain, along) =
            (*lanes::<L>(&self.mean, c), *lanes::<L>(&means.plain, c), *lanes::<L>(&means.along, c));
        #[inline(always)]
        move |row| {
            let at = row * channels + c;
            let (y, gradient) = (lanes::<L>(y, at), lanes::<L>(gradient, at));
            let mut out = [0.0; L];
            for l in 0..L {
                let g = gradient[l] * activation.at(y[l].mul_add(factor[l], offset[l])).1;
                out[l] = factor[l] * (g - plain[l] - along[l] * (y[l] - mean[l]));
            }
            out
        }
    }
}
