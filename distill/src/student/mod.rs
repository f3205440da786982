//! Trainable twins of the runtime's networks.
//!
//! [`decoder`] is the Llama family, [`encdec`] the T5 family. Both go through a batch without padding, and name their
//! tensors as llama.cpp does, so that what is trained is what [`crate::export`] writes.

pub mod decoder;
pub mod encdec;
mod types;
mod weights;

pub use decoder::Decoder;
pub use encdec::EncoderDecoder;
pub use types::Types;
pub(crate) use weights::normal;

use crate::{batch::Batch, error::Result, nn::Dropout};
use candle_core::{Device, Tensor, Var};
use pupil::gguf::OwnedValue;
use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use weights::Weights;

/// A network in training.
pub trait Student {
    /// Every trainable tensor, by its name in a GGUF file. Matrices are `[outputs, inputs]`.
    fn variables(&self) -> &BTreeMap<String, Var>;

    /// The hidden states from which the next token is predicted, `[n, embedding]`, for the [valid](Batch::valid)
    /// positions of the batch in their order. With `dropout`, activations are dropped at random at this rate.
    ///
    /// # Errors
    /// `Input` for a batch that does not fit the network.
    fn hidden(&self, batch: &Batch, dropout: Option<(f32, &mut ChaCha8Rng)>) -> Result<Tensor>;

    /// What makes logits of hidden states: `logits = scale · hidden · weightᵀ`, with a weight of `[vocab, embedding]`.
    ///
    /// # Errors
    /// `Input` if the weights are to be [as they will be stored](Self::store_as) and cannot be.
    fn output(&self) -> Result<(Tensor, f64)>;

    /// From now on, the network computes with weights as they will read after they were stored in these types, and
    /// gradients go straight through to the variables. `None` ends it.
    fn store_as(&mut self, types: Option<Types>);

    /// How many times faster than others a variable is to learn. Adam moves every number by about the learning rate,
    /// whatever its size, so a network whose weights differ in size by its definition has to say so.
    fn rate(&self, _name: &str) -> f64 {
        1.0
    }

    /// The keys by which the runtime knows the network.
    fn keys(&self) -> Vec<(&'static str, OwnedValue)>;
}

/// Where dropout's masks come from, for one pass through a network.
struct Drops<'a>(Option<(f32, &'a mut ChaCha8Rng)>);

impl<'a> Drops<'a> {
    /// Masks at a rate, of random numbers. A device that draws masks itself is given a seed for the pass.
    fn new(mut dropout: Option<(f32, &'a mut ChaCha8Rng)>, device: &Device) -> Result<Self> {
        if let Some((_, random)) = &mut dropout
            && !device.is_cpu()
        {
            device.set_seed(random.next_u64())?;
        }
        Ok(Self(dropout))
    }

    /// The next mask.
    fn next(&mut self) -> Option<Dropout> {
        let (rate, random) = self.0.as_mut()?;
        Some(Dropout { rate: *rate, seed: random.next_u64() })
    }

    /// Drops numbers of a tensor.
    fn apply(&mut self, x: Tensor) -> Result<Tensor> {
        Ok(match self.next() {
            Some(drop) => crate::nn::dropout::dropout(&x, drop)?,
            None => x,
        })
    }

    /// `before + x · weightᵀ`, numbers of the product being dropped.
    fn add_linear(&mut self, before: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        use crate::nn::linear::{add_linear, linear};
        Ok(match self.next() {
            Some(drop) => (before + crate::nn::dropout::dropout(&linear(x, weight)?, drop)?)?,
            None => add_linear(before, x, weight)?,
        })
    }
}

/// The rows of packed hidden states whose label counts.
fn valid_rows(hidden: &Tensor, batch: &Batch) -> Result<Tensor> {
    let width = batch.input.width;
    let mut rows = Vec::new();
    let mut first = 0;
    for (labels, &length) in batch.labels.chunks_exact(width.max(1)).zip(&batch.input.lengths) {
        let valid = |i: &usize| labels[*i] != crate::batch::IGNORE;
        rows.extend((0..length).filter(valid).map(|i| (first + i) as u32));
        first += length;
    }
    match rows.len() == first {
        true => Ok(hidden.clone()),
        false => Ok(crate::nn::embedding::embedding(hidden, &rows)?),
    }
}

#[cfg(test)]
pub(crate) mod tests;
