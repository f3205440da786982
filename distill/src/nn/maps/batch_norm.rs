//! Batch norms (Ioffe and Szegedy 2015), with what is applied to their result.
//!
//! With the mean μ and variance σ² of each channel: `y = f(γ (x − μ) / √(σ² + ε) + β)`. In training they are those of the
//! batch, and gradients go through them; afterwards they are running means of those, and the whole norm becomes part of
//! the convolution before it.

use super::super::{TASK, by_hand::of_two, each_variant, fill_rows, fused, numbers, tensor, vectorised, with_numbers};
use super::{Activation, composed::column_sums};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::Arc;

/// ε of all norms.
pub const EPSILON: f32 = 1e-5;

/// The mean and the variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `[channels]`
    pub mean: Vec<f32>,
    /// `[channels]`: the mean of the squared differences from the mean.
    pub variance: Vec<f32>,
    /// What they are of; 0 if they are no batch's.
    pub rows: usize,
}

impl Moments {
    /// Mean 0 and variance 1, as if nothing was known.
    pub fn standard(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], variance: vec![1.0; channels], rows: 0 }
    }

    /// Those of the rows of `x`, `[rows, channels]`, on the CPU in f32.
    ///
    /// # Errors
    /// For another tensor, or one without rows.
    pub fn of(x: &Tensor) -> Result<Self> {
        let (rows, channels) = x.dims2()?;
        if rows == 0 {
            bail!("a batch without rows has no mean");
        }
        with_numbers([&x.detach()], |[x]| moments(x, channels))
    }

    /// Moves towards those of a batch by `momentum`, 0 to 1. Its variance is that of a sample, so it is multiplied by
    /// `rows / (rows − 1)`.
    ///
    /// # Panics
    /// If the batch has other channels.
    pub fn follow(&mut self, batch: &Self, momentum: f32) {
        assert_eq!(self.mean.len(), batch.mean.len());
        let unbiased = batch.rows as f32 / (batch.rows.max(2) - 1) as f32;
        for (running, &now) in self.mean.iter_mut().zip(&batch.mean) {
            *running += momentum * (now - *running);
        }
        for (running, &now) in self.variance.iter_mut().zip(&batch.variance) {
            *running += momentum * (now * unbiased - *running);
        }
    }

    /// `1 / √(σ² + ε)`
    fn inverses(&self) -> Vec<f32> {
        self.variance.iter().map(|variance| (variance + EPSILON).sqrt().recip()).collect()
    }
}

