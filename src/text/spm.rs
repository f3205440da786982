//! SentencePiece BPE as llama.cpp does it: whole texts, merged by the tokens' scores, with byte fallback.

use super::{
    merge::Merger,
    vocab::{SPACE, Vocab},
};

/// Encodes with a SentencePiece vocabulary.
pub(super) struct Spm {
    /// For each token, the lower the better: its score turned into an order.
    ranks: Vec<u32>,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
}

impl Spm {
    /// `scores` has one for each token.
    pub(super) fn new(vocab: &Vocab, scores: &[f32], unknown: Option<u32>) -> Self {
        let byte = |byte: u8| vocab.find(format!("<0x{byte:02X}>").as_bytes()).or_else(|| vocab.find(&[byte]));
        Self {
            ranks: scores.iter().map(|&score| rank(score)).collect(),
            bytes: Box::new(std::array::from_fn(|b| byte(b as u8))),
            unknown,
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
        let rank = |joined: &[u8], _| vocab.find(joined).and_then(|id| self.ranks.get(id as usize).copied());
        merger.merge(&escaped, rank, |part| match vocab.find(part) {
            Some(id) => ids.push(id),
            None => ids.extend(part.iter().filter_map(|&byte| self.bytes[byte as usize].or(self.unknown))),
        });
    }
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
