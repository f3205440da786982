//! The operations that students are made of: those that candle does slowly on a CPU, or whose gradients it drops.
//!
//! | file | what |
//! |---|---|
//! | [`linear`] | products with weights, alone or added to what was there |
//! | [`norm`] | RMS norms |
//! | [`attention`] | softmax attention over rows of different lengths: causal, rotary, relative biases, dropout |
//! | [`gates`] | ReLU, SwiGLU, gated GELU |
//! | [`embedding`] | rows of a table |
//! | [`dropout`], [`fake_quant`] | regularisation; weights as they will be stored |
//! | [`maps`] | convolutions, batch norms: what detectors are made of |
//!
//! Texts of different lengths lie one after the other, without padding ([`Segments`]): only attention needs to know
//! where one ends. Each operation has two forms. The fused one runs on f32 on the CPU, on all threads,
//! and has its own backward pass; the composed one is made of candle's own operations, and runs on any device and in f64.
//! Tests hold one against the other. `fused` chooses.

pub mod attention;
pub(crate) mod by_hand;
pub mod dropout;
pub mod embedding;
pub mod fake_quant;
pub mod gates;
pub mod linear;
pub mod maps;
pub mod norm;
pub(crate) mod rows;
mod segments;

pub use dropout::Dropout;
pub use segments::Segments;

use candle_core::{CpuStorage, DType, Device, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;
use std::cell::Cell;

/// Numbers in a task that are worth waking another thread for.
const TASK: usize = 1 << 14;

/// Whether all tensors can go through the fused forms.
fn fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| has_fused(t.device()) && t.dtype() == DType::F32)
}

/// Whether a device has the fused forms.
pub(crate) fn has_fused(device: &Device) -> bool {
    device.is_cpu() && !ONLY_COMPOSED.get()
}

thread_local! {
    static ONLY_COMPOSED: Cell<bool> = const { Cell::new(false) };
}

/// What `f` gives where all operations of this thread take their composed forms, also on the CPU.
pub(crate) fn only_composed<T>(f: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ONLY_COMPOSED.set(self.0);
        }
    }
    let _before = Before(ONLY_COMPOSED.replace(true));
    f()
}

/// The numbers of a contiguous tensor of f32.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(numbers), Some((start, end))) => Ok(&numbers[start..end]),
        _ => bail!("expected contiguous numbers of f32"),
    }
}

/// Calls `f` with the numbers of tensors of f32 on the CPU.
fn with_numbers<const N: usize, T>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> T) -> Result<T> {
    let mut contiguous = Vec::with_capacity(N);
    for tensor in tensors {
        contiguous.push(tensor.contiguous()?);
    }
    let guards: Vec<_> = contiguous.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else { bail!("expected a tensor on the CPU") };
        *slice = numbers(storage, layout)?;
    }
    Ok(f(slices))
}

/// Runs `f`, compiled for the processor's vectors. `f`, and closures that it calls, must be `#[inline(always)]`.
///
/// A closure that is called as `FnOnce` is called through a shim, which may stay a function of its own, compiled for any
/// processor; there each `mul_add` is a call of the C library. Called as `FnMut`, it is the closure itself.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnMut() -> R) -> R {
    struct Vectorised<F>(F);

    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Vectorised<F> {
        type Output = R;

        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }

    pulp::Arch::new().dispatch(Vectorised(f))
}

/// Fills rows of `width` numbers on all threads: `fill(first row, rows)`, compiled for the processor's vectors.
/// Closures, this one and those that it calls, must be `#[inline(always)]`: others may stay functions of their own, without
/// such vectors.
fn fill_rows(out: &mut [f32], width: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (TASK / width.max(1)).max(1);
    out.par_chunks_mut(rows * width.max(1)).enumerate().for_each(|(i, chunk)| {
        vectorised(
            #[inline(always)]
            || fill(i * rows, chunk),
        );
    });
}

/// Runs `$body` with `$constant` being the variant of `$value`, so that each variant gets loops of its own.
macro_rules! each_variant {
    ($type:ident::{$($variant:ident),*}, $value:expr, $constant:ident => $body:expr) => {
        match $value {
            $($type::$variant => {
                const $constant: $type = $type::$variant;
                $body
            })*
        }
    };
}
use each_variant;

/// A tensor of f32 on the CPU.
fn tensor(numbers: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(numbers, like.shape(), like.device())
}

#[cfg(test)]
pub(crate) mod check;
