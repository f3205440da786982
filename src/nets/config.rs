//! A decoder's dimensions, read from the file's keys and checked.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::nets::family;
use crate::nets::rope::Rope;
use crate::quant;
use crate::tensor::Tensor;

/// The architectures of the Llama family that [`super::decoder::Decoder`] runs.
pub const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Dimensions and constants of a decoder.
#[derive(Debug, Clone)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Elements of the hidden state.
    pub embedding: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of the feed-forward layer.
    pub feed_forward: usize,
    /// ε of the RMS norms.
    pub epsilon: f32,
    /// Positions.
    pub rope: Rope,
}

impl Config {
    /// Reads a file's keys.
    ///
    /// # Errors
    /// `Unsupported` for another architecture, `Format` for keys that are missing, of the wrong type or senseless.
    pub fn read(file: &Gguf) -> Result<Self> {
        let keys = file.keys();
        let arch = keys.str("general.architecture")?.to_owned();
        if !ARCHITECTURES.contains(&arch.as_str()) {
            return Err(family::refusal(file, &arch, "a language model", &ARCHITECTURES.join(", ")));
        }
        let key = |name: &str| format!("{arch}.{name}");
        // Bounds keep products of the dimensions far from overflow; the largest models known stay well below them.
        let within = |name: &str, value: usize, max: usize| {
            if (1..=max).contains(&value) {
                return Ok(value);
            }
            let message = format!("{}: key `{}` is {value}, expected 1 to {max}", file.name(), key(name));
            Err(Error::format(message))
        };
        let number = |name: &str, max: usize| within(name, keys.usize(&key(name))?, max);
        let or =
            |name: &str, default: usize, max: usize| within(name, keys.opt_usize(&key(name))?.unwrap_or(default), max);
        if keys.opt_usize(&key("expert_count"))?.unwrap_or(0) > 0 {
            return Err(Error::unsupported(format!(
                "{}: the model is a mixture of experts (`{}`), expected a dense one",
                file.name(),
                key("expert_count")
            )));
        }

        let context = number("context_length", 1 << 30)?;
        let embedding = number("embedding_length", 1 << 20)?;
        let layers = number("block_count", 4096)?;
        let heads = number("attention.head_count", 1 << 16)?;
        let kv_heads = or("attention.head_count_kv", heads, 1 << 16)?;
        let head_dim = or("attention.key_length", embedding / heads, 1 << 14)?;
        let value_dim = or("attention.value_length", head_dim, 1 << 14)?;
        let feed_forward = number("feed_forward_length", 1 << 22)?;
        if heads % kv_heads != 0 || value_dim != head_dim {
            return Err(Error::unsupported(format!(
                "{}: {heads} query heads, {kv_heads} key/value heads, keys of {head_dim} and values of {value_dim}: \
                 expected whole groups and equal lengths",
                file.name()
            )));
        }
        let epsilon = keys.f32(&key("attention.layer_norm_rms_epsilon"))?;
        if !(0.0..1.0).contains(&epsilon) {
            let key = key("attention.layer_norm_rms_epsilon");
            return Err(Error::format(format!("{}: key `{key}` is {epsilon}, expected 0 to 1", file.name())));
        }
        let vocab = match keys.get("tokenizer.ggml.tokens") {
            Some(_) => keys.strings("tokenizer.ggml.tokens")?.len(),
            None => match keys.opt_usize(&key("vocab_size"))? {
                Some(vocab) => vocab,
                None => file.tensor("token_embd.weight")?.rows(),
            },
        };
        let rope = Rope::read(file, &arch, head_dim, context)?;
        Ok(Self {
            architecture: arch.clone(),
            vocab: within("vocab_size", vocab, 1 << 24)?,
            context,
            embedding,
            layers,
            heads,
            kv_heads,
            head_dim,
            feed_forward,
            epsilon,
            rope,
        })
    }
}

/// The matrix `name` with `cols` inputs and `rows` outputs.
pub(super) fn matrix(file: &Gguf, name: &str, cols: usize, rows: usize) -> Result<Tensor> {
    let tensor = file.tensor(name)?;
    if tensor.dims() != [cols, rows] {
        let dims = tensor.dims();
        let message = format!("{}: tensor `{name}` is {dims:?}, expected [{cols}, {rows}]", file.name());
        return Err(Error::format(message));
    }
    Ok(tensor)
}

/// The numbers of a tensor of `len` elements: norms, biases.
pub(super) fn vector(file: &Gguf, tensor: &Tensor, name: &str, len: usize) -> Result<Vec<f32>> {
    if tensor.dims() != [len] {
        let dims = tensor.dims();
        return Err(Error::format(format!("{}: tensor `{name}` is {dims:?}, expected [{len}]", file.name())));
    }
    let mut numbers = vec![0.0; len];
    quant::dequantize(tensor.dtype(), tensor.data(), &mut numbers);
    Ok(numbers)
}
