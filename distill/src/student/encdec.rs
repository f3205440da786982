//! A trainable encoder-decoder of the T5 family (Raffel et al. 2020; gates: Shazeer 2020).

use super::weights::{layers_to_copy, renamed, within};
use super::{Drops, Student, Types, Weights, valid_rows};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::nn::{
    Segments,
    attention::{Attention, Buckets},
    embedding::embedding,
    gates::{Activation, activate},
    linear::{linear, linears},
    norm::rms_norm,
};
use candle_core::{Device, Tensor, Var};
use pupil::gguf::{Gguf, OwnedValue};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An encoder-decoder's dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions that it can be used with, on either side.
    pub context: usize,
    /// Numbers of a hidden state.
    pub embedding: usize,
    /// Layers of the encoder.
    pub layers: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Heads.
    pub heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Numbers of a feed-forward layer.
    pub feed_forward: usize,
    /// Between the products of a feed-forward layer: `relu` or `gated-gelu`.
    #[serde(default = "activation")]
    pub activation: Activation,
    /// Buckets of relative positions.
    #[serde(default = "buckets")]
    pub buckets: usize,
    /// ε of the norms.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// Whether the output matrix is that of the embeddings, with hidden states times `1 / √embedding`.
    #[serde(default = "tied")]
    pub tied: bool,
    /// The token that the decoder's input starts with.
    #[serde(default)]
    pub start: u32,
}

fn activation() -> Activation {
    Activation::Relu
}

fn buckets() -> usize {
    32
}

/// The distance from which on all positions share a bucket: the same in all T5 models, and files have no key for it.
const MAX_DISTANCE: usize = 128;

fn epsilon() -> f32 {
    1e-6
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
        within("context", self.context, 1 << 15)?;
        within("embedding", self.embedding, 1 << 16)?;
        within("layers", self.layers, 1024)?;
        within("decoder_layers", self.decoder_layers, 1024)?;
        within("heads", self.heads, 1024)?;
        within("head_dim", self.head_dim, 1 << 12)?;
        within("feed_forward", self.feed_forward, 1 << 18)?;
        let Self { buckets, epsilon, start, vocab, activation, .. } = *self;
        if !(4..=MAX_DISTANCE).contains(&buckets) || !buckets.is_multiple_of(4) {
            let message = format!("`buckets` is {buckets}, expected a multiple of 4 up to {MAX_DISTANCE}");
            return Err(Error::input(message));
        }
        if activation == Activation::SwiGlu {
            return Err(Error::input("`activation` is swi-glu, expected relu or gated-gelu"));
        }
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return Err(Error::input(format!("`epsilon` is {epsilon}, expected above 0 and below 1")));
        }
        if start as usize >= vocab {
            return Err(Error::input(format!("`start` is {start}, expected a token of the {vocab}")));
        }
        Ok(())
    }

    /// The dimensions of the encoder-decoder in a file of the architecture `t5`.
    ///
    /// # Errors
    /// `Format` if its keys or tensors make no sense, `Input` if its layers have relative biases of their own.
    pub fn of(file: &Gguf) -> Result<Self> {
        let config = pupil::nets::encdec::Config::read(file)?;
        if file.find_tensor("enc.blk.1.attn_rel_b.weight").is_some() {
            let message = format!("{}: each layer has relative biases of its own, expected one for all", file.name());
            return Err(Error::input(message));
        }
        let gated = file.find_tensor("enc.blk.0.ffn_gate.weight").is_some();
        Ok(Self {
            vocab: config.vocab,
            context: config.context,
            embedding: config.embedding,
            layers: config.encoder_layers,
            decoder_layers: config.decoder_layers,
            heads: config.heads,
            head_dim: config.head_dim,
            feed_forward: config.feed_forward,
            activation: if gated { Activation::GatedGelu } else { Activation::Relu },
            buckets: config.buckets,
            epsilon: config.epsilon,
            tied: file.find_tensor("output.weight").is_none(),
            start: config.start,
        })
    }

    fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// An encoder-decoder in training.
pub struct EncoderDecoder {
    config: Config,
    weights: Weights,
    /// By relative position, of the encoder and of the decoder.
    buckets: [Arc<Buckets>; 2],
}

