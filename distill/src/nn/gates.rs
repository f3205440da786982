//! What feed-forward layers do between their products.

use super::{Dropout, by_hand::of_one, dropout, each_variant, fill_rows, fused, numbers, tensor, with_numbers};
use crate::loss::vector::sigmoid;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// An activation. Gated ones take rows of two halves and give `act(first) × second` (Shazeer 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`, not gated.
    Relu,
    /// Gated by `x σ(x)`.
    SwiGlu,
    /// Gated by GELU in its tanh form (Hendrycks and Gimpel 2016).
    GatedGelu,
}

impl Activation {
    /// Numbers that go in for one that comes out.
    pub fn inputs(self) -> usize {
        if self == Self::Relu { 1 } else { 2 }
    }

    /// The activation and its derivative.
    #[inline(always)]
    fn at(self, x: f32) -> (f32, f32) {
        match self {
            Self::Relu => {
                if x > 0.0 {
                    (x, 1.0)
                } else {
                    (0.0, 0.0)
                }
            }
            Self::SwiGlu => {
                let sigmoid = sigmoid(x);
                (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
            }
            Self::GatedGelu => {
                let inner = GELU * (x + CUBE * x * x * x);
                // (1 + tanh a) / 2 = σ(2a)
                let half = sigmoid(2.0 * inner);
                (x * half, half + 2.0 * x * half * (1.0 - half) * GELU * (1.0 + 3.0 * CUBE * x * x))
            }
        }
    }
}

/// √(2/π)
const GELU: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

/// The activation of rows, `[n, inputs × width]` to `[n, width]`, some of which are dropped.
///
/// # Errors
/// If the rows have no two halves.
pub fn activate(x: &Tensor, activation: Activation, drop: Option<Dropout>) -> Result<Tensor> {
    let inputs = x.dim(D::Minus1)?;
    if inputs % activation.inputs() != 0 {
        candle_core::bail!("rows of {inputs} have no two halves");
    }
    match fused(&[x]) {
        true => x.apply_op1(Gate { activation, drop }),
        false => composed(x, activation, drop),
    }
}

fn composed(x: &Tensor, activation: Activation, drop: Option<Dropout>) -> Result<Tensor> {
    let out = match activation {
        Activation::Relu => x.relu()?,
        gated => gate(x, gated)?,
    };
    match drop {
        Some(drop) => dropout::dropout(&out, drop),
        None => Ok(out),
    }
}

/// Both gated activations are `x` times a sigmoid.
fn gate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let gelu = activation == Activation::GatedGelu;
    let half = move |x: &Tensor| {
        let inner = match gelu {
            // (1 + tanh a) / 2 = σ(2a)
            true => (x * ((x.sqr()? * f64::from(2.0 * GELU * CUBE))? + f64::from(2.0 * GELU))?)?,
            false => x.clone(),
        };
        (inner.neg()?.exp()? + 1.0)?.recip()
    };
    of_one(
        x,
        |x| {
            let [x, up] = halves(x)?;
            (&x * half(&x)?)? * up
        },
        move |x, _, gradient| {
            let [x, up] = halves(x)?;
            let half = half(&x)?;
            let value = (&x * &half)?;
            // half' is half (1 − half) times that of its inner.
            let mut slope = (&value * (1.0 - &half)?)?;
            if gelu {
                slope = (slope * ((x.sqr()? * f64::from(6.0 * GELU * CUBE))? + f64::from(2.0 * GELU))?)?;
            }
            let of_x = ((slope + half)? * &up)?;
            Tensor::cat(&[(of_x * gradient)?, (value * gradient)?], D::Minus1)
        },
    )
}

fn halves(x: &Tensor) -> Result<[Tensor; 2]> {
    let width = x.dim(D::Minus1)? / 2;
    Ok([x.narrow(D::Minus1, 0, width)?, x.narrow(D::Minus1, width, width)?])
}

