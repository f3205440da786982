//! BLEU (Papineni et al. 2002) of a corpus, smoothed as NIST's `mteval-v13a` does and sacrebleu by default.

use super::{Tokenize, ngrams};

/// The longest n-gram.
const ORDER: usize = 4;

/// Collects the matches of a corpus.
#[derive(Debug, Clone)]
pub struct Bleu {
    tokenize: Tokenize,
    correct: [usize; ORDER],
    total: [usize; ORDER],
    words: usize,
    reference_words: usize,
}

/// BLEU and what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BleuScore {
    /// BLEU, from 0 to 100.
    pub score: f64,
    /// How many of a hundred n-grams are in a reference, for n from 1 to 4; smoothed.
    pub precisions: [f64; ORDER],
    /// What too few words cost: a factor from 0 to 1.
    pub brevity_penalty: f64,
    /// Words of the translations.
    pub words: usize,
    /// Words of the references, of each sentence's the nearest in length.
    pub reference_words: usize,
}

impl Bleu {
    /// Nothing so far.
    pub fn new(tokenize: Tokenize) -> Self {
        Self { tokenize, correct: [0; ORDER], total: [0; ORDER], words: 0, reference_words: 0 }
    }

    /// Adds a translation and its references.
    pub fn add(&mut self, translation: &str, references: &[&str]) {
        let split = |text: &str| self.tokenize.words(text);
        let (words, references) = (split(translation), references.iter().map(|text| split(text)).collect::<Vec<_>>());
        self.words += words.len();
        // The nearest in length, and of two the shorter.
        let lengths = references.iter().map(Vec::len);
        self.reference_words += lengths.min_by_key(|&len| (len.abs_diff(words.len()), len)).unwrap_or(0);
        for n in 1..=ORDER {
            let references: Vec<_> = references.iter().map(|words| ngrams(words, n)).collect();
            for (ngram, count) in ngrams(&words, n) {
                let most = references.iter().filter_map(|counts| counts.get(ngram)).max();
                self.total[n - 1] += count;
                self.correct[n - 1] += count.min(most.copied().unwrap_or(0));
            }
        }
    }

    /// The score of all that was added.
    pub fn score(&self) -> BleuScore {
        let (words, reference_words) = (self.words, self.reference_words);
        let brevity_penalty = match words {
            0 if reference_words > 0 => 0.0,
            _ if words < reference_words => (1.0 - reference_words as f64 / words as f64).exp(),
            _ => 1.0,
        };
        let mut precisions = [0.0; ORDER];
        if self.correct.iter().any(|&n| n > 0) {
            // The first order without a match counts as half of one, the next as a quarter, and so on.
            let mut smoothing = 1.0;
            for ((precision, &correct), &total) in precisions.iter_mut().zip(&self.correct).zip(&self.total) {
                if total == 0 {
                    break;
                }
                *precision = match correct {
                    0 => {
                        smoothing *= 2.0;
                        100.0 / (smoothing * total as f64)
                    }
                    _ => 100.0 * correct as f64 / total as f64,
                };
            }
        }
        let mean = if precisions.contains(&0.0) {
            0.0
        } else {
            (precisions.iter().map(|p| p.ln()).sum::<f64>() / ORDER as f64).exp()
        };
        BleuScore { score: brevity_penalty * mean, precisions, brevity_penalty, words, reference_words }
    }
}
