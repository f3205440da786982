//! `tokenizer.json`, the form of Hugging Face's library `tokenizers`.

use super::{Added, Base, Kind, Model, Token, base64};
use crate::convert::{MAX_TOKENIZER, read_text};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Ids from here on are refused, so that a file cannot ask for a table of billions of tokens.
const MAX_ID: u32 = 1 << 24;

const SPACE: &str = "▁";

/// The file, with what is of use here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: JsonModel,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum JsonModel {
    #[serde(rename = "BPE")]
    Bpe {
        vocab: BTreeMap<String, u32>,
        merges: Vec<Merge>,
        #[serde(default)]
        byte_fallback: bool,
        #[serde(default)]
        ignore_merges: bool,
        #[serde(default)]
        continuing_subword_prefix: Option<String>,
        #[serde(default)]
        end_of_word_suffix: Option<String>,
    },
    Unigram {
        vocab: Vec<(String, f64)>,
        unk_id: Option<usize>,
        #[serde(default)]
        byte_fallback: bool,
    },
    #[serde(other)]
    Other,
}

/// Two tokens that become one; older files have them in one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

impl Merge {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Text(text) => text.split_once(' '),
            Self::Pair(a, b) => Some((a, b)),
        }
    }
}

pub(super) struct Json {
    place: String,
    file: File,
}

impl Json {
    pub(super) fn read_if_there(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text(path, MAX_TOKENIZER)?;
        let place = path.display().to_string();
        let file = serde_json::from_str(&text).map_err(|e| Error::format(format!("{place}: no tokenizer: {e}")))?;
        Ok(Some(Self { place, file }))
    }

    pub(super) fn added_tokens(&self) -> Vec<Added> {
        let added = self.file.added_tokens.iter();
        added.map(|t| Added { id: t.id, text: t.content.clone(), special: t.special }).collect()
    }

    /// Whether a token goes before texts, and after them.
    pub(super) fn adds(&self) -> [bool; 2] {
        let processors = parts(&self.file.post_processor, "processors");
        let single = processors.into_iter().find_map(|one| one.get("single")?.as_array());
        let Some(single) = single else { return [false, false] };
        let is_special = |piece: Option<&Value>| piece.is_some_and(|piece| piece.get("SpecialToken").is_some());
        [is_special(single.first()), is_special(single.last())]
    }

    /// The vocabulary by itself.
    pub(super) fn base(&self) -> Result<Base> {
        match &self.file.model {
            JsonModel::Unigram { vocab, unk_id, byte_fallback } => self.unigram(vocab, *unk_id, *byte_fallback),
            JsonModel::Bpe { continuing_subword_prefix, end_of_word_suffix, .. }
                if [continuing_subword_prefix, end_of_word_suffix]
                    .iter()
                    .any(|s| s.as_ref().is_some_and(|s| !s.is_empty())) =>
            {
                Err(self.unsupported("marks parts of words by a prefix or a suffix, expected neither"))
            }
            JsonModel::Bpe { vocab, merges, byte_fallback: true, .. } => self.spm(vocab, merges),
            JsonModel::Bpe { vocab, merges, ignore_merges, .. } => self.bpe(vocab, merges, *ignore_merges),
            JsonModel::Other => Err(self.unsupported("is neither BPE nor unigram, expected one of them")),
        }
    }

    fn unigram(&self, vocab: &[(String, f64)], unknown: Option<usize>, byte_fallback: bool) -> Result<Base> {
        let mut charsmap = Vec::new();
        for part in parts(&self.file.normalizer, "normalizers") {
            match kind(part) {
                "Precompiled" => {
                    let text = part["precompiled_charsmap"].as_str().unwrap_or_default();
                    charsmap = base64::decode(text).ok_or_else(|| self.unsupported("has a charsmap in no Base64"))?;
                }
                // Spaces, which SentencePiece has rules of its own for.
                "Replace" | "Strip" | "Prepend" => {}
                other => return Err(self.unsupported(&format!("normalises by {other}, expected Precompiled"))),
            }
        }
        let splits = parts(&self.file.pre_tokenizer, "pretokenizers");
        let removes = splits.iter().any(|part| kind(part) == "WhitespaceSplit")
            || parts(&self.file.normalizer, "normalizers").iter().any(|part| part["pattern"]["Regex"] == " {2,}");
        let token = |(id, (text, score)): (usize, &(String, f64))| {
            let kind = match () {
                () if Some(id) == unknown => Kind::Unknown,
                () if byte_fallback && is_byte(text) => Kind::Byte,
                () => Kind::Normal,
            };
            Token::new(text.as_bytes(), *score as f32, kind)
        };
        let tokens = vocab.iter().enumerate().map(token).collect();
        let model = Model::Unigram { charsmap, remove_extra_spaces: removes };
        Ok(Base { model, tokens, space_before: Some(self.space_before()) })
    }

