//! Trainable twins of the runtime's networks.

use crate::{batch::Batch, error::Result};
use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

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
    fn output(&self) -> (&Tensor, f64);
}
