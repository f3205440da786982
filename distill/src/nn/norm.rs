//! RMS norms (Zhang and Sennrich 2019).

use super::{by_hand::of_two, fill_rows, fused, numbers, tensor, with_numbers};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `x / √(mean(x²) + ε) × weight`, over rows of `[n, width]`.
///
/// # Errors
/// If the weight is not `[width]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    match fused(&[x, weight]) {
        true => x.apply_op2(weight, RmsNorm { epsilon }),
        false => composed(x, weight, epsilon),
    }
}

fn composed(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    let inverse = move |x: &Tensor| (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(epsilon))?.sqrt()?.recip();
    of_two(
        x,
        weight,
        |x, weight| x.broadcast_mul(&inverse(x)?)?.broadcast_mul(weight),
        // As in the fused form below, where r is the inverse.
        move |x, weight, gradient| {
            let r = inverse(x)?;
            let normed = x.broadcast_mul(&r)?;
            let of_weight = (gradient * &normed)?.sum(0)?;
            let of_normed = gradient.broadcast_mul(weight)?;
            let along = (&of_normed * &normed)?.mean_keepdim(D::Minus1)?;
            Ok(((of_normed - normed.broadcast_mul(&along)?)?.broadcast_mul(&r)?, of_weight))
        },
    )
}

struct RmsNorm {
    epsilon: f32,
}

impl RmsNorm {
    /// `1 / √(mean(x²) + ε)`
    #[inline(always)]
    fn inverse(&self, row: &[f32]) -> f32 {
        (dot(row, row, |_| 1.0) / row.len() as f32 + self.epsilon).sqrt().recip()
    }
}

/// `Σ a b factor(i)`, in lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32], factor: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let whole = a.len() / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            sums[lane] += a[i + lane] * b[i + lane] * factor(i + lane);
        }
    }
    let rest: f32 = (whole..a.len()).map(|i| a[i] * b[i] * factor(i)).sum();
    sums.iter().sum::<f32>() + rest
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, width) = x_layout.shape().dims2()?;
        if weight_layout.shape().dims1()? != width {
            candle_core::bail!("a norm of {:?} does not fit rows of {width}", weight_layout.shape());
        }
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let mut out = vec![0.0; n * width];
        fill_rows(
            &mut out,
            width,
            #[inline(always)]
            |first, rows| {
                for (row, x) in rows.chunks_exact_mut(width).zip(x[first * width..].chunks_exact(width)) {
                    let inverse = self.inverse(x);
                    for ((out, x), weight) in row.iter_mut().zip(x).zip(weight) {
                        *out = x * inverse * weight;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    /// With r the inverse root: `∂x = r (g w − x r² mean(g w x))`, `∂w = Σ g x r`.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, width) = x.dims2()?;
        let (of_x, of_weight) = with_numbers([x, weight, gradient], |[x, weight, gradient]| {
            let mut of_x = vec![0.0; n * width];
            let rows = (super::TASK / width).max(1);
            let parts = of_x.par_chunks_mut(rows * width).enumerate();
            let part = |(i, of_x): (usize, &mut [f32])| {
                let (x, gradient) = (&x[i * rows * width..], &gradient[i * rows * width..]);
                super::vectorised(
                    #[inline(always)]
                    || self.backward(x, weight, gradient, of_x),
                )
            };
            // The parts' sums are added in order, so that the result does not depend on the threads.
            let parts: Vec<Vec<f32>> = parts.map(part).collect();
            let mut of_weight = vec![0.0; width];
            for part in parts {
                of_weight.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            (of_x, of_weight)
        })?;
        Ok((Some(tensor(of_x, x)?), Some(tensor(of_weight, weight)?)))
    }
}

impl RmsNorm {
    #[inline(always)]
    fn backward(&self, x: &[f32], weight: &[f32], gradient: &[f32], of_x: &mut [f32]) -> Vec<f32> {
        let width = weight.len();
        let mut of_weight = vec![0.0; width];
        for (row, out) in of_x.chunks_exact_mut(width).enumerate() {
            let (x, gradient) = (&x[row * width..][..width], &gradient[row * width..][..width]);
            let r = self.inverse(x);
            let mean = dot(gradient, x, |i| weight[i]) / width as f32;
            let along = r * r * mean;
            for i in 0..width {
                out[i] = r * (gradient[i] * weight[i] - x[i] * along);
                of_weight[i] += gradient[i] * x[i] * r;
            }
        }
        of_weight
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        for width in [5, 16, 35] {
            let case = Case::new(&[&[7, width], &[width]]);
            check(case, |t| rms_norm(&t[0], &t[1], 1e-5), |t| composed(&t[0], &t[1], 1e-5));
        }
    }
}
