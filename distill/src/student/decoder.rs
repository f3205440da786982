//! A trainable decoder of the Llama family (Touvron et al. 2023).

use super::weights::{layers_to_copy, renamed, within};
use super::{Drops, Student, Types, Weights, valid_rows};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::nn::{
    attention::{Attention, Rotary},
    embedding::embedding,
    gates::{Activation, activate},
    linear::linears,
    norm::rms_norm,
};
use candle_core::{Device, Tensor, Var};
use pupil::gguf::{Gguf, OwnedValue};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A decoder's dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions that it can be used with.
    pub context: usize,
    /// Numbers of a hidden state.
    pub embedding: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads; `embedding / heads` is the width of each, and even.
    pub heads: usize,
    /// Key/value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Numbers of a feed-forward layer.
    pub feed_forward: usize,
    /// ε of the norms.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// Base of the rotary angles.
    #[serde(default = "rope_base")]
    pub rope_base: f32,
    /// Whether the output matrix is that of the embeddings.
    #[serde(default = "tied")]
    pub tied: bool,
}

fn epsilon() -> f32 {
    1e-5
}

fn rope_base() -> f32 {
    10_000.0
}

fn tied() -> bool {
    true
}

impl Config {
    /// Refuses what makes no network.
    ///
    /// # Errors
    /// `Input` with the field and what was expected.
    pub fn check(&self) -> Result<()> {
        within("vocab", self.vocab, 1 << 24)?;
        within("context", self.context, 1 << 20)?;
        within("embedding", self.embedding, 1 << 16)?;
        within("layers", self.layers, 1024)?;
        within("heads", self.heads, 1024)?;
        within("kv_heads", self.kv_heads, self.heads)?;
        within("feed_forward", self.feed_forward, 1 << 18)?;
        let Self { embedding, heads, kv_heads, epsilon, rope_base, .. } = *self;
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::input(format!("`kv_heads` is {kv_heads}, expected a divisor of the {heads} heads")));
        }
        if !embedding.is_multiple_of(2 * heads) {
            let message = format!("`embedding` is {embedding}, expected a multiple of twice the {heads} heads");
            return Err(Error::input(message));
        }
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return Err(Error::input(format!("`epsilon` is {epsilon}, expected above 0 and below 1")));
        }
        if !(rope_base > 1.0 && rope_base.is_finite()) {
            return Err(Error::input(format!("`rope_base` is {rope_base}, expected a number above 1")));
        }
        Ok(())
    }

    /// The dimensions of the decoder in a file of the architecture `llama`.
    ///
    /// # Errors
    /// `Format` if its keys make no sense, `Input` if it is another network.
    pub fn of(file: &Gguf) -> Result<Self> {
        let config = pupil::nets::config::Config::read(file)?;
        if config.architecture != "llama" || config.head_dim * config.heads != config.embedding {
            return Err(Error::input(format!(
                "{}: a {} with heads of {}, expected a llama whose heads make up the embedding",
                file.name(),
                config.architecture,
                config.head_dim
            )));
        }
        Ok(Self {
            vocab: config.vocab,
            context: config.context,
            embedding: config.embedding,
            layers: config.layers,
            heads: config.heads,
            kv_heads: config.kv_heads,
            feed_forward: config.feed_forward,
            epsilon: config.epsilon,
            rope_base: file.keys().opt_f32("llama.rope.freq_base")?.unwrap_or(rope_base()),
            tied: file.find_tensor("output.weight").is_none(),
        })
    }

    fn head_dim(&self) -> usize {
        self.embedding / self.heads
    }
}

/// A decoder in training.
pub struct Decoder {
    config: Config,
    weights: Weights,
    rotary: Arc<Rotary>,
}

