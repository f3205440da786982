//! How near translations come to those of people: BLEU, chrF2 and chrF++.
//!
//! The figures equal sacrebleu 2.6.0's to the last digits (`tests/translation_scores.rs`).

mod bleu;
mod chrf;
mod words;

pub use bleu::{Bleu, BleuScore};
pub use chrf::Chrf;
pub use words::Tokenize;

use std::fmt;

/// Collects translations and scores them by all measures.
///
/// ```
/// use pupil_distill::eval::translate::{Evaluation, Tokenize};
///
/// let mut evaluation = Evaluation::new(Tokenize::V13a);
/// evaluation.add("The cat sat on a mat.", &["The cat sat on the mat."]);
/// let scores = evaluation.finish();
/// assert_eq!(format!("{:.2} {:.2}", scores.bleu.score, scores.chrf), "48.89 65.80");
/// ```
#[derive(Debug, Clone)]
pub struct Evaluation {
    bleu: Bleu,
    chrf: Chrf,
    chrf_plus_plus: Chrf,
    sentences: usize,
}

/// What translations score, from 0 to 100.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// BLEU and what it is made of.
    pub bleu: BleuScore,
    /// chrF2: characters only.
    pub chrf: f64,
    /// chrF++: words as well.
    pub chrf_plus_plus: f64,
    /// Sentences that were compared.
    pub sentences: usize,
}

impl Evaluation {
    /// An evaluation that cuts words for BLEU as `tokenize` says.
    pub fn new(tokenize: Tokenize) -> Self {
        let (chrf, chrf_plus_plus) = (Chrf::new(0), Chrf::new(2));
        Self { bleu: Bleu::new(tokenize), chrf, chrf_plus_plus, sentences: 0 }
    }

    /// Adds a translation and what people made of the same sentence.
    pub fn add(&mut self, translation: &str, references: &[&str]) {
        self.bleu.add(translation, references);
        self.chrf.add(translation, references);
        self.chrf_plus_plus.add(translation, references);
        self.sentences += 1;
    }

    /// The scores of all that was added.
    pub fn finish(&self) -> Scores {
        Scores {
            bleu: self.bleu.score(),
            chrf: self.chrf.score(),
            chrf_plus_plus: self.chrf_plus_plus.score(),
            sentences: self.sentences,
        }
    }
}

impl Scores {
    /// The scores as a JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let Self { bleu, chrf, chrf_plus_plus, sentences } = self;
        serde_json::json!({
            "bleu": bleu.score, "precisions": bleu.precisions, "brevity_penalty": bleu.brevity_penalty,
            "words": bleu.words, "reference_words": bleu.reference_words,
            "chrf": chrf, "chrf_plus_plus": chrf_plus_plus, "sentences": sentences,
        })
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bleu, chrf, chrf_plus_plus, sentences } = self;
        let [a, b, c, d] = bleu.precisions;
        writeln!(
            f,
            "BLEU        {:.2}  ({a:.1}/{b:.1}/{c:.1}/{d:.1}, brevity penalty {:.3})",
            bleu.score, bleu.brevity_penalty
        )?;
        writeln!(f, "chrF2       {chrf:.2}")?;
        writeln!(f, "chrF++      {chrf_plus_plus:.2}")?;
        write!(f, "sentences   {sentences}, words {}, in the references {}", bleu.words, bleu.reference_words)
    }
}

/// How often each n-gram of `n` parts occurs.
fn ngrams<T: Eq + std::hash::Hash>(parts: &[T], n: usize) -> std::collections::HashMap<&[T], usize> {
    let mut counts = std::collections::HashMap::new();
    for ngram in parts.windows(n) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}
