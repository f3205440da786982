//! The form for any device, out of candle's operations. All variables are one row of numbers: a device that is told of
//! each operation by the CPU would spend more time on hearing of those of small variables than on doing them.

use super::{Factors, Form, KINDS, Kept, found};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use std::{collections::BTreeMap, ops::Range};

pub(super) struct Composed {
    /// Where the numbers of each variable are, in the order of the names.
    places: BTreeMap<String, Range<usize>>,
    /// What the learning rate and the decay of each number are multiplied with.
    rates: Tensor,
    decays: Tensor,
    /// By [kind](KINDS).
    parts: Vec<Tensor>,
}

impl Composed {
    pub(super) fn new(kept: &[Kept<'_>], averages: bool) -> Result<Self> {
        let mut places = BTreeMap::new();
        let (mut rates, mut decays) = (Vec::new(), Vec::new());
        for kept in kept {
            let first = rates.len();
            let last = first + kept.variable.elem_count();
            rates.resize(last, kept.rate as f32);
            decays.resize(last, kept.decays as u8 as f32);
            places.insert(kept.name.to_owned(), first..last);
        }
        let weights = flat(kept.iter().map(|kept| kept.variable.as_tensor()))?;
        let mut parts = vec![weights.zeros_like()?, weights.zeros_like()?];
        if averages {
            // A variable alone is not copied to be joined with others.
            parts.push(weights.copy()?);
        }
        let device = weights.device();
        Ok(Self { places, rates: Tensor::new(rates, device)?, decays: Tensor::new(decays, device)?, parts })
    }
}

impl Form for Composed {
    fn step(&mut self, pairs: &[(&Var, &Tensor)], factors: &dyn Fn(f64) -> Result<Factors>) -> Result<f64> {
        if !pairs.iter().map(|(variable, _)| variable.elem_count()).eq(self.places.values().map(Range::len)) {
            return Err(Error::input("variables of other sizes than the optimiser's"));
        }
        let gradient = flat(pairs.iter().map(|(_, gradient)| *gradient))?;
        let norm = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
        let Factors { clip, beta1, beta2, rate, root, epsilon, decay, ema } = factors(norm)?;

        let gradient = (gradient * clip)?;
        let mean = ((&self.parts[0] * beta1)? + (&gradient * (1.0 - beta1))?)?;
        let square = ((&self.parts[1] * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let change = ((&mean * rate)? / ((square.sqrt()? * root)? + epsilon)?)?;
        let weights = flat(pairs.iter().map(|(variable, _)| variable.as_tensor()))?;
        let decayed = (&weights - (&weights * (&self.decays * decay)?)?)?;
        let weights = (decayed - (change * &self.rates)?)?;
        for ((variable, _), place) in pairs.iter().zip(self.places.values()) {
            variable.set(&weights.narrow(0, place.start, place.len())?.reshape(variable.shape())?)?;
        }
        let average = self.parts.get(2).map(|average| (average * ema)? + (weights * (1.0 - ema))?).transpose()?;
        self.parts = [mean, square].into_iter().chain(average).collect();
        Ok(norm)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (kind, part) in KINDS.into_iter().zip(&self.parts) {
            let part = part.to_device(&Device::Cpu)?;
            for (name, place) in &self.places {
                tensors.insert(format!("{kind}.{name}"), part.narrow(0, place.start, place.len())?);
            }
        }
        Ok(tensors)
    }

    fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let part = |(kind, part): (&str, &Tensor)| {
            let parts = self.places.iter().map(|(name, place)| found(tensors, kind, name, place.len()));
            let parts: Vec<&Tensor> = parts.collect::<Result<_>>()?;
            Ok(flat(parts.into_iter())?.to_device(part.device())?)
        };
        self.parts = KINDS.into_iter().zip(&self.parts).map(part).collect::<Result<_>>()?;
        Ok(())
    }

    fn average(&self, name: &str) -> Result<Option<Tensor>> {
        match (self.parts.get(2), self.places.get(name)) {
            (Some(average), Some(place)) => Ok(Some(average.narrow(0, place.start, place.len())?)),
            _ => Ok(None),
        }
    }
}

/// The numbers of all tensors, one after the other.
fn flat<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let tensors = tensors.map(|tensor| tensor.detach().to_dtype(DType::F32)?.flatten_all());
    let tensors: Vec<Tensor> = tensors.collect::<candle_core::Result<_>>()?;
    Ok(Tensor::cat(&tensors, 0)?)
}
