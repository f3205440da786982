//! The form for f32 on the CPU: one pass over each variable, on all threads.

use super::{Factors, Form, KINDS, Kept, found};
use crate::error::{Error, Result};
use crate::nn::vectorised;
use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Storage, Tensor, Var, bail};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Numbers in a task.
const TASK: usize = 1 << 15;

/// What is kept, in the order of the variables' names.
pub(super) struct Fused(BTreeMap<String, Moments>);

/// Of a variable.
struct Moments {
    rate: f64,
    decays: bool,
    mean: Vec<f32>,
    square: Vec<f32>,
    /// Empty if none is kept.
    average: Vec<f32>,
}

/// The factors of a step, for one variable.
#[derive(Clone, Copy)]
struct Numbers {
    clip: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
    /// Of weights.
    keep: f32,
    ema: f32,
}

impl Fused {
    pub(super) fn new(kept: &[Kept<'_>], averages: bool) -> Result<Self> {
        let moments = |kept: &Kept<'_>| {
            let moment = || vec![0.0; kept.variable.elem_count()];
            let average = if averages { to_vec(kept.variable)? } else { Vec::new() };
            let Kept { rate, decays, .. } = *kept;
            Ok((kept.name.to_owned(), Moments { rate, decays, mean: moment(), square: moment(), average }))
        };
        Ok(Self(kept.iter().map(moments).collect::<Result<_>>()?))
    }
}

impl Form for Fused {
    fn step(&mut self, pairs: &[(&Var, &Tensor)], factors: &dyn Fn(f64) -> Result<Factors>) -> Result<f64> {
        if pairs.len() != self.0.len() {
            return Err(Error::input(format!("{} variables, expected the optimiser's {}", pairs.len(), self.0.len())));
        }
        // All of it on a thread of the pool: to hand over each variable would take two switches between threads.
        let norm =
            rayon::scope(|_| pairs.iter().map(|(_, gradient)| square_sum(gradient)).sum::<Result<f64>>())?.sqrt();
        let factors = factors(norm)?;
        rayon::scope(|_| {
            for (moments, (variable, gradient)) in self.0.values_mut().zip(pairs) {
                let factors = moments.numbers(factors);
                let update = Update { moments: Mutex::new(moments), factors };
                variable.inplace_op2(&gradient.contiguous()?, &update)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(norm)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (name, moments) in &self.0 {
            for (kind, numbers) in KINDS.into_iter().zip(moments.parts()).filter(|(_, numbers)| !numbers.is_empty()) {
                tensors.insert(format!("{kind}.{name}"), Tensor::new(&numbers[..], &Device::Cpu)?);
            }
        }
        Ok(tensors)
    }

    fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut restored = BTreeMap::new();
        for (name, moments) in &self.0 {
            let [mut mean, mut square, mut average] = [const { Vec::new() }; 3];
            let parts = KINDS.into_iter().zip(moments.parts()).zip([&mut mean, &mut square, &mut average]);
            for ((kind, numbers), part) in parts.filter(|((_, numbers), _)| !numbers.is_empty()) {
                *part = to_vec(found(tensors, kind, name, numbers.len())?)?;
            }
            restored.insert(name.clone(), Moments { mean, square, average, ..*moments });
        }
        self.0 = restored;
        Ok(())
    }

    fn average(&self, name: &str) -> Result<Option<Tensor>> {
        let average = self.0.get(name).filter(|moments| !moments.average.is_empty());
        Ok(average.map(|moments| Tensor::new(&moments.average[..], &Device::Cpu)).transpose()?)
    }
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

/// The sum of squares: in f32 over a task, then in f64 and in order, so that it does not depend on the threads.
fn square_sum(gradient: &Tensor) -> Result<f64> {
    let gradient = gradient.contiguous()?;
    let (storage, layout) = gradient.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(numbers)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(Error::input(format!("a gradient is of {:?}, expected f32", gradient.dtype())));
    };
    let sum = |numbers: &[f32]| {
        vectorised(
            #[inline(always)]
            || {
                let mut sums = [0.0_f32; 16];
                let (groups, rest) = numbers.as_chunks::<16>();
                for group in groups {
                    for lane in 0..16 {
                        sums[lane] += group[lane] * group[lane];
                    }
                }
                sums.iter().chain([&rest.iter().map(|x| x * x).sum()]).map(|&sum| f64::from(sum)).sum::<f64>()
            },
        )
    };
    let parts: Vec<f64> = numbers[start..end].par_chunks(TASK).map(sum).collect();
    Ok(parts.into_iter().sum())
}

impl Moments {
    fn parts(&self) -> [&Vec<f32>; 3] {
        [&self.mean, &self.square, &self.average]
    }

    fn numbers(&self, factors: Factors) -> Numbers {
        Numbers {
            clip: factors.clip as f32,
            beta1: factors.beta1 as f32,
            beta2: factors.beta2 as f32,
            rate: factors.rate as f32 * self.rate as f32,
            root: factors.root as f32,
            epsilon: factors.epsilon as f32,
            keep: if self.decays { (1.0 - factors.decay) as f32 } else { 1.0 },
            ema: factors.ema as f32,
        }
    }
}

/// Weights and moments of a variable, changed in place.
struct Update<'a> {
    moments: Mutex<&'a mut Moments>,
    factors: Numbers,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        weights_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(weights), CpuStorage::F32(gradient)) = (weights, gradient) else {
            bail!("expected variables and gradients of f32");
        };
        let (Some((start, end)), Some((first, last))) =
            (weights_layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            bail!("expected contiguous variables");
        };
        let mut moments = self.moments.lock().unwrap_or_else(|e| e.into_inner());
        let Moments { mean, square, average, .. } = &mut **moments;
        let factors = self.factors;
        let parts = weights[start..end]
            .par_chunks_mut(TASK)
            .zip(gradient[first..last].par_chunks(TASK))
            .zip(mean.par_chunks_mut(TASK).zip(square.par_chunks_mut(TASK)));
        let update = |weights: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]| {
            vectorised(
                #[inline(always)]
                || factors.update(weights, gradient, mean, square),
            );
        };
        if average.is_empty() {
            parts.for_each(|((weights, gradient), (mean, square))| update(weights, gradient, mean, square));
            return Ok(());
        }
        parts.zip(average.par_chunks_mut(TASK)).for_each(|(((weights, gradient), (mean, square)), average)| {
            update(weights, gradient, mean, square);
            average
                .iter_mut()
                .zip(&*weights)
                .for_each(|(average, weight)| *average += (1.0 - factors.ema) * (weight - *average));
        });
        Ok(())
    }
}

impl Numbers {
    #[inline(always)]
    fn update(self, weights: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]) {
        let n = weights.len();
        let (gradient, mean, square) = (&gradient[..n], &mut mean[..n], &mut square[..n]);
        for i in 0..n {
            let g = gradient[i] * self.clip;
            mean[i] += (1.0 - self.beta1) * (g - mean[i]);
            square[i] = self.beta2 * square[i] + (1.0 - self.beta2) * g * g;
            weights[i] = weights[i] * self.keep - self.rate * mean[i] / (square[i].sqrt() * self.root + self.epsilon);
        }
    }
}