impl EncoderDecoder {
    /// An encoder-decoder of random weights, distributed as in Hugging Face's T5: matrices with a deviation of
    /// `1 / √inputs`, and queries with one of `1 / √(inputs × head_dim)`, which stands for the scale that scores lack.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn new(config: Config, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let Config { vocab, context, embedding, heads, head_dim, feed_forward, buckets, .. } = config;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = Weights::new(device);
        let width = config.width();
        let root = |n: usize| (n as f64).sqrt().recip();
        weights.normal("token_embd.weight".into(), &[vocab, embedding], 1.0, &mut random)?;
        for (side, layers) in [("enc", config.layers), ("dec", config.decoder_layers)] {
            for i in 0..layers {
                let name = |part: &str| format!("{side}.blk.{i}.{part}.weight");
                let attentions: &[&str] = if side == "enc" { &["attn"] } else { &["attn", "cross_attn"] };
                for attention in attentions {
                    let name = |part: &str| name(&format!("{attention}_{part}"));
                    weights.ones(name("norm"), embedding)?;
                    weights.normal(name("q"), &[width, embedding], root(embedding * head_dim), &mut random)?;
                    weights.normal(name("k"), &[width, embedding], root(embedding), &mut random)?;
                    weights.normal(name("v"), &[width, embedding], root(embedding), &mut random)?;
                    weights.normal(name("o"), &[embedding, width], root(width), &mut random)?;
                }
                if i == 0 {
                    weights.normal(name("attn_rel_b"), &[buckets, heads], root(embedding), &mut random)?;
                }
                weights.ones(name("ffn_norm"), embedding)?;
                if config.activation != Activation::Relu {
                    weights.normal(name("ffn_gate"), &[feed_forward, embedding], root(embedding), &mut random)?;
                }
                weights.normal(name("ffn_up"), &[feed_forward, embedding], root(embedding), &mut random)?;
                weights.normal(name("ffn_down"), &[embedding, feed_forward], root(feed_forward), &mut random)?;
            }
            weights.ones(format!("{side}.output_norm.weight"), embedding)?;
        }
        if !config.tied {
            weights.normal("output.weight".into(), &[vocab, embedding], root(embedding), &mut random)?;
        }
        let buckets = [true, false].map(|both| Arc::new(Buckets::new(buckets, MAX_DISTANCE, both, context)));
        Ok(Self { config, weights, buckets })
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over the weights of a file of the same shape; with lists of layers, of those of its encoder and decoder.
    ///
    /// # Errors
    /// `Input` or `Format` if the file holds another network, with the tensor or key.
    pub fn init_from(&self, file: &Gguf, layers: Option<&[usize]>, decoder_layers: Option<&[usize]>) -> Result<()> {
        let other = Config::of(file)?;
        let Config { layers: of_encoder, decoder_layers: of_decoder, context, .. } = self.config;
        if (Config { layers: of_encoder, decoder_layers: of_decoder, context, ..other.clone() }) != self.config {
            return Err(Error::input(format!("{}: holds {other:?}, the student is {:?}", file.name(), self.config)));
        }
        let encoder = layers_to_copy(layers, of_encoder, other.layers, file)?;
        let decoder = layers_to_copy(decoder_layers, of_decoder, other.decoder_layers, file)?;
        self.weights.copy(file, |name| {
            // Biases are the first layer's, whatever layer it is copied from.
            if name.ends_with("attn_rel_b.weight") {
                return Some(name.into());
            }
            let layer = renamed(name, "enc.blk.", &encoder).or_else(|| renamed(name, "dec.blk.", &decoder));
            layer.or_else(|| Some(name.into()))
        })
    }

    fn attention(
        &self,
        side: usize,
        drops: &mut Drops<'_>,
        queries: &Arc<Segments>,
        keys: &Arc<Segments>,
    ) -> Attention {
        let Config { heads, head_dim, .. } = self.config;
        Attention {
            heads,
            kv_heads: heads,
            head_dim,
            scale: 1.0,
            causal: side == 1,
            rotary: None,
            buckets: Some(self.buckets[side].clone()),
            drop: drops.next(),
            queries: queries.clone(),
            keys: keys.clone(),
        }
    }

    /// `x + feed_forward(norm(x))`
    fn feed_forward(&self, x: &Tensor, layer: &str, drops: &mut Drops<'_>) -> Result<Tensor> {
        let Config { activation, epsilon, .. } = self.config;
        let weight = |part: &str| self.weights.get(&format!("{layer}.{part}.weight"));
        let normed = rms_norm(x, &weight("ffn_norm")?, epsilon)?;
        let inner = match activation {
            Activation::Relu => linear(&normed, &weight("ffn_up")?)?,
            _ => linears(&normed, &[&weight("ffn_gate")?, &weight("ffn_up")?])?,
        };
        let inner = activate(&inner, activation, drops.next())?;
        drops.add_linear(x, &inner, &weight("ffn_down")?)
    }

    /// `x + attention(norm(x))`, to the text itself.
    fn self_attention(
        &self,
        x: &Tensor,
        side: usize,
        layer: &str,
        segments: &Arc<Segments>,
        drops: &mut Drops<'_>,
    ) -> Result<Tensor> {
        let weight = |part: &str| self.weights.get(&format!("{layer}.attn_{part}.weight"));
        let bias = self.weights.get(["enc.blk.0.attn_rel_b.weight", "dec.blk.0.attn_rel_b.weight"][side])?;
        let normed = rms_norm(x, &weight("norm")?, self.config.epsilon)?;
        let qkv = linears(&normed, &[&weight("q")?, &weight("k")?, &weight("v")?])?;
        let attended = self.attention(side, drops, segments, segments).to_self(&qkv, Some(&bias))?;
        drops.add_linear(x, &attended, &weight("o")?)
    }

