//! Rotary position embedding (Su et al. 2021) and its scalings, as llama.cpp's keys name them.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use std::f32::consts::TAU;

/// How a model turns positions into angles.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Angle of each pair at position 1.
    frequencies: Vec<f32>,
    /// What cosines and sines are multiplied with.
    magnitude: f32,
    /// Whether pairs are the two halves of a head, rather than neighbours.
    pub halves: bool,
}

/// YaRN's bounds on rotations over the original context: pairs that turn more often keep their frequency, pairs that
/// turn less often are interpolated (Peng et al. 2023, §3.2, with the values they give for Llama).
const YARN_BETA_FAST: f32 = 32.0;
const YARN_BETA_SLOW: f32 = 1.0;

impl Rope {
    /// Reads the keys `{arch}.rope.*` and the tensor `rope_freqs.weight` for heads of `head_dim` elements.
    ///
    /// # Errors
    /// `Format` or `Unsupported` if they make no sense or name a scaling that is not `none`, `linear` or `yarn`.
    pub(super) fn read(file: &Gguf, arch: &str, head_dim: usize, context: usize) -> Result<Self> {
        let keys = file.keys();
        let key = |name: &str| format!("{arch}.rope.{name}");
        let dims = keys.opt_usize(&key("dimension_count"))?.unwrap_or(head_dim);
        if dims == 0 || dims > head_dim || dims % 2 != 0 {
            let message = format!(
                "{}: key `{}` is {dims}, expected an even number up to {head_dim}",
                file.name(),
                key("dimension_count")
            );
            return Err(Error::format(message));
        }
        let positive = |name: &str, default: f32| {
            let value = keys.opt_f32(&key(name))?.unwrap_or(default);
            if value > 0.0 {
                return Ok(value);
            }
            Err(Error::format(format!("{}: key `{}` is {value}, expected a positive number", file.name(), key(name))))
        };
        let base = positive("freq_base", 10_000.0)?;
        let magnitude = positive("scaling.attn_factor", 1.0)?;
        // A factor of 0 means none, and an older key names the same number.
        let factor = match (keys.opt_f32(&key("scaling.factor"))?, keys.opt_f32(&key("scale_linear"))?) {
            (Some(factor), _) | (None, Some(factor)) if factor != 0.0 => factor,
            _ => 1.0,
        };
        if factor < 0.0 {
            let message =
                format!("{}: key `{}` is {factor}, expected a positive number", file.name(), key("scaling.factor"));
            return Err(Error::format(message));
        }
        let original = keys.opt_usize(&key("scaling.original_context_length"))?.unwrap_or(context);
        let mut frequencies: Vec<f32> =
            (0..dims / 2).map(|i| f64::from(base).powf(-2.0 * i as f64 / dims as f64) as f32).collect();
        if arch == "llama" {
            divide_by_factors(file, &mut frequencies)?;
        }

        let halves = arch != "llama";
        // Where the type is missing, a factor alone means linear scaling.
        match keys.opt_str(&key("scaling.type"))?.unwrap_or("linear") {
            "none" => Ok(Self { frequencies, magnitude, halves }),
            "linear" => {
                frequencies.iter_mut().for_each(|f| *f /= factor);
                Ok(Self { frequencies, magnitude, halves })
            }
            "yarn" => {
                yarn(&mut frequencies, dims, base, factor, original as f32);
                let magnitude = magnitude * (1.0 + 0.1 * factor.max(1.0).ln());
                Ok(Self { frequencies, magnitude, halves })
            }
            other => Err(Error::unsupported(format!(
                "{}: key `{}` is '{other}', expected none, linear or yarn",
                file.name(),
                key("scaling.type")
            ))),
        }
    }

    /// Pairs that are rotated in each head.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Cosines and sines of the positions from `first` on, `[positions][pairs]` each.
    pub fn angles(&self, first: usize, positions: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        cos.clear();
        sin.clear();
        for position in first..first + positions {
            for frequency in &self.frequencies {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c * self.magnitude);
                sin.push(s * self.magnitude);
            }
        }
    }
}

/// Llama 3's scaling comes as one divisor for each pair, in the tensor `rope_freqs.weight`.
fn divide_by_factors(file: &Gguf, frequencies: &mut [f32]) -> Result<()> {
    let Some(tensor) = file.find_tensor("rope_freqs.weight") else { return Ok(()) };
    let factors = super::config::vector(file, &tensor, "rope_freqs.weight", frequencies.len())?;
    for (frequency, factor) in frequencies.iter_mut().zip(factors) {
        if factor.is_nan() || factor <= 0.0 {
            let message =
                format!("{}: tensor `rope_freqs.weight` holds {factor}, expected positive numbers", file.name());
            return Err(Error::format(message));
        }
        *frequency /= factor;
    }
    Ok(())
}

/// Interpolates slow pairs by `factor`, keeps fast ones, and blends in between (YaRN's "NTK-by-parts").
fn yarn(frequencies: &mut [f32], dims: usize, base: f32, factor: f32, original_context: f32) {
    let pair_with_rotations = |n: f32| dims as f32 * (original_context / (n * TAU)).ln() / (2.0 * base.ln());
    let low = pair_with_rotations(YARN_BETA_FAST).floor().max(0.0);
    let high = pair_with_rotations(YARN_BETA_SLOW).ceil().min(dims as f32 - 1.0);
    for (i, frequency) in frequencies.iter_mut().enumerate() {
        let keep = 1.0 - ((i as f32 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
        *frequency = *frequency / factor * (1.0 - keep) + *frequency * keep;
    }
}
