//! Byte-level BPE (GPT-2, Llama 3, Qwen): words, merged by the file's list of merges.

use super::{
    merge::Merger,
    pretokenize::Split,
    vocab::{BYTE_CHARS, Pool, Table, Vocab, hash},
};
use crate::error::{Error, Result};
use foldhash::fast::RandomState;
use std::{collections::HashMap, ops::Range};

/// Encodes with a byte-level BPE vocabulary.
pub(super) struct Bpe {
    /// "left right", the most important first.
    merges: Pool,
    table: Table,
    state: RandomState,
    split: Split,
    /// Words that are tokens are not merged.
    whole_words: bool,
    longest: usize,
}

impl Bpe {
    /// # Errors
    /// `Format` if a merge is not two parts with a space between.
    pub(super) fn new(merges: Pool, split: Split, whole_words: bool) -> Result<Self> {
        let state = RandomState::default();
        let mut table = Table::with_capacity(merges.len());
        let mut longest = 0;
        for rank in 0..merges.len() as u32 {
            let merge = merges.get(rank);
            let Some((left, right)) = parts(merge) else {
                let merge = String::from_utf8_lossy(merge.get(..80).unwrap_or(merge));
                return Err(Error::format(format!(
                    "merge {rank} is {merge:?}, expected two parts with a space between"
                )));
            };
            longest = longest.max(merge.len() - 1);
            table.insert(hash(&state, &[left, right]), rank, |other| merges.get(other) == merge);
        }
        Ok(Self { merges, table, state, split, whole_words, longest })
    }

    /// Appends the ids of `text`. Bytes that have no token give nothing, as in the tokenizers this follows.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let mut mapped = String::new();
        // Words come again and again; their ids are where they were last.
        let mut seen: HashMap<&str, Range<usize>, RandomState> = HashMap::default();
        self.split.words(text, |word| {
            if let Some(range) = seen.get(word) {
                ids.extend_from_within(range.clone());
                return;
            }
            let start = ids.len();
            mapped.clear();
            mapped.extend(word.bytes().map(|byte| BYTE_CHARS[byte as usize]));
            match vocab.find(mapped.as_bytes()).filter(|_| self.whole_words) {
                Some(id) => ids.push(id),
                None => merger.merge(&mapped, |joined, mid| self.rank(joined, mid), |part| push(vocab, part, ids)),
            }
            seen.insert(word, start..ids.len());
        });
    }

    fn rank(&self, joined: &[u8], mid: usize) -> Option<u32> {
        if joined.len() > self.longest {
            return None;
        }
        let found = joined.split_at(mid);
        let (left, right) = found;
        self.table.find(hash(&self.state, &[left, right]), |rank| parts(self.merges.get(rank)) == Some(found))
    }
}

/// The two sides of a merge. The left one may itself begin with a space.
fn parts(merge: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = merge.iter().skip(1).position(|&byte| byte == b' ')? + 1;
    Some((&merge[..space], &merge[space + 1..])).filter(|(_, right)| !right.is_empty())
}

/// A part that merges made but the vocabulary lacks falls apart into its characters.
fn push(vocab: &Vocab, part: &[u8], ids: &mut Vec<u32>) {
    if let Some(id) = vocab.find(part) {
        return ids.push(id);
    }
    let chars = std::str::from_utf8(part).unwrap_or_default().chars();
    ids.extend(chars.filter_map(|c| vocab.find(c.encode_utf8(&mut [0; 4]).as_bytes())));
}