    /// `x + attention(norm(x))`, to what the encoder made of the source.
    fn cross_attention(
        &self,
        x: &Tensor,
        source: &Tensor,
        layer: &str,
        (targets, sources): (&Arc<Segments>, &Arc<Segments>),
        drops: &mut Drops<'_>,
    ) -> Result<Tensor> {
        let weight = |part: &str| self.weights.get(&format!("{layer}.cross_attn_{part}.weight"));
        let normed = rms_norm(x, &weight("norm")?, self.config.epsilon)?;
        let queries = linear(&normed, &weight("q")?)?;
        let keys_values = linears(source, &[&weight("k")?, &weight("v")?])?;
        let attention = self.attention(0, drops, targets, sources);
        let attended = Attention { buckets: None, ..attention }.to_other(&queries, &keys_values)?;
        drops.add_linear(x, &attended, &weight("o")?)
    }
}

impl Student for EncoderDecoder {
    fn variables(&self) -> &BTreeMap<String, Var> {
        self.weights.variables()
    }

    fn hidden(&self, batch: &Batch, dropout: Option<(f32, &mut ChaCha8Rng)>) -> Result<Tensor> {
        let Config { context, layers, decoder_layers, epsilon, .. } = self.config;
        let Some(source) = &batch.source else {
            return Err(Error::input("a batch without a source, which an encoder-decoder reads"));
        };
        if source.rows() != batch.input.rows() || source.lengths.contains(&0) {
            return Err(Error::input("a batch whose texts have no source, or an empty one"));
        }
        let (source_ids, sources) = source.packed();
        let (target_ids, targets) = batch.input.packed();
        let longest = sources.longest().max(targets.longest());
        if longest > context {
            return Err(Error::input(format!("a text of {longest} tokens, expected at most the context of {context}")));
        }
        let (sources, targets) = (Arc::new(sources), Arc::new(targets));
        let mut drops = Drops::new(dropout, self.weights.device())?;
        let weight = |name: &str| self.weights.get(name);
        let embeddings = weight("token_embd.weight")?;

        let mut x = drops.apply(embedding(&embeddings, &source_ids)?)?;
        for i in 0..layers {
            let layer = format!("enc.blk.{i}");
            x = self.self_attention(&x, 0, &layer, &sources, &mut drops)?;
            x = self.feed_forward(&x, &layer, &mut drops)?;
        }
        let source = drops.apply(rms_norm(&x, &weight("enc.output_norm.weight")?, epsilon)?)?;

        let mut x = drops.apply(embedding(&embeddings, &target_ids)?)?;
        for i in 0..decoder_layers {
            let layer = format!("dec.blk.{i}");
            x = self.self_attention(&x, 1, &layer, &targets, &mut drops)?;
            x = self.cross_attention(&x, &source, &layer, (&targets, &sources), &mut drops)?;
            x = self.feed_forward(&x, &layer, &mut drops)?;
        }
        // A norm is of each row alone, so the others can be left out before it.
        drops.apply(rms_norm(&valid_rows(&x, batch)?, &weight("dec.output_norm.weight")?, epsilon)?)
    }

    fn output(&self) -> Result<(Tensor, f64)> {
        match self.config.tied {
            true => Ok((self.weights.get("token_embd.weight")?, (self.config.embedding as f64).sqrt().recip())),
            false => Ok((self.weights.get("output.weight")?, 1.0)),
        }
    }

    fn store_as(&mut self, types: Option<Types>) {
        self.weights.store_as(types);
    }

    /// T5 keeps its embeddings √embedding times larger than others do, who scale what they look up, and its queries
    /// √head_dim times smaller, because it leaves out the scale of attention's scores.
    fn rate(&self, name: &str) -> f64 {
        match name {
            "token_embd.weight" => (self.config.embedding as f64).sqrt(),
            _ if name.ends_with("attn_q.weight") => (self.config.head_dim as f64).sqrt().recip(),
            _ => 1.0,
        }
    }

    fn keys(&self) -> Vec<(&'static str, OwnedValue)> {
        let Config { vocab, context, embedding, layers, decoder_layers, heads, head_dim, .. } = self.config;
        let Config { feed_forward, buckets, epsilon, start, .. } = self.config;
        let number = |value: usize| OwnedValue::from(value as u32);
        vec![
            ("general.architecture", "t5".into()),
            ("t5.vocab_size", number(vocab)),
            ("t5.context_length", number(context)),
            ("t5.embedding_length", number(embedding)),
            ("t5.block_count", number(layers)),
            ("t5.decoder_block_count", number(decoder_layers)),
            ("t5.feed_forward_length", number(feed_forward)),
            ("t5.attention.head_count", number(heads)),
            ("t5.attention.key_length", number(head_dim)),
            ("t5.attention.value_length", number(head_dim)),
            ("t5.attention.relative_buckets_count", number(buckets)),
            ("t5.attention.layer_norm_epsilon", epsilon.into()),
            ("t5.attention.layer_norm_rms_epsilon", epsilon.into()),
            ("t5.decoder_start_token_id", start.into()),
        ]
    }
}