    /// SentencePiece BPE: a pair's score there is its place among the merges here.
    fn spm(&self, vocab: &BTreeMap<String, u32>, merges: &[Merge]) -> Result<Base> {
        let mut ranks = HashMap::new();
        for (rank, merge) in merges.iter().enumerate() {
            let (a, b) = merge.parts().ok_or_else(|| self.unsupported("has a merge of one part, expected two"))?;
            ranks.entry(format!("{a}{b}")).or_insert(rank);
        }
        let last = merges.len();
        let mut tokens = self.table(vocab, |text| {
            let score = -(ranks.get(text).copied().unwrap_or(last) as f32);
            Token::new(text, score, if is_byte(text) { Kind::Byte } else { Kind::Normal })
        })?;
        if let Some(token) = tokens.iter_mut().find(|token| token.text == b"<unk>") {
            token.kind = Kind::Unknown;
        }
        Ok(Base { model: Model::Spm, tokens, space_before: Some(self.space_before()) })
    }

    fn bpe(&self, vocab: &BTreeMap<String, u32>, merges: &[Merge], ignore_merges: bool) -> Result<Base> {
        for part in parts(&self.file.normalizer, "normalizers") {
            // Readers of GGUF do without, as texts nearly always are composed already.
            if kind(part) != "NFC" {
                return Err(self.unsupported(&format!("normalises by {}, expected NFC or nothing", kind(part))));
            }
        }
        let pre = self.split(ignore_merges)?;
        let joined = |merge: &Merge| Some(merge.parts()?).map(|(a, b)| format!("{a} {b}"));
        let merges: Option<Vec<String>> = merges.iter().map(joined).collect();
        let merges = merges.ok_or_else(|| self.unsupported("has a merge of one part, expected two"))?;
        let tokens = self.table(vocab, |text| Token::new(text, 0.0, Kind::Normal))?;
        Ok(Base { model: Model::Bpe { merges, pre }, tokens, space_before: None })
    }

    /// The tokens by id. Ids that none has stay unused.
    fn table(&self, vocab: &BTreeMap<String, u32>, token: impl Fn(&str) -> Token) -> Result<Vec<Token>> {
        let last = vocab.values().copied().max().unwrap_or(0);
        if last >= MAX_ID {
            return Err(self.unsupported(&format!("has the id {last}, expected less than {MAX_ID}")));
        }
        let unused = |id| Token::new(format!("[PAD{id}]"), -10_000.0, Kind::Unused);
        let mut tokens: Vec<Token> = (0..=last).map(unused).collect();
        for (text, &id) in vocab {
            tokens[id as usize] = token(text);
        }
        Ok(tokens)
    }

    /// How texts are split into words, by the name that GGUF has for it.
    fn split(&self, ignore_merges: bool) -> Result<&'static str> {
        let steps = parts(&self.file.pre_tokenizer, "pretokenizers");
        let names: Vec<&str> = steps.iter().map(|step| kind(step)).collect();
        let byte_level = steps.last().filter(|step| kind(step) == "ByteLevel");
        let prefixed = byte_level.is_some_and(|step| step["add_prefix_space"] == true);
        // Where nothing is said, it is GPT-2's.
        let own_regex = byte_level.is_some_and(|step| step["use_regex"] != false);
        let regex = steps.first().and_then(|step| step["pattern"]["Regex"].as_str());
        let name = match (&names[..], regex) {
            _ if prefixed => None,
            (["ByteLevel"], _) if own_regex && !ignore_merges => Some("gpt-2"),
            (["Digits", "ByteLevel"], _) if own_regex && !ignore_merges && steps[0]["individual_digits"] == true => {
                Some("smollm")
            }
            (["Split", "ByteLevel"], Some(LLAMA3)) if !own_regex => {
                Some(if ignore_merges { "llama-bpe" } else { "smaug-bpe" })
            }
            (["Split", "ByteLevel"], Some(QWEN2)) if !own_regex && !ignore_merges => Some("qwen2"),
            _ => None,
        };
        name.ok_or_else(|| {
            let names = names.join(", ");
            self.unsupported(&format!("splits texts by {names}, expected as GPT-2, SmolLM, Llama 3 or Qwen2 do"))
        })
    }

    /// Whether a space goes before a text.
    fn space_before(&self) -> bool {
        let prepends = |part: &&Value| kind(part) == "Prepend" && part["prepend"] == SPACE;
        let metaspace = |part: &&Value| {
            kind(part) == "Metaspace" && part["prepend_scheme"] != "never" && part["add_prefix_space"] != false
        };
        parts(&self.file.normalizer, "normalizers").iter().any(prepends)
            || parts(&self.file.pre_tokenizer, "pretokenizers").iter().any(metaspace)
    }

    fn unsupported(&self, what: &str) -> Error {
        Error::unsupported(format!("{}: the tokenizer {what}", self.place))
    }
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The steps of a sequence, or the one step that there is.
fn parts<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match (value, value.get(list)) {
        (_, Some(Value::Array(steps))) => steps.iter().collect(),
        (Value::Null, _) => vec![],
        _ => vec![value],
    }
}

fn kind(step: &Value) -> &str {
    step["type"].as_str().unwrap_or("nothing known")
}

fn is_byte(text: &str) -> bool {
    text.len() == 6 && text.starts_with("<0x") && text.ends_with('>')
}
