//! A language model's file, opened and checked.

use crate::bytes::Bytes;
use crate::error::Result;
use crate::gguf::Gguf;
use crate::nets::decoder::Decoder;
use crate::text::{ChatTemplate, SamplerOptions, Tokenizer};
use std::path::Path;
use std::sync::Arc;

/// A decoder-only language model: its weights where they are mapped, its tokenizer and its chat template.
///
/// Opening takes milliseconds whatever the file's size; weights are read when they are first used. A model may serve
/// any number of [`Chat`](crate::Chat)s; a clone is another handle of the same one.
#[derive(Clone)]
pub struct Model(Arc<Parts>);

struct Parts {
    file: Gguf,
    decoder: Decoder,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    sampling: SamplerOptions,
}

impl Model {
    /// Maps the GGUF file at `path` and checks everything in it that is structure.
    ///
    /// # Errors
    /// `Io`, `Format` or `Unsupported`, with one line that names the file, the key or tensor, and what was expected.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_file(Gguf::open(path.as_ref())?)
    }

    /// A model whose file is in memory or embedded in the program; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<Arc<Bytes>>, name: &str) -> Result<Self> {
        Self::from_file(Gguf::from_bytes(bytes, name)?)
    }

    fn from_file(file: Gguf) -> Result<Self> {
        let decoder = Decoder::load(&file)?;
        let tokenizer = Tokenizer::from_gguf(&file)?;
        let template = ChatTemplate::from_gguf(&file, &tokenizer)?;
        let sampling = SamplerOptions::recommended(file.keys()).map_err(|error| error.at(file.name()))?;
        Ok(Self(Arc::new(Parts { file, decoder, tokenizer, template, sampling })))
    }

    /// The file itself: keys and tensors.
    pub fn file(&self) -> &Gguf {
        &self.0.file
    }

    /// The network.
    pub fn decoder(&self) -> &Decoder {
        &self.0.decoder
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The chat template: the file's own, or ChatML.
    pub fn template(&self) -> &ChatTemplate {
        &self.0.template
    }

    /// How the file recommends to choose tokens.
    pub fn sampling(&self) -> &SamplerOptions {
        &self.0.sampling
    }
}
