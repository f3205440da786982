//! Vocabularies for students, learned from their text, as the keys of a GGUF file.
//!
//! Students are trained on the ids that the runtime's own tokenizer gives for these keys, so both always agree.
//! The same vocabulary goes into the file a second time as a `tokenizer.json`, for other programs.

use crate::error::{Error, Result};
use pupil::{
    bytes::Bytes,
    gguf::{Gguf, OwnedValue, Writer},
    text::Tokenizer,
};
use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};
use tokenizers::{
    AddedToken, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    SplitDelimiterBehavior, Trainer,
    models::{
        bpe::{BPE, BpeTrainer},
        unigram::{Unigram, UnigramTrainer},
    },
    normalizers::{Replace, Sequence, Strip, replace::ReplacePattern},
    pre_tokenizers::{
        byte_level::ByteLevel,
        metaspace::{Metaspace, PrependScheme},
        sequence::Sequence as PreTokenizers,
        split::{Split, SplitPattern},
    },
};

/// A tokenizer and the keys that it is made of.
pub struct Vocabulary {
    keys: Vec<(String, OwnedValue)>,
    tokenizer: Tokenizer,
}

/// ChatML, in which our students write dialogues.
pub const CHATML: &str = "{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// How words are split before merging: `tokenizer.ggml.pre` and its expression (Qwen 2: every digit by itself).
const PRE: &str = "qwen2";
const WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The special tokens of chat students, in the order of their ids: padding and the end of a text, and ChatML's.
const CHAT_SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The special tokens of translation students, as T5 numbers them.
const PAIR_SPECIALS: [&str; 3] = ["<pad>", "</s>", "<unk>"];

/// The part of all characters that the commonest ones must make up; words with others are not learned from.
const COVERAGE: f64 = 0.9998;

/// A character of no text.
const MARK: char = '\u{1}';

/// Types of tokens in GGUF.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;