impl Decoder {
    /// A decoder of random weights: normally distributed with a deviation of 0.02, the matrices that add to the hidden
    /// state with `0.02 / √(2 layers)` (Radford et al. 2019).
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn new(config: Config, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let Config { vocab, context, embedding, layers, heads, kv_heads, feed_forward, rope_base, tied, .. } = config;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = Weights::new(device);
        let kv = kv_heads * config.head_dim();
        let (inner, outer) = (0.02, 0.02 / (2.0 * layers as f64).sqrt());
        weights.normal("token_embd.weight".into(), &[vocab, embedding], inner, &mut random)?;
        for i in 0..layers {
            for (part, outputs, inputs, deviation) in [
                ("attn_q", embedding, embedding, inner),
                ("attn_k", kv, embedding, inner),
                ("attn_v", kv, embedding, inner),
                ("attn_output", embedding, embedding, outer),
                ("ffn_gate", feed_forward, embedding, inner),
                ("ffn_up", feed_forward, embedding, inner),
                ("ffn_down", embedding, feed_forward, outer),
            ] {
                weights.normal(format!("blk.{i}.{part}.weight"), &[outputs, inputs], deviation, &mut random)?;
            }
            weights.ones(format!("blk.{i}.attn_norm.weight"), embedding)?;
            weights.ones(format!("blk.{i}.ffn_norm.weight"), embedding)?;
        }
        weights.ones("output_norm.weight".into(), embedding)?;
        if !tied {
            weights.normal("output.weight".into(), &[vocab, embedding], inner, &mut random)?;
        }
        let rotary = Arc::new(Rotary::new(context, embedding / heads, rope_base.into()));
        Ok(Self { config, weights, rotary })
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over the weights of a file of the same shape; with `layers`, of those of its layers.
    ///
    /// # Errors
    /// `Input` or `Format` if the file holds another network, with the tensor or key.
    pub fn init_from(&self, file: &Gguf, layers: Option<&[usize]>) -> Result<()> {
        let other = Config::of(file)?;
        let Config { layers: own, context, tied, .. } = self.config;
        // An output matrix of the student's own may begin as the embeddings.
        let fits = tied == other.tied || other.tied;
        if !fits || (Config { layers: own, context, tied, ..other.clone() }) != self.config {
            return Err(Error::input(format!("{}: holds {other:?}, the student is {:?}", file.name(), self.config)));
        }
        let layers = layers_to_copy(layers, own, other.layers, file)?;
        self.weights.copy(file, |name| match name {
            "output.weight" if other.tied => Some("token_embd.weight".into()),
            _ => renamed(name, "blk.", &layers).or_else(|| Some(name.into())),
        })
    }
}

impl Student for Decoder {
    fn variables(&self) -> &BTreeMap<String, Var> {
        self.weights.variables()
    }

    fn hidden(&self, batch: &Batch, dropout: Option<(f32, &mut ChaCha8Rng)>) -> Result<Tensor> {
        if batch.source.is_some() {
            return Err(Error::input("a batch with a source for a decoder, which reads none"));
        }
        let Config { context, layers, heads, kv_heads, epsilon, .. } = self.config;
        let (ids, segments) = batch.input.packed();
        if segments.longest() > context {
            let message = format!("a text of {} tokens, expected at most the context of {context}", segments.longest());
            return Err(Error::input(message));
        }
        let segments = Arc::new(segments);
        let mut drops = Drops::new(dropout, self.weights.device())?;
        let weight = |name: &str| self.weights.get(name);
        let mut x = drops.apply(embedding(&weight("token_embd.weight")?, &ids)?)?;
        for i in 0..layers {
            let weight = |part: &str| self.weights.get(&format!("blk.{i}.{part}.weight"));

            let normed = rms_norm(&x, &weight("attn_norm")?, epsilon)?;
            let qkv = linears(&normed, &[&weight("attn_q")?, &weight("attn_k")?, &weight("attn_v")?])?;
            let attention = Attention {
                heads,
                kv_heads,
                head_dim: self.config.head_dim(),
                scale: (self.config.head_dim() as f32).sqrt().recip(),
                causal: true,
                rotary: Some(self.rotary.clone()),
                buckets: None,
                drop: drops.next(),
                queries: segments.clone(),
                keys: segments.clone(),
            };
            x = drops.add_linear(&x, &attention.to_self(&qkv, None)?, &weight("attn_output")?)?;

            let normed = rms_norm(&x, &weight("ffn_norm")?, epsilon)?;
            let gated = linears(&normed, &[&weight("ffn_gate")?, &weight("ffn_up")?])?;
            x = drops.add_linear(&x, &activate(&gated, Activation::SwiGlu, None)?, &weight("ffn_down")?)?;
        }
        // A norm is of each row alone, so the others can be left out before it.
        Ok(rms_norm(&valid_rows(&x, batch)?, &weight("output_norm.weight")?, epsilon)?)
    }

    fn output(&self) -> Result<(Tensor, f64)> {
        let name = if self.config.tied { "token_embd.weight" } else { "output.weight" };
        Ok((self.weights.get(name)?, 1.0))
    }

    fn store_as(&mut self, types: Option<Types>) {
        self.weights.store_as(types);
    }

    fn keys(&self) -> Vec<(&'static str, OwnedValue)> {
        let Config { vocab, context, embedding, layers, heads, kv_heads, feed_forward, epsilon, rope_base, .. } =
            self.config;
        let number = |value: usize| OwnedValue::from(value as u32);
        vec![
            ("general.architecture", "llama".into()),
            ("llama.vocab_size", number(vocab)),
            ("llama.context_length", number(context)),
            ("llama.embedding_length", number(embedding)),
            ("llama.block_count", number(layers)),
            ("llama.feed_forward_length", number(feed_forward)),
            ("llama.attention.head_count", number(heads)),
            ("llama.attention.head_count_kv", number(kv_heads)),
            ("llama.attention.layer_norm_rms_epsilon", epsilon.into()),
            ("llama.rope.dimension_count", number(self.config.head_dim())),
            ("llama.rope.freq_base", rope_base.into()),
        ]
    }
}
