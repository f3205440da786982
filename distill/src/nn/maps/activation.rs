//! Activations of convolutional students: those that the runtime applies within a convolution.

use crate::loss::vector::sigmoid;
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// What is applied to each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `x` where positive, else `x / 10`.
    LeakyRelu,
    /// `x min(max(x / 6 + ½, 0), 1)` (Howard et al. 2019): no exponentials, and cheap on bytes.
    HardSwish,
    /// `x σ(x)`
    Silu,
}

/// Below 0, of the leaky ReLU.
pub const SLOPE: f32 = 0.1;

impl Activation {
    /// The value and its derivative.
    #[inline(always)]
    pub(super) fn at(self, x: f32) -> (f32, f32) {
        match self {
            Self::Relu => (if x > 0.0 { x } else { 0.0 }, if x > 0.0 { 1.0 } else { 0.0 }),
            Self::LeakyRelu => (if x > 0.0 { x } else { SLOPE * x }, if x > 0.0 { 1.0 } else { SLOPE }),
            Self::HardSwish => {
                let gate = (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0);
                let rising = if x > -3.0 && x < 3.0 { x * (1.0 / 6.0) } else { 0.0 };
                (x * gate, gate + rising)
            }
            Self::Silu => {
                let sigmoid = sigmoid(x);
                (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
            }
        }
    }

    /// Out of candle's operations.
    pub(super) fn composed(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => x.relu(),
            Self::LeakyRelu => x.relu()? - (x.neg()?.relu()? * f64::from(SLOPE))?,
            Self::HardSwish => x * ((x / 6.0)? + 0.5)?.clamp(0.0, 1.0)?,
            Self::Silu => x.silu(),
        }
    }
}