impl Vocabulary {
    /// Learns byte-level BPE (Sennrich et al. 2016) of up to `size` tokens.
    ///
    /// # Errors
    /// `Input` if `size` has no room for the 256 bytes and the special tokens.
    pub fn bpe<'t>(texts: impl Iterator<Item = &'t str> + Send, size: usize) -> Result<Self> {
        let least = 256 + CHAT_SPECIALS.len();
        if size < least {
            return Err(Error::input(format!("a vocabulary of {size} tokens, expected at least {least}")));
        }
        let split = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Isolated, false);
        let bytes = ByteLevel::new(false, false, false);
        let words = PreTokenizers::new(vec![split.map_err(refuse)?.into(), bytes.into()]);
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(size)
            .special_tokens(CHAT_SPECIALS.map(|token| AddedToken::from(token, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut model = BPE::default();
        guarded(|| {
            trainer.feed(texts, |text| {
                let mut text = PreTokenizedString::from(text);
                words.pre_tokenize(&mut text)?;
                let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
                Ok(splits.into_iter().map(|(word, ..)| word.to_string()).collect())
            })?;
            trainer.train(&mut model)
        })?;

        let tokens = by_id(&model);
        let kinds = kinds(&tokens, |token| if CHAT_SPECIALS.contains(&token) { CONTROL } else { NORMAL });
        let mut keys = vec![
            key("model", "gpt2"),
            key("pre", PRE),
            key("tokens", tokens),
            key("token_type", kinds),
            key("merges", merges(&model)?),
        ];
        keys.extend(
            [("bos", 0_u32), ("eos", 2), ("padding", 0)].map(|(role, id)| key(&format!("{role}_token_id"), id)),
        );
        keys.extend([key("add_bos_token", false), ("tokenizer.chat_template".into(), CHATML.into())]);

        let mut json = tokenizers::Tokenizer::new(model);
        json.with_pre_tokenizer(Some(words)).with_decoder(Some(bytes));
        Self::new(with_json(keys, json, &CHAT_SPECIALS)?)
    }

    /// Learns a unigram vocabulary (Kudo 2018) of up to `size` pieces for sentences.
    ///
    /// # Errors
    /// `Input` if `size` has no room for the characters, or if there is nothing to learn from.
    pub fn unigram<'t>(texts: impl Iterator<Item = &'t str>, size: usize) -> Result<Self> {
        let mut words: BTreeMap<&str, u32> = BTreeMap::new();
        texts.flat_map(str::split_whitespace).for_each(|word| *words.entry(word).or_default() += 1);
        let common = common_characters(&words);
        words.retain(|word, _| word.chars().all(|c| common.contains(&c) && c != MARK));
        if words.is_empty() {
            return Err(Error::input("no words to learn a vocabulary from, expected text"));
        }
        // The crate only takes a string for a piece if different characters follow it somewhere, and nothing follows a
        // word. So one of each frequent word is marked at its end; pieces with the mark are left out below.
        let marked =
            words.iter().filter(|&(_, &count)| count > 1).map(|(word, _)| (format!("\u{2581}{word}{MARK}"), 1));
        let plain = words.iter().map(|(word, &count)| (format!("\u{2581}{word}"), count));
        let words = plain.chain(marked).collect();
        // The mark itself counts among the crate's pieces.
        let pieces = (size + 1).saturating_sub(PAIR_SPECIALS.len()).min(1 << 22) as u32;
        let trainer = UnigramTrainer::builder().show_progress(false).vocab_size(pieces).build().map_err(refuse)?;
        let mut learned = Unigram::default();
        guarded(|| trainer.do_train(words, &mut learned))?;

        let specials = PAIR_SPECIALS.map(|special| (special.to_string(), 0.0));
        let wanted = |piece: &str| !PAIR_SPECIALS.contains(&piece) && !piece.contains(MARK);
        let learned = learned.iter().filter(|(piece, _)| wanted(piece)).cloned();
        let learned = in_sure_order(learned.collect());
        let pieces: Vec<(String, f64)> = specials.into_iter().chain(learned).take(size).collect();
        let (tokens, scores): (Vec<String>, Vec<f32>) =
            pieces.iter().map(|(piece, score)| (piece.clone(), *score as f32)).unzip();
        let kinds = kinds(&tokens, |token| match token {
            "<pad>" | "</s>" => CONTROL,
            "<unk>" => UNKNOWN,
            _ => NORMAL,
        });
        let mut keys = vec![key("model", "t5"), key("tokens", tokens), key("scores", scores), key("token_type", kinds)];
        let ids = [("padding", 0_u32), ("eos", 1), ("unknown", 2)];
        keys.extend(ids.map(|(role, id)| key(&format!("{role}_token_id"), id)));
        keys.extend([key("add_bos_token", false), key("add_eos_token", true)]);
        keys.extend([key("add_space_prefix", true), key("remove_extra_whitespaces", true)]);

        let mut json = tokenizers::Tokenizer::new(Unigram::from(pieces, Some(2), false).map_err(refuse)?);
        let spaces = Replace::new(ReplacePattern::Regex(" {2,}".into()), " ").map_err(refuse)?;
        let tidy: Vec<NormalizerWrapper> = vec![Strip::new(true, true).into(), spaces.into()];
        let metaspace = Metaspace::new('\u{2581}', PrependScheme::Always, true);
        json.with_normalizer(Some(Sequence::new(tidy))).map_err(refuse)?;
        json.with_pre_tokenizer(Some(metaspace.clone())).with_decoder(Some(metaspace));
        Self::new(with_json(keys, json, &PAIR_SPECIALS)?)
    }

    /// The vocabulary of a GGUF file.
    ///
    /// # Errors
    /// `Format` if the file has none that the runtime can use.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Gguf::open(path)?;
        let keys = file.keys().iter().filter(|(name, _)| name.starts_with("tokenizer."));
        Self::new(keys.map(|(name, value)| (name.to_string(), value.into())).collect())
    }

    /// The same, for students that are trained in ChatML.
    ///
    /// # Errors
    /// None that [`open`](Self::open) would not have found.
    pub fn with_chatml(mut self) -> Result<Self> {
        self.keys.retain(|(name, _)| !name.starts_with("tokenizer.chat_template"));
        self.keys.push(("tokenizer.chat_template".into(), CHATML.into()));
        Self::new(self.keys)
    }

    fn new(keys: Vec<(String, OwnedValue)>) -> Result<Self> {
        let mut file = Vec::new();
        writer(&keys).write(&mut file)?;
        let file = Gguf::from_bytes(Bytes::from(&file[..]), "tokenizer")?;
        Ok(Self { tokenizer: Tokenizer::from_gguf(&file)?, keys })
    }

    /// Writes a GGUF file that holds the vocabulary and nothing else.
    ///
    /// # Errors
    /// `Io` if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(writer(&self.keys).write_file(path)?)
    }

    /// What a student's file has to say about its tokenizer.
    pub fn keys(&self) -> &[(String, OwnedValue)] {
        &self.keys
    }

    /// The tokenizer that the runtime makes of the keys.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

