//! Weights as they will read after they were stored in a block format; gradients go straight through
//! (Bengio et al. 2013).

use super::{by_hand::of_one, fused, numbers, tensor, with_numbers};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use pupil::{quant, tensor::DType};
use rayon::prelude::*;

/// `weight` as `dtype` would store it. Rows must be whole blocks.
///
/// # Errors
/// If they are not, or a number cannot be stored.
pub fn fake_quant(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    match fused(&[weight]) {
        true => weight.apply_op1(FakeQuant { dtype }),
        false => composed(weight, dtype),
    }
}

/// The blocks are made on the CPU all the same.
fn composed(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    let stored = |weight: &Tensor| {
        let here = weight.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?;
        let stored = tensor(with_numbers([&here], |[weight]| stored(weight, dtype))??, &here)?;
        stored.to_device(weight.device())?.to_dtype(weight.dtype())
    };
    of_one(weight, stored, |_, _, gradient| Ok(gradient.clone()))
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

#[cfg(test)]
mod tests {
    use super::super::check::{Case, run};
    use super::*;

    #[test]
    fn both_forms_store_the_same() {
        let dtype = DType::Q8_0;
        let [fused, composed] = [fake_quant, composed]
            .map(|form| run(&Case::new(&[&[3, 64]]), &|t: &[Tensor]| form(&t[0], dtype), candle_core::DType::F32));
        assert_eq!(fused, composed);
    }
}
