//! Byte-level BPE (GPT-2, Llama 3, Qwen): words, merged by the file's list of merges.

use super::{
    merge::Merger,
    pretokenize::Split,
    vocab::{BYTE_CHARS, Pool, Table, Vocab, hash},
};
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
    /// Merges that are not two parts with a space between never apply.
    pub(super) fn new(merges: Pool, split: Split, whole_words: bool) -> Self {
        let state = RandomState::default();
        let mut table = Table::with_capacity(merges.len());
        let mut longest = 0;
        for rank in 0..merges.len() as u32 {
            let merge = merges.get(rank);
            longest = longest.max(merge.len());
            table.insert(hash(&state, merge), rank, |other| merges.get(other) == merge);
        }
        Self { merges, table, state, split, whole_words, longest }
    }

    /// Appends the ids of `text`. Bytes that have no token give nothing, as in the tokenizers this follows.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let (mut mapped, mut merge) = (String::new(), Vec::new());
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
                None => {
                    let rank = |joined: &[u8], mid| self.rank(joined, mid, &mut merge);
                    merger.merge(&mapped, rank, |part| push(vocab, part, ids));
                }
            }
            seen.insert(word, start..ids.len());
        });
    }

    /// The rank of a merge, spelled in `merge` as in the list.
    fn rank(&self, joined: &[u8], mid: usize, merge: &mut Vec<u8>) -> Option<u32> {
        if joined.len() >= self.longest {
            return None;
        }
        let (left, right) = joined.split_at(mid);
        merge.clear();
        merge.extend_from_slice(left);
        merge.push(b' ');
        merge.extend_from_slice(right);
        self.table.find(hash(&self.state, merge), |rank| self.merges.get(rank) == merge)
    }
}

/// A part that merges made but the vocabulary lacks falls apart into its characters.
fn push(vocab: &Vocab, part: &[u8], ids: &mut Vec<u32>) {
    if let Some(id) = vocab.find(part) {
        return ids.push(id);
    }
    let chars = std::str::from_utf8(part).unwrap_or_default().chars();
    ids.extend(chars.filter_map(|c| vocab.find(c.encode_utf8(&mut [0; 4]).as_bytes())));
}