fn writer(keys: &[(String, OwnedValue)]) -> Writer<'static> {
    let mut writer = Writer::new();
    keys.iter().for_each(|(name, value)| _ = writer.key(name, value.clone()));
    writer
}

fn key(name: &str, value: impl Into<OwnedValue>) -> (String, OwnedValue) {
    (format!("tokenizer.ggml.{name}"), value.into())
}

/// Adds the tokenizer as JSON to the keys.
fn with_json(
    mut keys: Vec<(String, OwnedValue)>,
    mut json: tokenizers::Tokenizer,
    specials: &[&str],
) -> Result<Vec<(String, OwnedValue)>> {
    json.add_special_tokens(specials.iter().map(|token| AddedToken::from(*token, true))).map_err(refuse)?;
    let json = json.to_string(false).map_err(refuse)?;
    keys.push(("tokenizer.huggingface.json".into(), json.into()));
    Ok(keys)
}

fn by_id(model: &BPE) -> Vec<String> {
    let mut tokens: Vec<_> = model.get_vocab().into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort();
    tokens.into_iter().map(|(_, token)| token).collect()
}

/// "left right", the most important first. The crate gives them out as JSON only.
fn merges(model: &BPE) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Parts {
        merges: Vec<(String, String)>,
    }
    let parts = serde_json::to_value(model).and_then(serde_json::from_value::<Parts>).map_err(refuse)?;
    Ok(parts.merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect())
}

fn kinds(tokens: &[String], kind: impl Fn(&str) -> i32) -> Vec<i32> {
    tokens.iter().map(|token| kind(token)).collect()
}

/// Sorts pieces by score and text. The crate gives characters that are no pieces the scores right above the lowest one,
/// in steps of 0.0001 and an order of chance; here they all get the lowest.
fn in_sure_order(mut pieces: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let lowest = pieces.iter().map(|&(_, score)| score).fold(0.0, f64::min);
    let is_character = |piece: &str| piece.chars().nth(1).is_none();
    let characters = pieces.iter().filter(|(piece, _)| is_character(piece)).count();
    for (piece, score) in &mut pieces {
        if is_character(piece) && *score < lowest + 1e-4 * characters as f64 {
            *score = lowest;
        }
    }
    pieces.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
    pieces
}

fn common_characters(words: &BTreeMap<&str, u32>) -> HashSet<char> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, &count) in words {
        word.chars().for_each(|c| *counts.entry(c).or_default() += u64::from(count));
    }
    let needed = (COVERAGE * counts.values().sum::<u64>() as f64).ceil() as u64;
    let mut counts: Vec<_> = counts.into_iter().map(|(c, count)| (std::cmp::Reverse(count), c)).collect();
    counts.sort();
    let mut covered = 0;
    let enough = |&(std::cmp::Reverse(count), c): &(std::cmp::Reverse<u64>, char)| {
        let wanted = covered < needed;
        covered += count;
        wanted.then_some(c)
    };
    counts.iter().map_while(enough).collect()
}

/// Runs code of the crate, which panics on some texts.
fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(run));
    done.unwrap_or_else(|_| Err("the text cannot be learned from".into())).map_err(refuse)
}

