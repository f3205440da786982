//! The tokenizer of a checkpoint, as llama.cpp stores it.
//!
//! SentencePiece's own file comes first (`sentencepiece.rs`), then `tokenizer.json` (`json.rs`). What both leave open —
//! added tokens, special tokens, the chat template — is read here.

mod base64;
mod json;
mod sentencepiece;

use super::config::Config;
use super::{Keys, MAX_CONFIG, MAX_TOKENIZER, put, read_bytes, read_text};
use crate::error::{Error, Result};
use crate::gguf::OwnedValue;
use json::Json;
use serde_json::Value;
use std::path::Path;

/// What a token is for, by its number in GGUF, which is SentencePiece's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

struct Token {
    text: Vec<u8>,
    score: f32,
    kind: Kind,
}

impl Token {
    fn new(text: impl Into<Vec<u8>>, score: f32, kind: Kind) -> Self {
        Self { text: text.into(), score, kind }
    }
}

/// How texts become tokens.
enum Model {
    /// SentencePiece unigram (`t5`), with its rules to normalise texts.
    Unigram { charsmap: Vec<u8>, remove_extra_spaces: bool },
    /// SentencePiece BPE (`llama`).
    Spm,
    /// Byte-level BPE (`gpt2`), and how it splits texts.
    Bpe { merges: Vec<String>, pre: &'static str },
}

/// A vocabulary by itself, without what it is used for.
struct Base {
    model: Model,
    tokens: Vec<Token>,
    /// Whether a space goes before a text.
    space_before: Option<bool>,
}

/// A token that was added to a vocabulary.
struct Added {
    id: u32,
    text: String,
    special: bool,
}

/// The tokens of a model, and what is to be known about them.
pub(super) struct Vocabulary {
    base: Base,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
    /// The tokens with a role.
    roles: Vec<(&'static str, u32)>,
    chat_template: Option<String>,
}

impl Vocabulary {
    /// Reads the tokenizer of a model that has embeddings for `len` tokens.
    ///
    /// # Errors
    /// `Io` or `Format` if it is missing or damaged; `Unsupported` if GGUF cannot express it.
    pub(super) fn read(folder: &Path, config: &Config, arch: &str, len: usize) -> Result<Self> {
        let settings = Config::read_if_there(&folder.join("tokenizer_config.json"))?;
        let json = Json::read_if_there(&folder.join("tokenizer.json"))?;
        let mut base = base(folder, json.as_ref(), arch)?;
        if base.tokens.len() > len {
            let (place, tokens) = (folder.display(), base.tokens.len());
            return Err(Error::format(format!(
                "{place}: the tokenizer has {tokens} tokens, expected at most {len}, as many as embeddings"
            )));
        }
        let unused = |i: usize| Token::new(format!("[PAD{i}]"), -10_000.0, Kind::Unused);
        base.tokens.extend((base.tokens.len()..len).map(unused));

        let mut added = added_tokens(folder, &settings)?;
        added.extend(json.as_ref().map(Json::added_tokens).unwrap_or_default());
        for token in added {
            base.add(token);
        }
        let processed = json.as_ref().map(Json::adds);
        let add = |name, at: usize| Ok(settings.opt_bool(name)?.or(processed.map(|adds| adds[at])));
        let (add_bos, add_eos) = (add("add_bos_token", 0)?, add("add_eos_token", 1)?);
        let roles = roles(folder, &base, &settings, config)?;
        Ok(Self { add_bos, add_eos, roles, chat_template: chat_template(folder, &settings)?, base })
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.base.model {
            Model::Unigram { .. } => "SentencePiece unigram",
            Model::Spm => "SentencePiece BPE",
            Model::Bpe { .. } => "byte-level BPE",
        }
    }

