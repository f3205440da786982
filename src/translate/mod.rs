//! Translation: text in, text out, sentence by sentence.
//!
//! `parts.rs` cuts texts into what goes through the network and puts the translations back into the layout;
//! `direction.rs` knows which languages a file translates between.

mod direction;
mod parts;

pub use crate::nets::encdec::{EarlyStop, Finish};

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::nets::encdec::{EncDec, Found, Request, SearchOptions, Session, Shortlist};
use crate::nets::kv::CacheType;
use crate::text::{Specials, Tokenizer};
use crate::threads::{all_threads, check_threads};
use direction::Direction;
use parts::{Part, Parts};
use std::path::Path;
use std::sync::Arc;

/// How a [`Translator`] goes about it.
#[derive(Debug, Clone)]
pub struct TranslateOptions {
    /// The language to translate from, such as "en", where the file names the languages that it knows.
    pub from: Option<String>,
    /// The language to translate to.
    pub to: Option<String>,
    /// What to put before every sentence, instead of what the file says.
    pub prefix: Option<String>,
    /// Hypotheses that are followed at once; with 1, always the likeliest token.
    pub beam: usize,
    /// A hypothesis counts by its log-probability over `length ^ length_penalty`: above 0, longer ones gain.
    pub length_penalty: f32,
    /// When a sentence is done.
    pub early_stop: EarlyStop,
    /// No sequence of so many tokens comes twice in a sentence; 0 allows all.
    pub no_repeat_ngram: usize,
    /// Tokens of a sentence's translation for each of the sentence's, at most; a few more are always allowed.
    pub max_length_ratio: f32,
    /// Sentences that are translated together.
    pub batch: usize,
    /// Uses the file's shortlist, if it has one.
    pub shortlist: bool,
    /// Threads to compute with, 1 to 1024.
    pub threads: usize,
}

impl Default for TranslateOptions {
    fn default() -> Self {
        Self {
            from: None,
            to: None,
            prefix: None,
            beam: 1,
            length_penalty: 1.0,
            early_stop: EarlyStop::default(),
            no_repeat_ngram: 0,
            max_length_ratio: 3.0,
            batch: 16,
            shortlist: true,
            threads: all_threads(),
        }
    }
}

impl TranslateOptions {
    fn check(&self) -> Result<()> {
        check_threads(self.threads)?;
        let whole = [("beam", self.beam, 64), ("batch", self.batch, 1024)];
        if let Some((name, value, max)) = whole.into_iter().find(|(_, value, max)| !(1..=*max).contains(value)) {
            return Err(Error::input(format!("{name} is {value}, expected 1 to {max}")));
        }
        if !self.length_penalty.is_finite() {
            return Err(Error::input(format!("length_penalty is {}, expected a number", self.length_penalty)));
        }
        if !(self.max_length_ratio > 0.0 && self.max_length_ratio <= 100.0) {
            let ratio = self.max_length_ratio;
            return Err(Error::input(format!("max_length_ratio is {ratio}, expected more than 0 and at most 100")));
        }
        Ok(())
    }
}

/// A translated text.
#[derive(Debug, Clone, PartialEq)]
pub struct Translation {
    /// The translation, in the layout of the text: its line breaks, blank lines, bullets.
    pub text: String,
    /// The mean of the sentences' scores; 0 where there were none. A sentence's score is its log-probability over
    /// `length ^ length_penalty`.
    pub score: f32,
    /// How the sentence ended that ended worst.
    pub finish: Finish,
    /// Sentences, and parts of sentences too long for one.
    pub sentences: usize,
    /// Tokens of the text.
    pub source_tokens: usize,
    /// Tokens of the translation.
    pub tokens: usize,
}