struct Gate {
    activation: Activation,
    drop: Option<Dropout>,
}

impl Gate {
    #[inline(always)]
    fn factor(&self, place: usize) -> f32 {
        match self.drop {
            Some(drop) => drop.factor(place),
            None => 1.0,
        }
    }

    #[inline(always)]
    fn forward(&self, activation: Activation, x: &[f32], first: usize, out: &mut [f32], width: usize) {
        let inputs = activation.inputs() * width;
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let x = &x[(first + row) * inputs..][..inputs];
            let (gate, up) = x.split_at(width);
            for (i, out) in out.iter_mut().enumerate() {
                let value = activation.at(gate[i]).0;
                *out = if inputs > width { value * up[i] } else { value };
            }
            if self.drop.is_some() {
                let first = (first + row) * width;
                for (i, out) in out.iter_mut().enumerate() {
                    *out *= self.factor(first + i);
                }
            }
        }
    }

    #[inline(always)]
    fn backward(
        &self,
        activation: Activation,
        x: &[f32],
        of_out: &[f32],
        first: usize,
        of_x: &mut [f32],
        width: usize,
    ) {
        let inputs = activation.inputs() * width;
        for (row, of_x) in of_x.chunks_exact_mut(inputs).enumerate() {
            let x = &x[(first + row) * inputs..][..inputs];
            let (gate, up) = x.split_at(width);
            let (of_gate, of_up) = of_x.split_at_mut(width);
            let start = (first + row) * width;
            let of_out = &of_out[start..][..width];
            if inputs == width {
                for i in 0..width {
                    of_gate[i] = of_out[i] * self.factor(start + i) * activation.at(gate[i]).1;
                }
                continue;
            }
            for i in 0..width {
                let (value, slope) = activation.at(gate[i]);
                let of_out = of_out[i] * self.factor(start + i);
                of_gate[i] = of_out * up[i] * slope;
                of_up[i] = of_out * value;
            }
        }
    }
}

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, inputs) = layout.shape().dims2()?;
        let width = inputs / self.activation.inputs();
        let x = numbers(x, layout)?;
        let mut out = vec![0.0; n * width];
        each_variant!(Activation::{Relu, SwiGlu, GatedGelu}, self.activation, ACTIVATION => {
            fill_rows(
                &mut out,
                width,
                #[inline(always)]
                |first, out| self.forward(ACTIVATION, x, first, out, width),
            );
        });
        Ok((CpuStorage::F32(out), Shape::from((n, width))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (n, inputs) = x.dims2()?;
        let width = inputs / self.activation.inputs();
        let of_x = with_numbers([x, gradient], |[x, gradient]| {
            let mut of_x = vec![0.0; n * inputs];
            each_variant!(Activation::{Relu, SwiGlu, GatedGelu}, self.activation, ACTIVATION => {
                fill_rows(
                    &mut of_x,
                    inputs,
                    #[inline(always)]
                    |first, of_x| self.backward(ACTIVATION, x, gradient, first, of_x, width),
                );
            });
            of_x
        })?;
        tensor(of_x, x).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        for activation in [Activation::Relu, Activation::SwiGlu, Activation::GatedGelu] {
            for drop in [None, Some(Dropout { rate: 0.4, seed: 3 })] {
                let case = Case::new(&[&[6, 14]]);
                check(case, |t| activate(&t[0], activation, drop), |t| composed(&t[0], activation, drop));
            }
        }
    }

    #[test]
    fn large_numbers_stay_finite() {
        for activation in [Activation::SwiGlu, Activation::GatedGelu] {
            for x in [-1e4, -100.0, 100.0, 1e4] {
                let (value, slope) = activation.at(x);
                let expected = x.max(0.0);
                assert!((value - expected).abs() < 1e-3 && (slope - (x > 0.0) as u8 as f32).abs() < 1e-3, "{x}");
            }
        }
    }
}