fn refuse(error: impl std::fmt::Display) -> Error {
    Error::input(format!("the vocabulary: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pupil::text::Specials;
    use std::fs;

    /// Sentences of many words, cases, signs, and characters that are not common.
    fn sentences() -> Vec<String> {
        let words = [
            "the",
            "House",
            "is",
            "small,",
            "größer",
            "Straße",
            "don't",
            "I'LL",
            "12",
            "3.50€",
            "über",
            "«quoted»",
            "naïve",
            "e-mail",
            "?!",
            "Tom's",
            "U.S.A.",
            "Äpfel",
            "x²",
            "日本",
            "end.",
        ];
        let mut state = 7_u32;
        let mut next = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % bound
        };
        let mut word = || match next(3) {
            0 => words[next(words.len())].to_string(),
            _ => (0..1 + next(3)).map(|_| ["ha", "nd", "schu", "en", "tür", "be"][next(6)]).collect(),
        };
        (0..3000).map(|i| (0..1 + i % 12).map(|_| word()).collect::<Vec<_>>().join(" ")).collect()
    }

    /// The runtime and the JSON give the same ids, which give the same text.
    fn agree(vocabulary: &Vocabulary, texts: &[String]) {
        let json = vocabulary.keys().iter().find(|(name, _)| name == "tokenizer.huggingface.json").unwrap();
        let mut file = Vec::new();
        Writer::new().key("json", json.1.clone()).write(&mut file).unwrap();
        let file = Gguf::from_bytes(Bytes::from(&file[..]), "json").unwrap();
        let peer: tokenizers::Tokenizer = file.keys().str("json").unwrap().parse().unwrap();
        let tokenizer = vocabulary.tokenizer();
        let whole = |text: &str| tokenizer.encode(text, Specials::NONE).unwrap();
        for text in texts {
            let ids = whole(text);
            assert_eq!(ids, peer.encode(text.as_str(), false).unwrap().get_ids(), "{text}");
            if tokenizer.unknown().is_none_or(|unknown| !ids.contains(&unknown)) {
                assert_eq!(tokenizer.decode(&ids), *text);
            }
        }
    }

    #[test]
    fn unigram_ids_are_those_of_the_json() {
        let texts = sentences();
        let vocabulary = Vocabulary::unigram(texts.iter().map(String::as_str), 120).unwrap();
        let tokenizer = vocabulary.tokenizer();
        assert!((110..=120).contains(&tokenizer.len()), "{}", tokenizer.len());
        assert!(["▁the", "▁end.", "▁Straße"].iter().all(|word| tokenizer.id(word).is_some()));
        assert_eq!((tokenizer.pad(), tokenizer.eos(), tokenizer.unknown()), (Some(0), Some(1), Some(2)));
        agree(&vocabulary, &texts);
        agree(&vocabulary, &["unseen Ω letters".to_string()]);
    }

    #[test]
    fn byte_level_ids_are_those_of_the_json() {
        let texts = sentences();
        let vocabulary = Vocabulary::bpe(texts.iter().map(String::as_str), 400).unwrap();
        let tokenizer = vocabulary.tokenizer();
        assert_eq!(tokenizer.len(), 400);
        assert!(tokenizer.is_end(tokenizer.id("<|im_end|>").unwrap()));
        agree(&vocabulary, &texts);
        agree(&vocabulary, &["unseen Ω 漢字\n\n\tx  y ".to_string()]);
    }

    #[test]
    fn learning_twice_gives_the_same() {
        let texts = sentences();
        let unigram = || Vocabulary::unigram(texts.iter().map(String::as_str), 120).unwrap();
        assert!(unigram().keys() == unigram().keys());
        let bpe = || Vocabulary::bpe(texts.iter().map(String::as_str), 400).unwrap();
        assert!(bpe().keys() == bpe().keys());
    }

    #[test]
    fn a_vocabulary_survives_its_file() {
        let texts = sentences();
        let vocabulary = Vocabulary::unigram(texts.iter().map(String::as_str), 120).unwrap();
        let path = std::env::temp_dir().join(format!("pupil-vocabulary-{}.gguf", std::process::id()));
        vocabulary.save(&path).unwrap();
        assert!(Vocabulary::open(&path).unwrap().keys() == vocabulary.keys());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        assert!(Vocabulary::bpe(["x"].into_iter(), 100).is_err());
        assert!(Vocabulary::unigram(["abcdefghijklmnop"].into_iter(), 5).is_err());
        assert!(Vocabulary::unigram([" "].into_iter(), 100).is_err());
    }
}