/// Translates with a file's encoder-decoder.
///
/// ```no_run
/// use pupil::{TranslateOptions, Translator};
///
/// let mut translator = Translator::open("en-de.gguf", TranslateOptions::default())?;
/// println!("{}", translator.translate("Good morning. How are you?")?.text);
/// # Ok::<(), pupil::Error>(())
/// ```
pub struct Translator {
    file: Gguf,
    net: EncDec,
    tokenizer: Tokenizer,
    shortlist: Option<Shortlist>,
    session: Session,
    options: TranslateOptions,
    /// What goes before every sentence.
    prefix: String,
    /// The token that ends a sentence and its translation.
    end: u32,
}

/// Tokens of a translation that are allowed however short the sentence is.
const SLACK: usize = 16;

/// Tokens of a sentence, and of a translation, at most, whatever the file allows: longer ones cost more than linear time
/// and memory, and no sentence that somebody would read is as long.
const LONGEST: usize = 512;

/// Tokens of the sentences of a batch, at most: what they take in memory is bounded.
const BATCH_TOKENS: usize = 4 * LONGEST;

impl Translator {
    /// Maps the GGUF file at `path` and checks everything in it that is structure.
    ///
    /// # Errors
    /// `Io`, `Format` or `Unsupported`, with one line that names the file, the key or tensor, and what was expected;
    /// `Input` for options that make no sense or languages that the file does not know.
    pub fn open(path: impl AsRef<Path>, options: TranslateOptions) -> Result<Self> {
        Self::from_file(Gguf::open(path.as_ref())?, options)
    }

    /// A translator whose file is in memory or embedded in the program; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Translator::open`].
    pub fn from_bytes(bytes: impl Into<Arc<Bytes>>, name: &str, options: TranslateOptions) -> Result<Self> {
        Self::from_file(Gguf::from_bytes(bytes, name)?, options)
    }

    fn from_file(file: Gguf, options: TranslateOptions) -> Result<Self> {
        options.check()?;
        let net = EncDec::load(&file)?;
        let tokenizer = Tokenizer::from_gguf(&file)?;
        if tokenizer.len() > net.config.vocab {
            let (tokens, rows) = (tokenizer.len(), net.config.vocab);
            let message = format!("{}: {tokens} tokens but embeddings of {rows}, expected one for each", file.name());
            return Err(Error::format(message));
        }
        let Some(end) = tokenizer.eos() else {
            return Err(Error::format(format!("{}: no token ends a text, expected one", file.name())));
        };
        let shortlist = Shortlist::read(&file, net.config.vocab)?;
        let session = net.session(CacheType::F32, options.threads)?;
        let prefix = Direction::read(&file, &tokenizer)?.prefix(&options)?;
        let translator = Self { file, net, tokenizer, shortlist, session, options, prefix, end };
        translator.longest()?;
        Ok(translator)
    }

    /// Translates from now on with other options.
    ///
    /// # Errors
    /// `Input` as [`Translator::open`]; everything stays as it was.
    pub fn configure(&mut self, options: TranslateOptions) -> Result<()> {
        options.check()?;
        let prefix = Direction::read(&self.file, &self.tokenizer)?.prefix(&options)?;
        let before = std::mem::replace(&mut self.prefix, prefix);
        if let Err(error) = self.longest() {
            self.prefix = before;
            return Err(error);
        }
        if options.threads != self.options.threads {
            self.session = self.net.session(CacheType::F32, options.threads)?;
        }
        self.options = options;
        Ok(())
    }

    /// How it goes about it.
    pub fn options(&self) -> &TranslateOptions {
        &self.options
    }

    /// The file itself: keys and tensors.
    pub fn file(&self) -> &Gguf {
        &self.file
    }

