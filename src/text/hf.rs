//! Tokenizers in Hugging Face's JSON form, run by the `tokenizers` crate.

use super::{
    tokenizer::Specials,
    vocab::{Kind, Pool, SPACE, Spelling, Vocab},
};
use crate::error::{Error, Result};
use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};
use tokenizers::{DecoderWrapper, Tokenizer, pre_tokenizers::metaspace::PrependScheme};

/// Ids above this are refused, so that a file cannot ask for a table of billions of tokens.
const MAX_ID: u32 = 1 << 22;

pub(super) struct HuggingFace {
    /// Takes special tokens for what they are.
    parsing: Tokenizer,
    /// Takes them for plain text; made when it is first asked for.
    plain: OnceLock<Tokenizer>,
    space_before: bool,
}

impl HuggingFace {
    /// Reads `json`, and lists its tokens for decoding.
    ///
    /// # Errors
    /// `Format` if it is not a tokenizer; `Unsupported` if its decoder is neither byte-level nor SentencePiece.
    pub(super) fn load(json: &str) -> Result<(Self, Vocab)> {
        let mut parsing: Tokenizer = guarded(|| json.parse())?;
        // Some files carry the settings of a training run.
        parsing.with_padding(None);
        parsing.with_truncation(None).map_err(refuse)?;
        let (spelling, space_before) = spelling(&parsing)?;
        let vocab = list(&parsing, spelling)?;
        Ok((Self { parsing, plain: OnceLock::new(), space_before }, vocab))
    }

    pub(super) fn space_before(&self) -> bool {
        self.space_before
    }

    pub(super) fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let tokenizer = if specials.parse { &self.parsing } else { self.plain() };
        let encoding = guarded(|| tokenizer.encode_fast(text, specials.add))?;
        Ok(encoding.get_ids().to_vec())
    }

    fn plain(&self) -> &Tokenizer {
        self.plain.get_or_init(|| {
            let mut plain = self.parsing.clone();
            plain.set_encode_special_tokens(true);
            plain
        })
    }
}

/// Runs code of the crate, which may panic on a contradictory file.
fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(run));
    done.unwrap_or_else(|_| Err("the tokenizer contradicts itself".into())).map_err(refuse)
}

fn refuse(error: impl Display) -> Error {
    Error::format(error.to_string().replace('\n', " "))
}

/// How the tokens are spelled, and whether texts begin with an extra space.
fn spelling(tokenizer: &Tokenizer) -> Result<(Spelling, bool)> {
    let mut spelling = None;
    let mut space_before = false;
    let decoders = match tokenizer.get_decoder() {
        Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
        Some(decoder) => std::slice::from_ref(decoder),
        None => &[],
    };
    for decoder in decoders {
        match decoder {
            DecoderWrapper::ByteLevel(_) => spelling = Some(Spelling::ByteLevel),
            DecoderWrapper::Metaspace(metaspace) if metaspace.get_replacement().to_string() == SPACE => {
                spelling = Some(Spelling::Pieces);
                space_before = metaspace.get_prepend_scheme() != PrependScheme::Never;
            }
            DecoderWrapper::Replace(replace) if replace.content == " " => spelling = Some(Spelling::Pieces),
            DecoderWrapper::Strip(strip) => space_before = strip.content == ' ' && strip.start > 0,
            _ => {}
        }
    }
    let expected = "the tokenizer has neither a byte-level nor a SentencePiece decoder, expected one of them";
    Ok((spelling.ok_or_else(|| Error::unsupported(expected))?, space_before))
}

fn list(tokenizer: &Tokenizer, spelling: Spelling) -> Result<Vocab> {
    let ids = tokenizer.get_vocab(true);
    let len = ids.values().max().map_or(0, |&id| id as usize + 1);
    if len == 0 || len > MAX_ID as usize {
        return Err(Error::format(format!("the highest token id is {len} less one, expected 0 to {}", MAX_ID - 1)));
    }
    let mut tokens = vec![String::new(); len];
    let mut kinds = vec![Kind::Unused; len];
    for (token, id) in ids {
        let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        kinds[id as usize] = if is_byte && spelling == Spelling::Pieces { Kind::Byte } else { Kind::Normal };
        tokens[id as usize] = token;
    }
    for (id, added) in tokenizer.get_added_tokens_decoder() {
        if let Some(kind) = kinds.get_mut(id as usize) {
            *kind = match added.special {
                true if added.content == "<unk>" => Kind::Unknown,
                true => Kind::Control,
                false => Kind::UserDefined,
            };
        }
    }
    Ok(Vocab::new(Pool::copied(&tokens)?, kinds, spelling))
}