    /// Adds the keys of the tokenizer.
    pub(super) fn put(self, keys: &mut Keys) {
        let Base { model, tokens, space_before } = self.base;
        let mut key = |name: &str, value: OwnedValue| put(keys, &format!("tokenizer.ggml.{name}"), value);
        let (name, pre) = match &model {
            Model::Unigram { .. } => ("t5", "default"),
            Model::Spm => ("llama", "default"),
            Model::Bpe { pre, .. } => ("gpt2", *pre),
        };
        key("model", name.into());
        key("pre", pre.into());
        key("tokens", OwnedValue::strings(tokens.iter().map(|token| &token.text)));
        if !matches!(model, Model::Bpe { .. }) {
            key("scores", tokens.iter().map(|token| token.score).collect::<Vec<_>>().into());
        }
        key("token_type", tokens.iter().map(|token| token.kind as i32).collect::<Vec<_>>().into());
        match model {
            Model::Unigram { charsmap, remove_extra_spaces } => {
                key("remove_extra_whitespaces", remove_extra_spaces.into());
                if !charsmap.is_empty() {
                    key("precompiled_charsmap", charsmap.into());
                }
            }
            Model::Spm => {}
            Model::Bpe { merges, .. } => key("merges", merges.into()),
        }
        for (name, value) in
            [("add_space_prefix", space_before), ("add_bos_token", self.add_bos), ("add_eos_token", self.add_eos)]
        {
            if let Some(value) = value {
                key(name, value.into());
            }
        }
        for (role, id) in self.roles {
            key(&format!("{role}_token_id"), id.into());
        }
        if let Some(template) = self.chat_template {
            put(keys, "tokenizer.chat_template", template);
        }
    }
}

/// The vocabulary by itself.
fn base(folder: &Path, json: Option<&Json>, arch: &str) -> Result<Base> {
    // Qwen has none of its own, and what others call `tokenizer.model` may be something else.
    let names: &[&str] = if arch == "t5" { &["tokenizer.model", "spiece.model"] } else { &["tokenizer.model"] };
    for path in names.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
        let read = sentencepiece::read(&read_bytes(&path, MAX_TOKENIZER)?);
        match (read, json) {
            (Ok(base), _) => return Ok(base),
            (Err(_), Some(_)) => {}
            (Err(error), None) => return Err(error.at(path.display())),
        }
    }
    match json {
        Some(json) => json.base(),
        None => Err(Error::format(format!(
            "{}: no tokenizer.json, tokenizer.model or spiece.model, expected one of them",
            folder.display()
        ))),
    }
}

impl Base {
    /// Puts a token in its place. What lies beyond the embeddings is left out: no text can have it.
    fn add(&mut self, added: Added) {
        let Some(token) = self.tokens.get_mut(added.id as usize) else { return };
        if token.text == added.text.as_bytes() && matches!(token.kind, Kind::Unknown | Kind::Control | Kind::Byte) {
            return;
        }
        // Some are not marked, but look like marks of a chat, which no text may bring in (as in llama.cpp).
        let mark = added.special || (added.text.starts_with("<|") && added.text.ends_with("|>"));
        *token = Token::new(added.text, -1000.0, if mark { Kind::Control } else { Kind::UserDefined });
    }

    fn id(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|token| token.text == text.as_bytes()).map(|id| id as u32)
    }
}

/// Tokens that are listed outside of the tokenizer: in `added_tokens.json` and in `tokenizer_config.json`.
fn added_tokens(folder: &Path, settings: &Config) -> Result<Vec<Added>> {
    let mut added = Vec::new();
    let path = folder.join("added_tokens.json");
    if path.exists() {
        let ids: std::collections::BTreeMap<String, u32> = serde_json::from_str(&read_text(&path, MAX_CONFIG)?)
            .map_err(|e| Error::format(format!("{}: no object of ids: {e}", path.display())))?;
        added.extend(ids.into_iter().map(|(text, id)| Added { id, text, special: false }));
    }
    if let Some(Value::Object(tokens)) = settings.get("added_tokens_decoder") {
        for (id, token) in tokens {
            if let (Ok(id), Some(text)) = (id.parse(), content(token)) {
                added.push(Added { id, text: text.into(), special: token["special"] == true });
            }
        }
    }
    Ok(added)
}

/// The text of a token, which is text or an object with it.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// The ids of the tokens with a role: by their texts in the tokenizer's settings, or else by the model's.
fn roles(folder: &Path, base: &Base, settings: &Config, config: &Config) -> Result<Vec<(&'static str, u32)>> {
    let mut roles = Vec::new();
    let exists = |id: &u32| (*id as usize) < base.tokens.len();
    for (role, short) in [("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")] {
        let text = settings.get(&format!("{short}_token")).and_then(content);
        let id = text.and_then(|text| base.id(text)).or_else(|| config.id(&format!("{short}_token_id")));
        roles.extend(id.filter(exists).map(|id| (role, id)));
    }
    // Of several tokens that end what is generated, the one that is not `eos` ends a turn.
    let eos = roles.iter().find(|(role, _)| *role == "eos").map(|(_, id)| *id);
    let ends = Config::read_if_there(&folder.join("generation_config.json"))?.ids("eos_token_id");
    let eot = ends.iter().chain(&config.ids("eos_token_id")).copied().find(|id| Some(*id) != eos && exists(id));
    roles.extend(eot.map(|id| ("eot", id)));
    Ok(roles)
}

/// How a chat is written down: in a file of its own, or in the tokenizer's settings, perhaps as one of several.
fn chat_template(folder: &Path, settings: &Config) -> Result<Option<String>> {
    let path = folder.join("chat_template.jinja");
    if path.exists() {
        return read_text(&path, MAX_CONFIG).map(Some);
    }
    let template = match settings.get("chat_template") {
        Some(Value::Array(several)) => {
            several.iter().find(|one| one["name"] == "default").and_then(|one| one["template"].as_str())
        }
        Some(one) => one.as_str(),
        None => None,
    };
    Ok(template.map(String::from))
}