    /// The network.
    pub fn net(&self) -> &EncDec {
        &self.net
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The file's shortlist, if it has one.
    pub fn shortlist(&self) -> Option<&Shortlist> {
        self.shortlist.as_ref()
    }

    /// Translates a text of any length. An empty one gives an empty one.
    ///
    /// # Errors
    /// `Input` if there is no memory for the batch.
    pub fn translate(&mut self, text: &str) -> Result<Translation> {
        Ok(self.translate_batch(&[text])?.remove(0))
    }

    /// Translates several texts, and sentences of all of them together.
    ///
    /// # Errors
    /// As [`Translator::translate`].
    pub fn translate_batch(&mut self, texts: &[&str]) -> Result<Vec<Translation>> {
        let longest = self.longest()?;
        let encode = |sentence: &str| self.encode(sentence);
        let mut parts = Parts::of(texts, longest, encode)?;
        // Sentences of a batch should be about as long as each other: they end at about the same time.
        let mut order: Vec<usize> = (0..parts.parts.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(parts.parts[i].tokens.len()));
        let mut found: Vec<Option<Found>> = vec![None; order.len()];
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let fit = (BATCH_TOKENS / parts.parts[first].tokens.len()).max(1);
            let (batch, after) = rest.split_at(self.options.batch.min(fit).min(rest.len()));
            rest = after;
            let all = self.search(batch.iter().map(|&i| &parts.parts[i]))?;
            for (&i, one) in batch.iter().zip(all) {
                parts.parts[i].translation = self.tokenizer.decode(&one.tokens);
                found[i] = Some(one);
            }
        }
        let found: Vec<Found> = found.into_iter().flatten().collect();
        Ok(parts.texts().map(|(text, range)| gather(text, &parts.parts[range.clone()], &found[range])).collect())
    }

    /// Tokens of a sentence with its prefix, at most.
    fn longest(&self) -> Result<usize> {
        let longest = self.net.config.context.min(LONGEST);
        let prefix = self.encode("")?.len();
        if prefix + SLACK > longest {
            return Err(Error::input(format!("a prefix of {prefix} tokens: the model takes {longest} with the text")));
        }
        Ok(longest)
    }

    fn encode(&self, sentence: &str) -> Result<Vec<u32>> {
        let mut tokens = match self.prefix.as_str() {
            "" => self.tokenizer.encode(sentence, Specials::ADD)?,
            prefix => self.tokenizer.encode(&format!("{prefix}{sentence}"), Specials::ADD)?,
        };
        if tokens.last() != Some(&self.end) {
            tokens.push(self.end);
        }
        Ok(tokens)
    }

    fn search<'p>(&mut self, parts: impl Iterator<Item = &'p Part> + Clone) -> Result<Vec<Found>> {
        let options = &self.options;
        let limit = |tokens: usize| ((tokens as f32 * options.max_length_ratio) as usize + SLACK).min(LONGEST);
        let requests: Vec<Request<'_>> =
            parts.clone().map(|part| Request { tokens: &part.tokens, limit: limit(part.tokens.len()) }).collect();
        let shortlist = self.shortlist.as_ref().filter(|_| options.shortlist);
        let chosen = shortlist.map(|list| list.choose(&self.net, parts.flat_map(|part| &part.tokens), self.end));
        let search = SearchOptions {
            beam: options.beam,
            length_penalty: options.length_penalty,
            early_stop: options.early_stop,
            no_repeat_ngram: options.no_repeat_ngram,
            cut_repeats: true,
        };
        self.net.search(&mut self.session, &requests, self.end, chosen.as_ref(), &search)
    }
}

/// What became of one text.
fn gather(text: String, parts: &[Part], found: &[Found]) -> Translation {
    let worst = |a: Finish, b: Finish| if a == Finish::End || b == Finish::Repeats { b } else { a };
    Translation {
        text,
        // Not `sum`, which is -0 of nothing.
        score: found.iter().fold(0.0, |sum, one| sum + one.score) / found.len().max(1) as f32,
        finish: found.iter().map(|one| one.finish).fold(Finish::End, worst),
        sentences: parts.len(),
        source_tokens: parts.iter().map(|part| part.tokens.len()).sum(),
        tokens: found.iter().map(|one| one.tokens.len()).sum(),
    }
}