/// The rows are read once: each task finds its own mean and sum of squared differences, and these are combined in f64
/// (Chan, Golub and LeVeque 1979).
fn moments(x: &[f32], channels: usize) -> Moments {
    let task = |x: &[f32]| {
        let (mut mean, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        vectorised(
            #[inline(always)]
            || task_moments(x, &mut mean, &mut squares),
        );
        (x.len() / channels, mean, squares)
    };
    let tasks: Vec<_> = x.par_chunks((TASK / channels).max(1) * channels).map(task).collect();
    let (mut rows, mut mean, mut squares) = (0.0, vec![0.0_f64; channels], vec![0.0_f64; channels]);
    for (more, its_mean, its_squares) in tasks {
        let more = more as f64;
        for i in 0..channels {
            let difference = f64::from(its_mean[i]) - mean[i];
            mean[i] += difference * more / (rows + more);
            squares[i] += f64::from(its_squares[i]) + difference * difference * rows * more / (rows + more);
        }
        rows += more;
    }
    Moments {
        mean: mean.into_iter().map(|x| x as f32).collect(),
        variance: squares.into_iter().map(|x| (x / rows) as f32).collect(),
        rows: rows as usize,
    }
}

/// Means and sums of squared differences from them. Sums are of differences from the first row, which loses less where the
/// mean is far from 0.
#[inline(always)]
fn task_moments(x: &[f32], mean: &mut [f32], squares: &mut [f32]) {
    let channels = mean.len();
    let (first, squares) = (&x[..channels], &mut squares[..channels]);
    for row in x.chunks_exact(channels) {
        for i in 0..channels {
            mean[i] += row[i] - first[i];
        }
    }
    let inverse = 1.0 / (x.len() / channels) as f32;
    for i in 0..channels {
        mean[i] = first[i] + mean[i] * inverse;
    }
    for row in x.chunks_exact(channels) {
        for i in 0..channels {
            let difference = row[i] - mean[i];
            squares[i] += difference * difference;
        }
    }
}

/// What a norm saw of a batch, wherever that is.
pub enum Batch {
    /// On the CPU.
    Known(Arc<Moments>),
    /// On another device.
    There {
        /// `[1, channels]`
        mean: Tensor,
        /// `[1, channels]`
        variance: Tensor,
        /// Rows of the batch.
        rows: usize,
    },
}

impl Batch {
    /// What several norms saw. Another device is waited for once.
    ///
    /// # Errors
    /// What the device says.
    pub fn moments(all: Vec<Self>) -> Result<Vec<Arc<Moments>>> {
        let there = all.iter().filter_map(|batch| match batch {
            Self::Known(_) => None,
            Self::There { mean, variance, .. } => Some([mean, variance]),
        });
        let there: Vec<&Tensor> = there.flatten().collect();
        let numbers = match there.is_empty() {
            true => Vec::new(),
            false => Tensor::cat(&there, 1)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?,
        };
        let mut numbers = numbers.into_iter();
        let moments = all.into_iter().map(|batch| match batch {
            Self::Known(moments) => Ok(moments),
            Self::There { mean, rows, .. } => {
                let mut next = || numbers.by_ref().take(mean.elem_count()).collect();
                Ok(Arc::new(Moments { mean: next(), variance: next(), rows }))
            }
        });
        moments.collect()
    }
}

/// [`batch_norm`] by the moments of the rows of `x`, and these.
///
/// # Errors
/// If the shapes do not fit.
pub fn norm_of_batch(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<(Tensor, Batch)> {
    if fused(&[x, weight, bias]) {
        let moments = Arc::new(Moments::of(x)?);
        return Ok((batch_norm(x, weight, bias, &moments, activation)?, Batch::Known(moments)));
    }
    composed_of_batch(x, weight, bias, activation)
}

/// `activation(weight · (x − mean) / √(variance + ε) + bias)` for `x` of `[rows, channels]`. If the moments are [those of the
/// rows](Moments::of), gradients go through them; otherwise (`rows` is 0) they are constants.
///
/// # Errors
/// If the shapes do not fit.
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    moments: &Arc<Moments>,
    activation: Activation,
) -> Result<Tensor> {
    let (rows, channels) = x.dims2()?;
    if [weight.dims1()?, bias.dims1()?, moments.mean.len(), moments.variance.len()] != [channels; 4] {
        let (weight, bias) = (weight.shape(), bias.shape());
        bail!("a norm of {weight:?}, {bias:?} and {} channels for {channels}", moments.mean.len());
    }
    if ![0, rows].contains(&moments.rows) {
        bail!("moments of {} rows for {rows}", moments.rows);
    }
    match fused(&[x, weight, bias]) {
        true => x.contiguous()?.apply_op3(weight, bias, Norm { moments: moments.clone(), activation }),
        false => composed(x, weight, bias, moments, activation),
    }
}

fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor, moments: &Moments, activation: Activation) -> Result<Tensor> {
    if moments.rows > 0 {
        return Ok(composed_of_batch(x, weight, bias, activation)?.0);
    }
    let constant = |x: &[f32], like: &Tensor| Tensor::new(x, like.device())?.to_dtype(like.dtype());
    let inverse = (constant(&moments.variance, x)? + f64::from(EPSILON))?.sqrt()?.recip()?;
    let scaled = x.broadcast_sub(&constant(&moments.mean, x)?)?.broadcast_mul(&inverse)?;
    activation.composed(&scaled.broadcast_mul(weight)?.broadcast_add(bias)?)
}

