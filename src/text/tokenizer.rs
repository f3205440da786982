//! The tokenizer that a file carries.

use super::{
    bpe::Bpe,
    charsmap::Charsmap,
    merge::Merger,
    pretokenize::Split,
    specials::{Fragment, SpecialTokens, find_ends},
    spm::Spm,
    unigram::Unigram,
    vocab::{Kind, Pool, Spelling, Vocab},
};
use crate::{
    error::{Error, Result},
    gguf::{Gguf, Value, ValueType},
};
use std::{collections::BTreeSet, fmt};

/// What a text's special tokens are to [`Tokenizer::encode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Specials {
    /// Adds the tokens that begin and end a text, if the file says that its model wants them.
    pub add: bool,
    /// Takes what is spelled like a special token for that token. Leave it off for text that others wrote.
    pub parse: bool,
}

impl Specials {
    /// Plain text, nothing added: a part of a document.
    pub const NONE: Self = Self { add: false, parse: false };
    /// Plain text, with the tokens that begin and end it: a whole document.
    pub const ADD: Self = Self { add: true, parse: false };
    /// Text that spells all of its special tokens: what a chat template has written.
    pub const PARSE: Self = Self { add: false, parse: true };
}

/// Turns text into token ids and back.
///
/// The vocabulary stays where it is mapped; opening a file with 150,000 tokens takes a few milliseconds.
pub struct Tokenizer {
    vocab: Vocab,
    model: Model,
    specials: SpecialTokens,
    ends: BTreeSet<u32>,
    named: Named,
    /// A space goes before text at the beginning and after special tokens.
    space_before: bool,
    add_bos: bool,
    add_eos: bool,
}

enum Model {
    Spm(Spm),
    Bpe(Bpe),
    Unigram(Box<Unigram>),
    #[cfg(feature = "hf-tokenizer")]
    HuggingFace(Box<super::hf::HuggingFace>),
}

/// The tokens that a file gives a role.
#[derive(Debug, Clone, Copy, Default)]
struct Named {
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    eom: Option<u32>,
    unknown: Option<u32>,
    pad: Option<u32>,
    fill_in: [Option<u32>; 3],
}

impl Named {
    /// Reads the ids that `file` gives; those outside of a vocabulary of `len` tokens count as not given, because
    /// real files have such.
    fn read(file: &Gguf, len: usize) -> Result<Self> {
        let id = |role: &str| -> Result<Option<u32>> {
            let id = file.keys().opt_u32(&format!("tokenizer.ggml.{role}_token_id"))?;
            Ok(id.filter(|&id| (id as usize) < len))
        };
        Ok(Self {
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unknown: id("unknown")?,
            pad: id("padding")?,
            fill_in: [id("fim_pad")?, id("fim_rep")?, id("fim_sep")?],
        })
    }

    fn ends(&self) -> impl Iterator<Item = u32> {
        [self.eos, self.eot, self.eom].into_iter().chain(self.fill_in).flatten()
    }
}

/// The longest text that is encoded at once: positions are 32 bits, and bytes may become three times as many.
const MAX_TEXT: usize = 1 << 30;

