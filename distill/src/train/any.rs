//! A student of either kind, made as a recipe says.

use crate::{
    batch::Batch,
    data::text::Kind,
    error::{Error, Result},
    nn::gates::Activation,
    recipe::Recipe,
    student::{Decoder, EncoderDecoder, Student, Weights, decoder, encdec},
};
use candle_core::{Device, Tensor, Var};
use pupil::gguf::Gguf;
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, path::Path};

/// A student of either kind.
#[allow(missing_docs)]
pub enum AnyStudent {
    Chat(Decoder),
    Translate(EncoderDecoder),
}

impl AnyStudent {
    /// The student of a recipe for a vocabulary of `tokens`, with random weights.
    ///
    /// # Errors
    /// `Input` for a shape that makes no network.
    pub fn new(recipe: &Recipe, tokens: usize, device: &Device) -> Result<Self> {
        let mut shape = recipe.student.clone();
        let mut default = |key: &str, value: usize| {
            shape.entry(key).or_insert(toml::Value::Integer(value as i64));
        };
        default("vocab", tokens);
        default("context", recipe.data.max_tokens.next_multiple_of(32));
        let seed = recipe.train.seed;
        let refuse = |error: toml::de::Error| Error::format(format!("[student]: {}", error.message()));
        let student = match recipe.kind {
            Kind::Chat => Self::Chat(Decoder::new(shape.try_into().map_err(refuse)?, seed, device).map_err(in_shape)?),
            Kind::Translate => {
                Self::Translate(EncoderDecoder::new(shape.try_into().map_err(refuse)?, seed, device).map_err(in_shape)?)
            }
        };
        match student.vocab() == tokens {
            true => Ok(student),
            false => {
                let vocab = student.vocab();
                Err(Error::input(format!("[student]: `vocab` is {vocab}, expected the tokenizer's {tokens}")))
            }
        }
    }

    /// The student in a file.
    ///
    /// # Errors
    /// As [`Gguf::open`]; `Input` if it holds another network.
    pub fn open(path: &Path, kind: Kind, device: &Device) -> Result<Self> {
        let file = Gguf::open(path)?;
        let student = match kind {
            Kind::Chat => Self::Chat(Decoder::new(decoder::Config::of(&file)?, 0, device)?),
            Kind::Translate => Self::Translate(EncoderDecoder::new(shape_of(&file)?, 0, device)?),
        };
        student.init_from(&file, None, None)?;
        Ok(student)
    }

    /// Takes over the weights of a file, or some of its layers.
    ///
    /// # Errors
    /// `Input` or `Format` if the file holds another network.
    pub fn init_from(&self, file: &Gguf, layers: Option<&[usize]>, decoder_layers: Option<&[usize]>) -> Result<()> {
        match self {
            Self::Chat(student) => student.init_from(file, layers),
            Self::Translate(student) => student.init_from(file, layers, decoder_layers),
        }
    }

    /// Tokens in the vocabulary.
    pub fn vocab(&self) -> usize {
        match self {
            Self::Chat(student) => student.config().vocab,
            Self::Translate(student) => student.config().vocab,
        }
    }

    /// The variables.
    pub fn weights(&self) -> &Weights {
        match self {
            Self::Chat(student) => student.weights(),
            Self::Translate(student) => student.weights(),
        }
    }

    /// The variables, to say how they will be stored.
    pub fn weights_mut(&mut self) -> &mut Weights {
        match self {
            Self::Chat(student) => student.weights_mut(),
            Self::Translate(student) => student.weights_mut(),
        }
    }

    /// Numbers in all variables.
    pub fn parameters(&self) -> usize {
        self.variables().values().map(|variable| variable.elem_count()).sum()
    }
}

impl Student for AnyStudent {
    fn variables(&self) -> &BTreeMap<String, Var> {
        match self {
            Self::Chat(student) => student.variables(),
            Self::Translate(student) => student.variables(),
        }
    }

    fn hidden(&self, batch: &Batch, dropout: Option<(f32, &mut ChaCha8Rng)>) -> Result<Tensor> {
        match self {
            Self::Chat(student) => student.hidden(batch, dropout),
            Self::Translate(student) => student.hidden(batch, dropout),
        }
    }

    fn output(&self) -> Result<(Tensor, f64)> {
        match self {
            Self::Chat(student) => student.output(),
            Self::Translate(student) => student.output(),
        }
    }
}

/// The dimensions of the encoder-decoder in a file.
fn shape_of(file: &Gguf) -> Result<encdec::Config> {
    let config = pupil::nets::encdec::Config::read(file)?;
    let gated = file.find_tensor("enc.blk.0.ffn_gate.weight").is_some();
    Ok(encdec::Config {
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
        max_distance: 128,
        epsilon: config.epsilon,
        tied: file.find_tensor("output.weight").is_none(),
        start: config.start,
    })
}

fn in_shape(error: Error) -> Error {
    error.at("[student]")
}