/// With the backward pass of [`Norm`].
fn composed_of_batch(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<(Tensor, Batch)> {
    let rows = x.dim(0)?;
    let mean_of = move |x: &Tensor| column_sums(x)? / rows as f64;
    let plain = x.detach();
    let mean = mean_of(&plain)?;
    let centred = plain.broadcast_sub(&mean)?;
    let variance = mean_of(&centred.sqr()?)?;
    let inverse = (&variance + f64::from(EPSILON))?.sqrt()?.recip()?;
    let normal = centred.broadcast_mul(&inverse)?;
    let part = |line: &Tensor, which: usize| line.narrow(0, which, 1);
    let line = Tensor::stack(&[weight, bias], 0)?;
    let here = normal.clone();
    let scaled = of_two(
        x,
        &line,
        |_, line| here.broadcast_mul(&part(line, 0)?)?.broadcast_add(&part(line, 1)?),
        move |_, line, gradient| {
            let (plain, along) = (column_sums(gradient)?, column_sums(&(gradient * &normal)?)?);
            let means = normal.broadcast_mul(&(&along / rows as f64)?)?.broadcast_add(&(&plain / rows as f64)?)?;
            let of_x = (gradient - means)?.broadcast_mul(&(part(line, 0)? * &inverse)?)?;
            Ok((of_x, Tensor::cat(&[along, plain], 0)?))
        },
    )?;
    Ok((activation.composed(&scaled)?, Batch::There { mean, variance, rows }))
}

struct Norm {
    moments: Arc<Moments>,
    activation: Activation,
}

/// What the norm multiplies with, and adds after that.
struct Line {
    factor: Vec<f32>,
    offset: Vec<f32>,
}

impl Norm {
    fn line(&self, inverses: &[f32], weight: &[f32], bias: &[f32]) -> Line {
        let factor: Vec<f32> = weight.iter().zip(inverses).map(|(weight, inverse)| weight * inverse).collect();
        let offset =
            bias.iter().zip(&self.moments.mean).zip(&factor).map(|((bias, mean), factor)| bias - mean * factor);
        Line { offset: offset.collect(), factor }
    }
}

#[inline(always)]
fn forward(activation: Activation, x: &[f32], line: &Line, out: &mut [f32]) {
    let channels = line.factor.len();
    let (factor, offset) = (&line.factor[..channels], &line.offset[..channels]);
    for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
        for i in 0..channels {
            out[i] = activation.at(x[i] * factor[i] + offset[i]).0;
        }
    }
}

/// Of each channel, over some rows: `Σ g` and `Σ g (x − μ)`, g being the gradient before the activation.
#[inline(always)]
fn sums(activation: Activation, x: &[f32], gradient: &[f32], line: &Line, mean: &[f32]) -> [Vec<f32>; 2] {
    let channels = line.factor.len();
    let (factor, offset, mean) = (&line.factor[..channels], &line.offset[..channels], &mean[..channels]);
    let (mut plain, mut along) = (vec![0.0; channels], vec![0.0; channels]);
    for (x, gradient) in x.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
        for i in 0..channels {
            let g = gradient[i] * activation.at(x[i] * factor[i] + offset[i]).1;
            plain[i] += g;
            along[i] += g * (x[i] - mean[i]);
        }
    }
    [plain, along]
}