impl Tokenizer {
    /// The tokenizer of a file: its own vocabulary (`tokenizer.ggml.*`) if it is SentencePiece BPE (`llama`),
    /// SentencePiece unigram (`t5`) or byte-level BPE (`gpt2`), else the one in `tokenizer.huggingface.json`.
    ///
    /// # Errors
    /// `Format` if keys are missing or contradict each other; `Unsupported` for another model or an unknown
    /// `tokenizer.ggml.pre`.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let json = file.keys().opt_str("tokenizer.huggingface.json")?;
        let has_tokens = file.keys().get("tokenizer.ggml.tokens").is_some();
        let model = file.keys().opt_str("tokenizer.ggml.model")?;
        match (model, json) {
            (Some("llama"), _) if has_tokens => Self::spm(file),
            (Some("t5"), _) if has_tokens => Self::unigram(file),
            (Some("gpt2"), json) if has_tokens => {
                let pre = file.keys().opt_str("tokenizer.ggml.pre")?.unwrap_or("default");
                match (Split::from_name(pre), json) {
                    (Some(split), _) => Self::bpe(file, split, Split::whole_words(pre)),
                    (None, Some(json)) => Self::hugging_face(file, json),
                    (None, None) => Err(Error::unsupported(format!(
                        "{}: tokenizer.ggml.pre is {pre:?}, expected one of: {}",
                        file.name(),
                        Split::names()
                    ))),
                }
            }
            (_, Some(json)) => Self::hugging_face(file, json),
            (Some(model), None) if has_tokens => Err(Error::unsupported(format!(
                "{}: tokenizer.ggml.model is {model:?}, expected \"llama\", \"gpt2\", \"t5\" or a tokenizer.huggingface.json",
                file.name()
            ))),
            _ => Err(Error::format(format!(
                "{}: the file has no tokenizer, expected tokenizer.ggml.model and tokenizer.ggml.tokens",
                file.name()
            ))),
        }
    }

    fn spm(file: &Gguf) -> Result<Self> {
        let vocab = read_vocab(file, Spelling::Pieces)?;
        let mut named = Named::read(file, vocab.len())?;
        // SentencePiece's own numbers, for files that name none.
        let usual = |id: u32| Some(id).filter(|&id| (id as usize) < vocab.len());
        named.unknown = named.unknown.or(usual(0));
        named.bos = named.bos.or(usual(1));
        named.eos = named.eos.or(usual(2));
        let scores = read_scores(file, vocab.len())?;
        let model = Model::Spm(Spm::new(&vocab, &scores, named.unknown));
        Self::finish(file, vocab, model, named, Defaults { space_before: true, add_bos: true, add_eos: false })
    }

    fn unigram(file: &Gguf) -> Result<Self> {
        let vocab = read_vocab(file, Spelling::Pieces)?;
        let mut named = Named::read(file, vocab.len())?;
        // T5's own numbers, for files that name none.
        let usual = |id: u32| Some(id).filter(|&id| (id as usize) < vocab.len());
        named.pad = named.pad.or(usual(0));
        named.eos = named.eos.or(usual(1));
        named.unknown = named.unknown.or(usual(2));
        let scores = read_scores(file, vocab.len())?;
        let remove_spaces = file.keys().opt_bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(true);
        let unigram = Unigram::new(&vocab, scores, named.unknown, read_charsmap(file)?, remove_spaces);
        let unigram = unigram.map_err(|e| e.at(file.name()))?;
        let defaults = Defaults { space_before: true, add_bos: false, add_eos: true };
        Self::finish(file, vocab, Model::Unigram(Box::new(unigram)), named, defaults)
    }

    fn bpe(file: &Gguf, split: Split, whole_words: bool) -> Result<Self> {
        let vocab = read_vocab(file, Spelling::ByteLevel)?;
        let named = Named::read(file, vocab.len())?;
        let merges = Pool::new(file.bytes(), file.keys().strings("tokenizer.ggml.merges")?);
        let merges = merges.map_err(|e| e.at("tokenizer.ggml.merges").at(file.name()))?;
        let bpe = Bpe::new(merges, split, whole_words);
        Self::finish(
            file,
            vocab,
            Model::Bpe(bpe),
            named,
            Defaults { space_before: false, add_bos: whole_words, add_eos: false },
        )
    }

    #[cfg(feature = "hf-tokenizer")]
    fn hugging_face(file: &Gguf, json: &str) -> Result<Self> {
        let loaded =
            super::hf::HuggingFace::load(json).map_err(|e| e.at("tokenizer.huggingface.json").at(file.name()))?;
        let (model, vocab) = loaded;
        let named = Named::read(file, vocab.len())?;
        let defaults = Defaults { space_before: model.space_before(), add_bos: false, add_eos: false };
        Self::finish(file, vocab, Model::HuggingFace(Box::new(model)), named, defaults)
    }

    #[cfg(not(feature = "hf-tokenizer"))]
    fn hugging_face(file: &Gguf, _: &str) -> Result<Self> {
        Err(Error::unsupported(format!(
            "{}: the tokenizer is in tokenizer.huggingface.json, which needs the feature `hf-tokenizer`",
            file.name()
        )))
    }

    /// What all kinds have in common.
    fn finish(file: &Gguf, mut vocab: Vocab, model: Model, named: Named, defaults: Defaults) -> Result<Self> {
        let keys = file.keys();
        let ends = find_ends(&mut vocab, named.ends());
        // Phi-3's special tokens take the white space after them, but files do not say so.
        let phi3 = keys.opt_str("general.name")?.is_some_and(|name| {
            let name = name.to_ascii_lowercase();
            name.contains("phi-3") || name.contains("phi3")
        });
        let specials = SpecialTokens::new(&vocab, |text| phi3 && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>"));
        let tokenizer = Self {
            space_before: keys.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(defaults.space_before),
            add_bos: keys.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(defaults.add_bos),
            add_eos: keys.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(defaults.add_eos),
            vocab,
            model,
            specials,
            ends,
            named,
        };
        for (add, id, role) in [(tokenizer.add_bos, named.bos, "bos"), (tokenizer.add_eos, named.eos, "eos")] {
            if add && id.is_none() {
                return Err(Error::format(format!(
                    "{}: texts get a {role} token, but tokenizer.ggml.{role}_token_id names none of the {} tokens",
                    file.name(),
                    tokenizer.len()
                )));
            }
        }
        Ok(tokenizer)
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// `Input` if the text is longer than 1 GiB.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT {
            return Err(Error::input(format!("a text of {} bytes, expected at most {MAX_TEXT}", text.len())));
        }
        #[cfg(feature = "hf-tokenizer")]
        if let Model::HuggingFace(model) = &self.model {
            return model.encode(text, specials);
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        let mut merger = Merger::default();
        ids.extend(self.named.bos.filter(|_| specials.add && self.add_bos));
        let mut after_special = true;
        for fragment in self.specials.partition(text, specials.parse) {
            match (fragment, &self.model) {
                (Fragment::Token(id), _) => ids.push(id),
                (Fragment::Text(text), Model::Spm(spm)) => {
                    spm.encode(&self.vocab, text, self.space_before && after_special, &mut merger, &mut ids);
                }
                (Fragment::Text(text), Model::Unigram(unigram)) => unigram.encode(text, self.space_before, &mut ids)?,
                (Fragment::Text(text), Model::Bpe(bpe)) => bpe.encode(&self.vocab, text, &mut merger, &mut ids),
                #[cfg(feature = "hf-tokenizer")]
                (Fragment::Text(_), Model::HuggingFace(_)) => {}
            }
            after_special = matches!(fragment, Fragment::Token(_));
        }
        ids.extend(self.named.eos.filter(|_| specials.add && self.add_eos));
        Ok(ids)
    }

    /// The bytes that a token adds to a text: nothing for control tokens and for ids that do not exist. A character
    /// may be spread over several tokens; [`StreamDecoder`](super::StreamDecoder) puts it together.
    pub fn piece(&self, id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.vocab.write_piece(id, &mut out);
        out
    }

    /// The text of `ids`, without control tokens and without the space that [`encode`](Self::encode) puts before text.
    /// Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut out = Vec::new();
        let mut after_special = true;
        for &id in ids {
            let start = out.len();
            self.vocab.write_piece(id, &mut out);
            let kind = self.vocab.kind(id);
            if self.space_before && after_special && kind == Kind::Normal && out.get(start) == Some(&b' ') {
                out.remove(start);
            }
            // An unknown token stands in the middle of text.
            after_special = matches!(kind, Kind::Control | Kind::UserDefined)
                || (after_special && kind == Kind::Normal && self.trims() && out.is_empty());
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Whether texts begin with no space, however many there are.
    fn trims(&self) -> bool {
        matches!(&self.model, Model::Unigram(unigram) if unigram.removes_extra_spaces())
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.vocab.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A token as the vocabulary spells it, like `▁the`, `Ġthe` or `<|im_end|>`; nothing for ids that do not exist.
    pub fn token(&self, id: u32) -> &[u8] {
        self.vocab.text(id)
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocab.find(token.as_bytes())
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.named.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.named.eos
    }

    /// The token that ends a turn, if the file names one.
    pub fn eot(&self) -> Option<u32> {
        self.named.eot
    }

    /// The token for what cannot be written with the others.
    pub fn unknown(&self) -> Option<u32> {
        self.named.unknown
    }

    /// The token that fills up batches; T5's decoder starts with it.
    pub fn pad(&self) -> Option<u32> {
        self.named.pad
    }

    /// Whether [`Specials::ADD`] begins a text with [`bos`](Self::bos).
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether [`Specials::ADD`] ends a text with [`eos`](Self::eos).
    pub fn adds_eos(&self) -> bool {
        self.add_eos
    }

    /// Whether a model that gives this token has finished its answer: the file's end tokens, and those known by their
    /// text such as `<|im_end|>`, `<|eot_id|>` or `</s>`.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// Whether a token is a mark for the model and not text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.kind(id).is_control()
    }
}

/// What a kind of tokenizer does if the file does not say.
struct Defaults {
    space_before: bool,
    add_bos: bool,
    add_eos: bool,
}

fn read_vocab(file: &Gguf, spelling: Spelling) -> Result<Vocab> {
    let keys = file.keys();
    let tokens = Pool::new(file.bytes(), keys.strings("tokenizer.ggml.tokens")?);
    let tokens = tokens.map_err(|e| e.at("tokenizer.ggml.tokens").at(file.name()))?;
    if tokens.len() == 0 {
        return Err(Error::format(format!("{}: tokenizer.ggml.tokens is empty, expected a vocabulary", file.name())));
    }
    let kinds = match keys.get("tokenizer.ggml.token_type") {
        // The usual type, read without detours: there are as many as tokens.
        Some(Value::Array(array)) if array.element() == ValueType::I32 => {
            let (numbers, _) = array.bytes().as_chunks();
            numbers.iter().map(|&bytes| Kind::from_gguf(i32::from_le_bytes(bytes))).collect()
        }
        Some(_) => keys.i32s("tokenizer.ggml.token_type")?.into_iter().map(Kind::from_gguf).collect(),
        None => vec![Kind::Normal; tokens.len()],
    };
    check_len(file, "tokenizer.ggml.token_type", kinds.len(), tokens.len())?;
    Ok(Vocab::new(tokens, kinds, spelling))
}

fn read_scores(file: &Gguf, tokens: usize) -> Result<Vec<f32>> {
    let scores = file.keys().opt_f32s("tokenizer.ggml.scores")?.unwrap_or_else(|| vec![0.0; tokens]);
    check_len(file, "tokenizer.ggml.scores", scores.len(), tokens)?;
    Ok(scores)
}

fn read_charsmap(file: &Gguf) -> Result<Charsmap> {
    let key = "tokenizer.ggml.precompiled_charsmap";
    let bytes = match file.keys().get(key) {
        None => &[],
        // Converters have written both.
        Some(Value::Array(array)) if matches!(array.element(), ValueType::U8 | ValueType::I8) => array.bytes(),
        Some(_) => return Err(Error::format(format!("{}: {key} is no array of u8, expected one", file.name()))),
    };
    Charsmap::read(bytes).map_err(|e| e.at(key).at(file.name()))
}

fn check_len(file: &Gguf, key: &str, found: usize, tokens: usize) -> Result<()> {
    if found == tokens {
        return Ok(());
    }
    Err(Error::format(format!("{}: {key} has {found} values, expected one for each of {tokens} tokens", file.name())))
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.model {
            Model::Spm(_) => "SentencePiece BPE",
            Model::Bpe(_) => "byte-level BPE",
            Model::Unigram(_) => "SentencePiece unigram",
            #[cfg(feature = "hf-tokenizer")]
            Model::HuggingFace(_) => "Hugging Face",
        };
        write!(f, "Tokenizer({kind}, {} tokens)", self.len())
    }
}
