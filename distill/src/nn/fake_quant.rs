//! Weights as they will read after they were stored in a block format; gradients go straight through
//! (Bengio et al. 2013).

use super::{numbers, tensor, with_numbers};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pupil::{quant, tensor::DType};
use rayon::prelude::*;

/// `weight` as `dtype` would store it. Rows must be whole blocks.
///
/// # Errors
/// If they are not, or a number cannot be stored.
pub fn fake_quant(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    if weight.device().is_cpu() {
        return weight.apply_op1(FakeQuant { dtype });
    }
    // weight + (stored − weight), of which the second part has no gradient.
    let cpu = weight.detach().to_device(&candle_core::Device::Cpu)?.contiguous()?;
    let stored = tensor(with_numbers([&cpu], |[weight]| stored(weight, dtype))??, &cpu)?;
    weight + (stored.to_device(weight.device())? - weight.detach())?
}

fn stored(weight: &[f32], dtype: DType) -> Result<Vec<f32>> {
    let mut out = vec![0.0; weight.len()];
    let task = super::TASK.next_multiple_of(dtype.block_len());
    out.par_chunks_mut(task).zip(weight.par_chunks(task)).try_for_each(|(out, weight)| {
        let bytes = quant::quantize(dtype, weight).map_err(candle_core::Error::wrap)?;
        quant::dequantize(dtype, &bytes, out);
        Ok::<(), candle_core::Error>(())
    })?;
    Ok(out)
}

struct FakeQuant {
    dtype: DType,
}

impl CustomOp1 for FakeQuant {
    fn name(&self) -> &'static str {
        "fake-quantization"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(stored(numbers(weight, layout)?, self.dtype)?), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.clone()))
    }
}