/// The gradient of the rows: `factor · (g − plain − along · (x − μ))`.
#[inline(always)]
fn backward(
    activation: Activation,
    [x, gradient]: [&[f32]; 2],
    line: &Line,
    mean: &[f32],
    means: &[Vec<f32>; 2],
    out: &mut [f32],
) {
    let channels = line.factor.len();
    let (factor, offset, mean) = (&line.factor[..channels], &line.offset[..channels], &mean[..channels]);
    let (plain, along) = (&means[0][..channels], &means[1][..channels]);
    let rows = x.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    for (out, (x, gradient)) in out.chunks_exact_mut(channels).zip(rows) {
        for i in 0..channels {
            let g = gradient[i] * activation.at(x[i] * factor[i] + offset[i]).1;
            out[i] = factor[i] * (g - plain[i] - along[i] * (x[i] - mean[i]));
        }
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let channels = weight_layout.shape().dims1()?;
        let (x, weight, bias) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?, numbers(bias, bias_layout)?);
        let line = self.line(&self.moments.inverses(), weight, bias);
        let mut out = vec![0.0; x.len()];
        each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, self.activation, ACTIVATION => fill_rows(
            &mut out,
            channels,
            #[inline(always)]
            |first, out| forward(ACTIVATION, &x[first * channels..], &line, out),
        ));
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    /// With g the gradient before the activation, x̂ the normalised number and s the factor: `∂β = Σ g`, `∂γ = Σ g x̂`, and
    /// `∂x = s (g − mean(g) − x̂ mean(g x̂))`, of which only `s g` is left where the moments are constants.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let channels = weight.dim(0)?;
        let (of_x, of_weight, of_bias) = with_numbers([x, weight, bias, gradient], |[x, weight, bias, gradient]| {
            let (mean, inverses) = (&self.moments.mean, self.moments.inverses());
            let line = self.line(&inverses, weight, bias);
            let task = (TASK / channels).max(1) * channels;
            let parts: Vec<[Vec<f32>; 2]> = each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, self.activation, ACTIVATION => {
                let sums = |(x, gradient): (&[f32], &[f32])| {
                    vectorised(
                        #[inline(always)]
                        || sums(ACTIVATION, x, gradient, &line, mean),
                    )
                };
                x.par_chunks(task).zip(gradient.par_chunks(task)).map(sums).collect()
            });
            // In order, so that the sums do not depend on the threads.
            let [plain, along] = [0, 1].map(|which| {
                let total = |i: usize| parts.iter().map(|part| f64::from(part[which][i])).sum::<f64>() as f32;
                (0..channels).map(total).collect::<Vec<f32>>()
            });
            let share = if self.moments.rows == 0 { 0.0 } else { (self.moments.rows as f32).recip() };
            let means = [
                plain.iter().map(|sum| sum * share).collect(),
                along.iter().zip(&inverses).map(|(sum, inverse)| sum * inverse * inverse * share).collect(),
            ];
            let mut of_x = vec![0.0; x.len()];
            each_variant!(Activation::{Relu, LeakyRelu, HardSwish, Silu}, self.activation, ACTIVATION => {
                let tasks = of_x.par_chunks_mut(task).zip(x.par_chunks(task)).zip(gradient.par_chunks(task));
                tasks.for_each(|((of_x, x), gradient)| {
                    vectorised(
                        #[inline(always)]
                        || backward(ACTIVATION, [x, gradient], &line, mean, &means, of_x),
                    );
                });
            });
            let of_weight: Vec<f32> = along.iter().zip(&inverses).map(|(sum, inverse)| sum * inverse).collect();
            (of_x, of_weight, plain)
        })?;
        Ok((Some(tensor(of_x, x)?), Some(tensor(of_weight, weight)?), Some(tensor(of_bias, bias)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::{Case, check, close, list};
    use super::*;
    use candle_core::Device;

    const ACTIVATIONS: [Activation; 4] =
        [Activation::Relu, Activation::LeakyRelu, Activation::HardSwish, Activation::Silu];

    fn of_batch(t: &[Tensor]) -> Arc<Moments> {
        Arc::new(Moments::of(&t[0].to_dtype(candle_core::DType::F32).unwrap()).unwrap())
    }

    #[test]
    fn gradients_through_the_moments() {
        for activation in ACTIVATIONS {
            check(
                Case::new(&[&[9, 5], &[5], &[5]]),
                |t| batch_norm(&t[0], &t[1], &t[2], &of_batch(t), activation),
                |t| composed(&t[0], &t[1], &t[2], &of_batch(t), activation),
            );
        }
    }

    #[test]
    fn gradients_past_the_moments() {
        let moments = Arc::new(Moments { mean: vec![0.3, -0.2, 0.1], variance: vec![0.5, 2.0, 1.0], rows: 0 });
        for activation in ACTIVATIONS {
            check(
                Case::new(&[&[7, 3], &[3], &[3]]),
                |t| batch_norm(&t[0], &t[1], &t[2], &moments, activation),
                |t| composed(&t[0], &t[1], &t[2], &moments, activation),
            );
        }
    }

    #[test]
    fn moments_of_many_rows_far_from_zero() {
        let (rows, channels) = (40_001, 3);
        let at = |row: usize, c: usize| 1000.0 * c as f64 + (row as f64 * 0.7 + c as f64).sin();
        let numbers = (0..rows * channels).map(|i| at(i / channels, i % channels) as f32).collect();
        let x = Tensor::from_vec(numbers, (rows, channels), &Device::Cpu).unwrap();
        let moments = Moments::of(&x).unwrap();
        for (c, column) in (0..channels).map(|c| (c, list(&x.narrow(1, c, 1).unwrap()))) {
            let mean = column.iter().sum::<f64>() / rows as f64;
            let variance = column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / rows as f64;
            close("mean", &[moments.mean[c].into()], &[mean], 1e-6);
            close("variance", &[moments.variance[c].into()], &[variance], 1e-5);
        }
        assert_eq!(moments.rows, rows);
    }

    #[test]
    fn running_moments_follow_those_of_batches() {
        let mut running = Moments::standard(1);
        let batch = Moments { mean: vec![2.0], variance: vec![3.0], rows: 4 };
        running.follow(&batch, 0.1);
        close("mean", &[running.mean[0].into()], &[0.2], 1e-6);
        close("variance", &[running.variance[0].into()], &[0.9 + 0.1 * 4.0], 1e-6); // 3 × 4 / 3
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Tensor::zeros((4, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let three = x.narrow(0, 0, 1).unwrap().squeeze(0).unwrap();
        let with = |moments: Moments| batch_norm(&x, &three, &three, &Arc::new(moments), Activation::Relu);
        assert!(with(Moments::standard(3)).is_ok());
        assert!(with(Moments::standard(2)).is_err());
        assert!(with(Moments { rows: 5, ..Moments::standard(3) }).is_err());
        assert!(Moments::of(&x.narrow(0, 0, 0).unwrap()).is_err());
    }
}
