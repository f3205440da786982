//! From a recipe to what is trained on: text is read, split, and turned into ids.

use crate::{
    data::text::{
        Corpus, Item, Kind,
        batches::Batches,
        examples::{Encoder, Examples},
        split::{Parts, hash},
    },
    error::{Error, Result},
    recipe::{Learner, Recipe},
    tokenizer::Vocabulary,
};
use pupil::output;
use std::{
    collections::{BTreeMap, HashSet},
    iter,
    path::{Path, PathBuf},
};

/// Text, ready for training.
pub struct Prepared {
    /// The student's vocabulary.
    pub vocabulary: Vocabulary,
    /// The token by which it ends what it says.
    pub end: u32,
    /// What it learns from.
    pub train: Batches,
    /// What it is measured on while it learns.
    pub validation: Batches,
    /// The parts as text; `train` holds what is learned from.
    pub parts: Parts,
}

impl Prepared {
    /// Reads the text of a recipe, and learns the vocabulary or reads it: from the file `kept`, if a training goes on.
    /// `say` is told what was found.
    ///
    /// # Errors
    /// What [`Corpus::read`] and [`Vocabulary`] refuse; `Input` if nothing is left to train on or to measure with.
    pub fn new(recipe: &Recipe, kept: Option<&Path>, say: &mut dyn FnMut(String)) -> Result<Self> {
        let parts = parts(recipe, say)?;
        let vocabulary = match kept.filter(|kept| kept.exists()) {
            Some(kept) => Vocabulary::open(kept)?,
            None => vocabulary(recipe, &parts.train)?,
        };
        say(format!("vocabulary: {} tokens", vocabulary.tokenizer().len()));
        let data = &recipe.data;
        let encoder = Encoder::new(vocabulary.tokenizer(), recipe.kind, data.max_tokens, data.max_ratio)?;
        let mut batches = |items: &[Item], name: &str| -> Result<Batches> {
            let Examples { examples, left_out, .. } = encoder.encode(items)?;
            let tokens: usize = examples.iter().map(|example| example.source.len() + example.input.len()).sum();
            let odd = if left_out > 0 { format!("; {left_out} too long or of odd lengths") } else { String::new() };
            say(format!("{name}: {} examples of {tokens} tokens{odd}", examples.len()));
            Ok(Batches::new(examples, encoder.pad(), recipe.train.batch_tokens, recipe.train.seed))
        };
        let train = batches(&parts.train, "training")?;
        let validation = batches(&parts.validation, "validation")?;
        for (batches, use_) in [(&train, "to train on"), (&validation, "for validation")] {
            if batches.examples().is_empty() {
                let expected = "expected more text, less of it held out, or a greater data.max_tokens";
                return Err(Error::input(format!("no example is left {use_}, {expected}")));
            }
        }
        let end = encoder.end();
        Ok(Self { train, validation, vocabulary, end, parts })
    }

    /// Writes what is held out into a folder, as files like those which it came from: for those who measure later.
    ///
    /// # Errors
    /// `Io`.
    pub fn save_held_out(&self, folder: &Path) -> Result<()> {
        for (name, items) in [("validation", &self.parts.validation), ("test", &self.parts.test)] {
            let mut files: BTreeMap<&str, String> = BTreeMap::new();
            for (extension, line) in items.iter().map(line) {
                files.entry(extension).or_default().push_str(&line);
            }
            for (extension, lines) in files {
                let path = folder.join(name).with_extension(extension);
                output::write(&path, lines.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Reads and splits the text.
fn parts(recipe: &Recipe, say: &mut dyn FnMut(String)) -> Result<Parts> {
    let data = &recipe.data;
    let mut tell = |corpus: &Corpus| {
        if corpus.bad.count > 0 {
            say(corpus.bad.summary("lines"));
        }
        if corpus.repeated > 0 {
            say(format!("lines that say the same as others left out: {}", corpus.repeated));
        }
    };
    let files: Vec<&PathBuf> = data.files.iter().chain(&data.often).collect();
    let corpus = Corpus::read(&files, recipe.kind)?;
    tell(&corpus);
    let mut parts = Parts::new(corpus.items, recipe.held_out());
    if !data.often.is_empty() {
        let often: HashSet<Item> = Corpus::read(&data.often, recipe.kind)?.items.into_iter().collect();
        let times = |item: &Item| if often.contains(item) { data.times } else { 1 };
        parts.train = parts.train.into_iter().flat_map(|item| iter::repeat_n(item.clone(), times(&item))).collect();
    }
    if !data.extra.is_empty() {
        let extra = Corpus::read(&data.extra, recipe.kind)?;
        tell(&extra);
        let held_out: HashSet<u64> =
            parts.validation.iter().chain(&parts.test).map(|item| hash(item.source())).collect();
        if data.only_extra {
            parts.train.clear();
        }
        let known: HashSet<Item> = parts.train.iter().cloned().collect();
        let new = |item: &Item| !held_out.contains(&hash(item.source())) && !known.contains(item);
        parts.train.extend(extra.items.into_iter().filter(new));
        parts.train.sort_by_cached_key(|item| hash(item.source()));
    }
    parts.train.truncate(data.limit.unwrap_or(usize::MAX));
    Ok(parts)
}

fn vocabulary(recipe: &Recipe, train: &[Item]) -> Result<Vocabulary> {
    let tokenizer = &recipe.tokenizer;
    let vocabulary = match (tokenizer.train, tokenizer.size, &tokenizer.file) {
        (Some(Learner::Unigram), Some(size), _) => Vocabulary::unigram(train.iter().flat_map(texts), size),
        (Some(Learner::Bpe), Some(size), _) => Vocabulary::bpe(train.iter().flat_map(texts), size),
        // Chat students are trained in ChatML, whatever the file's own model speaks.
        (_, _, Some(file)) if recipe.kind == Kind::Chat => return Vocabulary::open(file)?.with_chatml(),
        (_, _, Some(file)) => return Vocabulary::open(file),
        _ => Err(Error::input("[tokenizer] says neither train nor file, expected one of both")),
    };
    vocabulary.map_err(|error| error.at("[tokenizer]"))
}

/// All texts of an item, with the roles of a dialogue as the student will read them.
fn texts(item: &Item) -> impl Iterator<Item = &str> {
    let texts: Vec<&str> = match item {
        Item::Pair { source, target } => vec![source, target],
        Item::Dialogue(turns) => turns.iter().flat_map(|turn| [turn.role.name(), turn.text.as_str()]).collect(),
        Item::Text(text) => vec![text],
    };
    texts.into_iter()
}

/// The line of an item, and the extension of files of such lines.
fn line(item: &Item) -> (&'static str, String) {
    match item {
        Item::Pair { source, target } => ("tsv", format!("{source}\t{target}\n")),
        Item::Dialogue(turns) => ("jsonl", format!("{}\n", serde_json::json!({ "turns": turns }))),
        Item::Text(text) => ("txt", format!("{text}\n")),
    }
}
