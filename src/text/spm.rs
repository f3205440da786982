//! SentencePiece BPE as llama.cpp does it: whole texts, merged by the tokens' scores, with byte fallback.

use super::{
    merge::Merger,
    vocab::{SPACE, Vocab},
};
use foldhash::fast::RandomState;
use std::{collections::HashMap, ops::Range};

/// Encodes with a SentencePiece vocabulary.
pub(super) struct Spm {
    /// For each token, the lower the better: its score turned into an order.
    ranks: Vec<u32>,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
    /// No token has `▁` behind anything but `▁`, so that no merge reaches from one word into the next.
    by_words: bool,
}

impl Spm {
    /// `scores` has one for each token.
    pub(super) fn new(vocab: &Vocab, scores: &[f32], unknown: Option<u32>) -> Self {
        let byte = |byte: u8| vocab.find(format!("<0x{byte:02X}>").as_bytes()).or_else(|| vocab.find(&[byte]));
        Self {
            ranks: scores.iter().map(|&score| rank(score)).collect(),
            bytes: Box::new(std::array::from_fn(|b| byte(b as u8))),
            unknown,
            by_words: !(0..vocab.len() as u32).any(|id| word_starts(vocab.text(id)).next().is_some()),
        }
    }

    /// Appends the ids of `text`. Bytes that have no token become the unknown token, or nothing if there is none.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        space_before: bool,
        merger: &mut Merger,
        ids: &mut Vec<u32>,
    ) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        if space_before {
            escaped.push_str(SPACE);
        }
        for (at, word) in text.split(' ').enumerate() {
            if at > 0 {
                escaped.push_str(SPACE);
            }
            escaped.push_str(word);
        }
        if !self.by_words {
            return self.merge(vocab, &escaped, merger, ids);
        }
        let mut seen: HashMap<&str, Range<usize>, RandomState> = HashMap::default();
        let mut from = 0;
        for to in word_starts(escaped.as_bytes()).chain([escaped.len()]) {
            let word = &escaped[from..to];
            from = to;
            if let Some(range) = seen.get(word) {
                ids.extend_from_within(range.clone());
                continue;
            }
            let start = ids.len();
            self.merge(vocab, word, merger, ids);
            seen.insert(word, start..ids.len());
        }
    }

    fn merge(&self, vocab: &Vocab, text: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let rank = |joined: &[u8], _| vocab.find(joined).and_then(|id| self.ranks.get(id as usize).copied());
        merger.merge(text, rank, |part| match vocab.find(part) {
            Some(id) => ids.push(id),
            None => ids.extend(part.iter().filter_map(|&byte| self.bytes[byte as usize].or(self.unknown))),
        });
    }
}

/// Where `▁` follows anything but `▁`.
fn word_starts(text: &[u8]) -> impl Iterator<Item = usize> {
    let space = SPACE.as_bytes();
    let is_start = move |&at: &usize| text[at..].starts_with(space) && !text[..at].ends_with(space);
    (1..text.len()).filter(is_start)
}

/// Turns scores into integers of the opposite order; NaN is the worst, and −0 equals 0.
fn rank(score: f32) -> u32 {
    if score.is_nan() {
        return u32::MAX;
    }
    let bits = (score + 0.0).to_bits();
    // Ordered as integers, then reversed: positive numbers by their bits, negative ones against them.
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    !ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_reverse_the_order_of_scores() {
        let scores = [f32::INFINITY, 3.5, 1e-30, 0.0, -1e-30, -2.0, -30000.0, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
        assert!(rank(f32::NAN) > rank(f32::NEG_INFINITY));
        assert_eq!(rank(0.0), rank(-0.0));
    }
}
