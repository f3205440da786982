//! chrF (Popović 2015) and chrF++ (Popović 2017) of a corpus: the F-score of n-grams of characters, and of words.

use super::{
    ngrams,
    words::{is_space, split},
};

/// The longest n-gram of characters.
const CHARACTERS: usize = 6;

/// How much more recall counts than precision.
const BETA: f64 = 2.0;

/// Collects the matches of a corpus.
#[derive(Debug, Clone)]
pub struct Chrf {
    words: usize,
    orders: Vec<Counts>,
}

/// The n-grams of one order.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    translation: usize,
    reference: usize,
    both: usize,
}

/// A sentence as both kinds of parts.
struct Sentence<'t> {
    characters: Vec<char>,
    words: Vec<&'t str>,
}

impl<'t> Sentence<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            characters: text.chars().filter(|c| !is_space(*c)).collect(),
            words: split(text).flat_map(bare).collect(),
        }
    }
}

/// A word and the ASCII punctuation at its end, or else at its start.
fn bare(word: &str) -> impl Iterator<Item = &str> {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_punctuation());
    let cut = match word.chars().count() {
        0 | 1 => 0,
        _ if ends(word.chars().next_back()) => word.len() - 1,
        _ if ends(word.chars().next()) => 1,
        _ => 0,
    };
    let (a, b) = word.split_at(cut);
    [a, b].into_iter().filter(|part| !part.is_empty())
}

impl Chrf {
    /// Nothing so far. With n-grams of up to `words` words: 0 is chrF, 2 is chrF++.
    pub fn new(words: usize) -> Self {
        Self { words, orders: vec![Counts::default(); CHARACTERS + words] }
    }

    /// Adds a translation and its references, of which the most similar counts.
    pub fn add(&mut self, translation: &str, references: &[&str]) {
        let translation = Sentence::new(translation);
        let compared = references.iter().map(|text| self.compare(&translation, &Sentence::new(text)));
        let mut best: Option<(f64, Vec<Counts>)> = None;
        for counts in compared {
            let score = f_score(&counts);
            if best.as_ref().is_none_or(|(most, _)| score > *most) {
                best = Some((score, counts));
            }
        }
        for (sum, counts) in self.orders.iter_mut().zip(best.into_iter().flat_map(|(_, counts)| counts)) {
            sum.translation += counts.translation;
            sum.reference += counts.reference;
            sum.both += counts.both;
        }
    }

    fn compare(&self, a: &Sentence<'_>, b: &Sentence<'_>) -> Vec<Counts> {
        let characters = (1..=CHARACTERS).map(|n| count(&a.characters, &b.characters, n));
        characters.chain((1..=self.words).map(|n| count(&a.words, &b.words, n))).collect()
    }

    /// The score of all that was added, from 0 to 100.
    pub fn score(&self) -> f64 {
        f_score(&self.orders)
    }
}

fn count<T: Eq + std::hash::Hash>(translation: &[T], reference: &[T], n: usize) -> Counts {
    let (a, b) = (ngrams(translation, n), ngrams(reference, n));
    let both = a.iter().map(|(ngram, count)| b.get(ngram).map_or(0, |other| *count.min(other))).sum();
    let sum = |counts: &std::collections::HashMap<&[T], usize>| counts.values().sum();
    // Where there is nothing to find, nothing counts as wrong.
    Counts { translation: if b.is_empty() { 0 } else { sum(&a) }, reference: sum(&b), both }
}

/// The F-score of precision and recall, each averaged over the orders that both sides have.
fn f_score(orders: &[Counts]) -> f64 {
    let (mut precision, mut recall, mut effective) = (0.0, 0.0, 0.0);
    for counts in orders.iter().filter(|counts| counts.translation > 0 && counts.reference > 0) {
        precision += counts.both as f64 / counts.translation as f64;
        recall += counts.both as f64 / counts.reference as f64;
        effective += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / effective, recall / effective);
    let factor = BETA * BETA;
    100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
}
