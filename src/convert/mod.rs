//! GGUF files out of Hugging Face checkpoints: a folder with `config.json`, safetensors and a tokenizer.
//!
//! [`convert`] reads the folder's files and checks every tensor's name, type and shape; [`Converted::write_file`] then
//! streams the weights from where they are mapped, so that memory stays small whatever the size of the model. Keys and
//! tensors have llama.cpp's names, so that it opens the files as well.
//!
//! `checkpoint.rs` finds the tensors, `config.rs` reads JSON, `plan.rs` says what becomes of each tensor; `decoder.rs` and
//! `t5.rs` know what models are made of; `vocab/` brings the tokenizer.

mod checkpoint;
mod config;
mod decoder;
mod plan;
mod t5;
mod vocab;

use crate::error::{Error, Result};
use crate::gguf::{OwnedValue, Writer};
use crate::quant::Mix;
use crate::tensor::DType;
use checkpoint::Checkpoint;
use config::Config;
use plan::{Plan, Planned};
use std::path::Path;
use vocab::Vocabulary;

/// Keys and their values, in the order of the file.
type Keys = Vec<(String, OwnedValue)>;

/// A file that is ready to be written.
pub struct Converted {
    /// `general.architecture`
    pub architecture: &'static str,
    /// Tokens of the vocabulary.
    pub tokens: usize,
    /// What reads its texts: `SentencePiece unigram`, `SentencePiece BPE` or `byte-level BPE`.
    pub tokenizer: &'static str,
    /// Tensors whose rows are no whole blocks of the type asked for: their name, and a sentence that says which type
    /// they have instead.
    pub fallbacks: Vec<(String, String)>,
    keys: Keys,
    tensors: Vec<Planned>,
}

/// The architectures that can be converted, as `config.json` calls them, and how.
const ARCHITECTURES: [(&str, Family); 8] = [
    ("LlamaForCausalLM", Family::Decoder("llama")),
    ("MistralForCausalLM", Family::Decoder("llama")),
    ("Qwen2ForCausalLM", Family::Decoder("qwen2")),
    ("Qwen3ForCausalLM", Family::Decoder("qwen3")),
    ("T5ForConditionalGeneration", Family::T5),
    ("T5WithLMHeadModel", Family::T5),
    ("MT5ForConditionalGeneration", Family::T5),
    ("UMT5ForConditionalGeneration", Family::T5),
];

#[derive(Clone, Copy)]
enum Family {
    Decoder(&'static str),
    T5,
}

/// Reads the checkpoint in `folder`; its matrices shall get the types of `mix`.
///
/// # Errors
/// `Io` if a file is missing or cannot be read; `Format` if one is damaged, lacks a tensor or has one of the wrong shape;
/// `Unsupported` for an architecture, a setting, a type of elements or a tokenizer that has no counterpart in GGUF.
pub fn convert(folder: &Path, mix: Mix) -> Result<Converted> {
    let config = Config::read(&folder.join("config.json"))?;
    let class = config.architecture()?;
    let Some(&(_, family)) = ARCHITECTURES.iter().find(|(name, _)| *name == class) else {
        let known = ARCHITECTURES.map(|(name, _)| name).join(", ");
        return Err(config.unsupported("architectures", format_args!("'{class}'"), &known));
    };
    config.only("quantization_config", None, |value| value.is_null())?;

    let mut keys = Keys::new();
    let architecture = match family {
        Family::Decoder(name) => name,
        Family::T5 => "t5",
    };
    put(&mut keys, "general.architecture", architecture);
    put(&mut keys, "general.type", "model");
    put(&mut keys, "general.name", name(folder, &config));
    let mut plan = Plan::new(Checkpoint::open(folder)?, mix);
    let tokens = match family {
        Family::Decoder(_) => decoder::convert(&config, architecture, &mut plan, &mut keys)?,
        Family::T5 => t5::convert(&config, &class, &mut plan, &mut keys)?,
    };
    put(&mut keys, "general.file_type", mix.to_gguf());
    put(&mut keys, "general.quantization_version", 2_u32);
    let vocabulary = Vocabulary::read(folder, &config, architecture, tokens)?;
    let tokenizer = vocabulary.kind();
    vocabulary.put(&mut keys);
    let (tensors, fallbacks) = plan.finish()?;
    Ok(Converted { architecture, tokens, tokenizer, fallbacks, keys, tensors })
}

fn put(keys: &mut Keys, name: &str, value: impl Into<OwnedValue>) {
    keys.push((name.into(), value.into()));
}

/// What the model is called: by its author, or else as its folder.
fn name(folder: &Path, config: &Config) -> String {
    let given = config.text("_name_or_path").map(|path| path.rsplit('/').next().unwrap_or(path));
    let folder = || folder.canonicalize().ok()?.file_name()?.to_str().map(String::from);
    given.filter(|name| !name.is_empty()).map(String::from).or_else(folder).unwrap_or_else(|| "model".into())
}

impl Converted {
    /// Writes the file, as [`Writer::write_file`] does.
    ///
    /// # Errors
    /// `Input` for weights that the types asked for cannot hold, such as NaN; `Io` if the file cannot be written.
    pub fn write_file(&self, path: &Path) -> Result<()> {
        let mut writer = Writer::new();
        for (name, value) in &self.keys {
            writer.key(name, value.clone());
        }
        for tensor in &self.tensors {
            writer.tensor_in_pieces(&tensor.name, tensor.dtype, &tensor.dims, tensor.pieces(), |i| tensor.piece(i));
        }
        writer.write_file(path)
    }

    /// How many tensors have each type, and the bytes that they take.
    pub fn types(&self) -> Vec<(DType, usize, usize)> {
        let of = |dtype: DType| {
            let sizes: Vec<usize> = self.tensors.iter().filter(|t| t.dtype == dtype).map(Planned::bytes).collect();
            (dtype, sizes.len(), sizes.iter().sum())
        };
        DType::ALL.into_iter().map(of).filter(|(_, n, _)| *n > 0).collect()
    }
}

/// The text of a file of the checkpoint, which may have `max` bytes.
fn read_text(path: &Path, max: u64) -> Result<String> {
    let bytes = read_bytes(path, max)?;
    String::from_utf8(bytes).map_err(|_| Error::format(format!("{}: is no UTF-8, expected text", path.display())))
}

fn read_bytes(path: &Path, max: u64) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, &e))?.len();
    if size > max {
        return Err(Error::format(format!("{}: has {size} bytes, expected at most {max}", path.display())));
    }
    std::fs::read(path).map_err(|e| Error::io(path, &e))
}

/// The largest `config.json`, or index of shards.
const MAX_CONFIG: u64 = 64 << 20;

/// The largest tokenizer.
const MAX_TOKENIZER: u64 = 512 << 20;
