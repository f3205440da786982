//! Batch norms by the statistics of a batch, or by those of many.

use super::super::super::by_hand::of_two;
use super::super::Activation;
use super::super::moments::{EPSILON, Moments};
use super::column_sums;
use candle_core::{DType, Result, Tensor, bail};

/// What a norm saw of a batch, where that is.
pub struct Batch {
    /// `[1, channels]`
    mean: Tensor,
    /// `[1, channels]`
    variance: Tensor,
    rows: usize,
}

impl Batch {
    /// What several norms saw. The device is waited for once.
    ///
    /// # Errors
    /// What the device says.
    pub fn moments(all: &[Self]) -> Result<Vec<Moments>> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<&Tensor> = all.iter().flat_map(|Self { mean, variance, .. }| [mean, variance]).collect();
        let numbers: Vec<f32> = Tensor::cat(&numbers, 1)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        let mut numbers = numbers.into_iter();
        let moments = |Self { mean, rows, .. }: &Self| {
            let mut next = || numbers.by_ref().take(mean.elem_count()).collect();
            Moments { mean: next(), variance: next(), rows: *rows }
        };
        Ok(all.iter().map(moments).collect())
    }
}

/// `activation(weight · (x − mean) / √(variance + ε) + bias)` by the moments of the rows of `x`, `[rows, channels]`, and these.
/// Gradients go through them: with g the gradient before the activation and x̂ the normalised number it is `∂β = Σ g`,
/// `∂γ = Σ g x̂`, and `∂x = γ / √(σ² + ε) · (g − mean(g) − x̂ mean(g x̂))`.
///
/// # Errors
/// If the shapes do not fit.
pub fn norm_of_batch(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<(Tensor, Batch)> {
    let rows = check(x, weight, bias)?;
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
    Ok((activation.composed(&scaled)?, Batch { mean, variance, rows }))
}

/// `activation(weight · (x − mean) / √(variance + ε) + bias)` by moments that are constants.
///
/// # Errors
/// If the shapes do not fit.
pub fn norm(x: &Tensor, weight: &Tensor, bias: &Tensor, moments: &Moments, activation: Activation) -> Result<Tensor> {
    check(x, weight, bias)?;
    let constant = |numbers: &[f32]| Tensor::new(numbers, x.device())?.to_dtype(x.dtype());
    let inverse = (constant(&moments.variance)? + f64::from(EPSILON))?.sqrt()?.recip()?;
    let scaled = x.broadcast_sub(&constant(&moments.mean)?)?.broadcast_mul(&inverse)?;
    activation.composed(&scaled.broadcast_mul(weight)?.broadcast_add(bias)?)
}

/// How many rows there are.
fn check(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<usize> {
    let (rows, channels) = x.dims2()?;
    if rows == 0 || [weight.dims1()?, bias.dims1()?] != [channels; 2] {
        bail!("a norm of {:?} and {:?} for {rows} rows of {channels}", weight.shape(), bias.shape());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::check::{Case, check, close};
    use super::*;
    use candle_core::Device;

    const ACTIVATIONS: [Activation; 4] =
        [Activation::Relu, Activation::LeakyRelu, Activation::HardSwish, Activation::Silu];

    #[test]
    fn gradients() {
        let moments = Moments { mean: vec![0.3, -0.2, 0.1], variance: vec![0.5, 2.0, 1.0], rows: 0 };
        for activation in ACTIVATIONS {
            let of_batch = |t: &[Tensor]| Ok(norm_of_batch(&t[0], &t[1], &t[2], activation)?.0);
            check(Case::new(&[&[9, 5], &[5], &[5]]), of_batch, of_batch);
            let constant = |t: &[Tensor]| norm(&t[0], &t[1], &t[2], &moments, activation);
            check(Case::new(&[&[7, 3], &[3], &[3]]), constant, constant);
        }
    }

    #[test]
    fn moments_of_batches() {
        let line = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
        let seen = [[1.0_f32, 5.0, 3.0, 5.0], [0.0, 2.0, 0.0, 4.0]].map(|x| {
            let x = Tensor::from_slice(&x, (2, 2), &Device::Cpu).unwrap();
            norm_of_batch(&x, &line, &line, Activation::Relu).unwrap().1
        });
        let all = Batch::moments(&seen).unwrap();
        assert_eq!((all.len(), all[0].rows), (2, 2));
        for (moments, [mean, variance]) in all.iter().zip([[[2.0, 5.0], [1.0, 0.0]], [[0.0, 3.0], [0.0, 1.0]]]) {
            close("mean", &moments.mean.iter().map(|&x| x.into()).collect::<Vec<_>>(), &mean, 1e-6);
            close("variance", &moments.variance.iter().map(|&x| x.into()).collect::<Vec<_>>(), &variance, 1e-6);
        }
        assert!(Batch::moments(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let zeros = |rows: usize| Tensor::zeros((rows, 3), DType::F32, &Device::Cpu).unwrap();
        let line = |channels: usize| Tensor::zeros(channels, DType::F32, &Device::Cpu).unwrap();
        let of_batch = |x: &Tensor, channels| norm_of_batch(x, &line(channels), &line(channels), Activation::Relu);
        assert!(of_batch(&zeros(4), 3).is_ok() && of_batch(&zeros(4), 2).is_err() && of_batch(&zeros(0), 3).is_err());
        let constant = |moments| norm(&zeros(4), &line(3), &line(3), &moments, Activation::Relu);
        assert!(constant(Moments::standard(3)).is_ok() && constant(Moments::standard(2)).is_err());
    }
}
