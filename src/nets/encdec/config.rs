//! Dimensions of an encoder-decoder, read from the file's keys and checked.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::nets::family;

/// The architecture that [`super::EncDec`] runs, as `general.architecture` has it.
pub const ARCHITECTURE: &str = "t5";

/// Dimensions and constants of an encoder-decoder.
#[derive(Debug, Clone)]
pub struct Config {
    /// Rows of the embeddings; at least as many as there are tokens.
    pub vocab: usize,
    /// Tokens of a text the model was trained for. Longer ones can be run.
    pub context: usize,
    /// Elements of the hidden state.
    pub embedding: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Elements of a head; all heads together may be wider or narrower than the hidden state.
    pub head_dim: usize,
    /// Elements of the feed-forward layers.
    pub feed_forward: usize,
    /// ε of the RMS norms.
    pub epsilon: f32,
    /// Buckets of relative positions.
    pub buckets: usize,
    /// The token that the decoder starts with.
    pub start: u32,
}

impl Config {
    /// Reads a file's keys, which are those of llama.cpp.
    ///
    /// # Errors
    /// `Unsupported` for another architecture, `Format` for keys that are missing, of the wrong type or senseless.
    pub fn read(file: &Gguf) -> Result<Self> {
        let keys = file.keys();
        let arch = keys.str("general.architecture")?;
        if arch != ARCHITECTURE {
            return Err(family::refusal(file, arch, "a translator", ARCHITECTURE));
        }
        let key = |name: &str| format!("{ARCHITECTURE}.{name}");
        // Bounds keep products of the dimensions far from overflow; the largest models known stay well below them.
        let within = |name: &str, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(value);
            }
            let message = format!("{}: key `{}` is {value}, expected {min} to {max}", file.name(), key(name));
            Err(Error::format(message))
        };
        let number = |name: &str, max: usize| within(name, keys.usize(&key(name))?, 1, max);
        let or = |name: &str, default: usize, max: usize| {
            within(name, keys.opt_usize(&key(name))?.unwrap_or(default), 1, max)
        };

        let embedding = number("embedding_length", 1 << 20)?;
        let encoder_layers = number("block_count", 4096)?;
        let heads = number("attention.head_count", 1 << 12)?;
        let head_dim = or("attention.key_length", embedding / heads, 1 << 14)?;
        let value_dim = or("attention.value_length", head_dim, 1 << 14)?;
        if value_dim != head_dim {
            return Err(Error::unsupported(format!(
                "{}: keys of {head_dim} and values of {value_dim}, expected equal lengths",
                file.name()
            )));
        }
        let buckets = keys.usize(&key("attention.relative_buckets_count"))?;
        let buckets = within("attention.relative_buckets_count", buckets, 4, 128)?;
        let epsilon_key = key("attention.layer_norm_rms_epsilon");
        let epsilon = match keys.opt_f32(&epsilon_key)? {
            Some(epsilon) => epsilon,
            None => keys.f32(&key("attention.layer_norm_epsilon"))?,
        };
        if !(0.0..1.0).contains(&epsilon) {
            return Err(Error::format(format!("{}: key `{epsilon_key}` is {epsilon}, expected 0 to 1", file.name())));
        }
        let vocab = within("vocab_size", file.tensor("token_embd.weight")?.rows(), 1, 1 << 24)?;
        let start = keys.opt_usize(&key("decoder_start_token_id"))?.unwrap_or(0);
        Ok(Self {
            vocab,
            context: or("context_length", 512, 1 << 30)?,
            embedding,
            encoder_layers,
            decoder_layers: or("decoder_block_count", encoder_layers, 4096)?,
            heads,
            head_dim,
            feed_forward: number("feed_forward_length", 1 << 22)?,
            epsilon,
            buckets,
            start: within("decoder_start_token_id", start, 0, vocab - 1)? as u32,
        })
    }
}
