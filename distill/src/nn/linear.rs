//! Products with weights.

use super::{by_hand::of_two, fused, numbers, tensor, with_numbers};
use crate::loss::matmul::{Matrix, multiply};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// `x · weightᵀ`: `[n, inputs]` with `[outputs, inputs]` is `[n, outputs]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !fused(&[x, weight]) {
        return composed(x, weight);
    }
    let nothing = Tensor::zeros((), x.dtype(), x.device())?;
    x.apply_op3(weight, &nothing, Linear { add: false })
}

/// `before + x · weightᵀ`: a layer's output on top of its input.
///
/// # Errors
/// If the shapes do not fit.
pub fn add_linear(before: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !fused(&[before, x, weight]) {
        return before + composed(x, weight)?;
    }
    x.apply_op3(weight, before, Linear { add: true })
}

/// Several products of the same `x`, side by side.
///
/// # Errors
/// If the shapes do not fit.
pub fn linears(x: &Tensor, weights: &[&Tensor]) -> Result<Tensor> {
    linear(x, &Tensor::cat(weights, 0)?)
}

fn composed(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    of_two(
        x,
        weight,
        |x, weight| x.matmul(&weight.t()?),
        |x, weight, gradient| Ok((gradient.matmul(weight)?, gradient.t()?.matmul(x)?)),
    )
}

struct Linear {
    add: bool,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        before: &CpuStorage,
        before_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((n, inputs), (outputs, width)) = (x_layout.shape().dims2()?, weight_layout.shape().dims2()?);
        let shape = Shape::from((n, outputs));
        if inputs != width || (self.add && before_layout.shape() != &shape) {
            candle_core::bail!("{n} rows of {inputs} do not fit weights of [{outputs}, {width}]");
        }
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let mut out = match self.add {
            true => numbers(before, before_layout)?.to_vec(),
            false => vec![0.0; n * outputs],
        };
        let (x, weight) = (Matrix::new(x, [n, inputs], inputs), Matrix::new(weight, [outputs, inputs], inputs));
        multiply(&mut out, outputs, self.add, 1.0, x, weight.transposed());
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((n, inputs), outputs) = (x.dims2()?, weight.dim(0)?);
        let (of_x, of_weight) = with_numbers([x, weight, gradient], |[x, weight, gradient]| {
            let x = Matrix::new(x, [n, inputs], inputs);
            let weight = Matrix::new(weight, [outputs, inputs], inputs);
            let gradient = Matrix::new(gradient, [n, outputs], outputs);
            let (mut of_x, mut of_weight) = (vec![0.0; n * inputs], vec![0.0; outputs * inputs]);
            multiply(&mut of_x, inputs, false, 1.0, gradient, weight);
            multiply(&mut of_weight, inputs, false, 1.0, gradient.transposed(), x);
            (of_x, of_weight)
        })?;
        let before = self.add.then(|| gradient.clone());
        Ok((Some(tensor(of_x, x)?), Some(tensor(of_weight, weight)?), before))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        check(Case::new(&[&[5, 6], &[4, 6]]), |t| linear(&t[0], &t[1]), |t| composed(&t[0], &t[1]));
        let sum = Case::new(&[&[5, 6], &[4, 6], &[5, 4]]);
        check(sum, |t| add_linear(&t[2], &t[0], &t[1]), |t| &t[2] + composed(&t[0], &t[1])?);
        let three = Case::new(&[&[5, 6], &[4, 6], &[3, 6]]);
        check(three, |t| linears(&t[0], &[&t[1], &t[2]]), |t| composed(&t[0], &Tensor::cat(&t[1..], 0)?));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let zeros = |shape: (usize, usize)| Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu);
        assert!(linear(&zeros((2, 3)).unwrap(), &zeros((4, 2)).unwrap()).is_err());
    }
}
