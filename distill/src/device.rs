//! Where students learn.
//!
//! Building for cards (feature `cuda`) needs nvcc in the path, the toolkit in `CUDA_HOME`, and `CUDA_COMPUTE_CAP`, such as 90,
//! where there is no card to ask. What is built is linked with the driver's library and the toolkit's; on a machine without
//! the driver, the toolkit's folder of stubs has one to link with.
//!
//! Weights, the optimiser's state, losses and teachers that are checkpoints are on the device; checkpoints, exports and
//! what runs in the runtime (scores, teachers that are GGUF or ONNX files, what the student writes) on the CPU, where
//! pictures are prepared, too. Checkpoints of one device can be gone on from on another. Dropout on a card draws other masks
//! than the CPU, from the same seeds.

use crate::error::{Error, Result};
use crate::nn::only_composed;
use candle_core::Device;
use std::str::FromStr;

/// Where a student learns, and with which form of each [operation](crate::nn).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceKind {
    /// The CPU, with operations written for it.
    #[default]
    Cpu,
    /// The first CUDA device, for programs built with the feature `cuda`; `CUDA_VISIBLE_DEVICES` says which that is.
    /// Products round their inputs to TF32, as cards are made for.
    Cuda,
    /// The CPU, with the operations that other devices have: slow, and a way to try these.
    Composed,
}

impl FromStr for DeviceKind {
    type Err = String;

    /// `composed` is for those who work on the operations of other devices.
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "composed" => Ok(Self::Composed),
            _ => Err("expected cpu or cuda".into()),
        }
    }
}

impl DeviceKind {
    /// What `f` gives on this device.
    ///
    /// # Errors
    /// `Input` if there is no such device, or this program cannot use it; what `f` says.
    pub fn run<T>(self, f: impl FnOnce(&Device) -> Result<T>) -> Result<T> {
        match self {
            Self::Cpu => f(&Device::Cpu),
            Self::Composed => only_composed(|| f(&Device::Cpu)),
            Self::Cuda => f(&cuda()?),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<Device> {
    candle_core::cuda::set_gemm_reduced_precision_f32(true);
    Device::new_cuda(0).map_err(|error| Error::input(format!("the CUDA device cannot be used: {error}")))
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<Device> {
    Err(Error::input("this program was built without the feature cuda, expected the device cpu"))
}
