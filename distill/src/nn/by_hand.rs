//! Operations out of candle's own, on any device, whose backward passes are written by hand: candle's would take several
//! times as many operations, and as much memory.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor, bail};
use std::sync::{Mutex, PoisonError};

/// `value(x)`, whose gradient is `backward(x, value, gradient of value)`.
///
/// # Errors
/// What the functions say.
pub(crate) fn of_one(
    x: &Tensor,
    value: impl FnOnce(&Tensor) -> Result<Tensor>,
    backward: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let value = value(&x.detach())?;
    match x.track_op() {
        true => x.apply_op1(ByHand { value: Known::new(value)?, backward }),
        false => Ok(value),
    }
}

/// `value(x, y)`, whose gradients are `backward(x, y, gradient of value)`.
///
/// # Errors
/// What the functions say.
pub(crate) fn of_two(
    x: &Tensor,
    y: &Tensor,
    value: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
    backward: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send + Sync + 'static,
) -> Result<Tensor> {
    let value = value(&x.detach(), &y.detach())?;
    match x.track_op() || y.track_op() {
        true => x.apply_op2(y, ByHand { value: Known::new(value)?, backward }),
        false => Ok(value),
    }
}

struct ByHand<F> {
    value: Known,
    backward: F,
}

impl<F: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync> CustomOp1 for ByHand<F> {
    fn name(&self) -> &'static str {
        "by-hand"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.value.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.value.on_cuda()
    }

    fn bwd(&self, x: &Tensor, value: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        (self.backward)(&x.detach(), &value.detach(), gradient).map(Some)
    }
}

impl<F: Fn(&Tensor, &Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send + Sync> CustomOp2 for ByHand<F> {
    fn name(&self) -> &'static str {
        "by-hand"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.value.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.value.on_cuda()
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_y) = (self.backward)(&x.detach(), &y.detach(), gradient)?;
        Ok((Some(of_x), Some(of_y)))
    }
}

/// What an operation gives, computed before candle asks for it; given away once.
pub(crate) struct Known(Mutex<Option<Tensor>>);

impl Known {
    pub(crate) fn new(value: Tensor) -> Result<Self> {
        let plain = value.is_contiguous() && value.layout().start_offset() == 0;
        Ok(Self(Mutex::new(Some(if plain { value } else { value.force_contiguous()? }))))
    }

    pub(crate) fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.storage()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("expected a tensor on the CPU"),
        }
    }

    pub(crate) fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.storage()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("expected a tensor on a CUDA device"),
        }
    }

    fn storage(&self) -> Result<(Storage, Shape)> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(value) = value else { bail!("an operation gives its value once") };
        let (storage, layout) = value.storage_and_layout();
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }
}
