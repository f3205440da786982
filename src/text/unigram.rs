//! SentencePiece unigram (T5, MADLAD-400): of all ways to cut a text into pieces, the one with the best sum of scores.

use super::{
    charsmap::Charsmap,
    trie::Trie,
    vocab::{Kind, SPACE, Vocab},
};
use crate::error::{Error, Result};

/// Longer pieces never match, so that a file cannot make every character of a text costly.
const MAX_PIECE: usize = 1024;

/// Larger vocabularies are refused: the trie takes a multiple of them. Those of all languages take a few MiB.
const MAX_PIECES: usize = 1 << 26;

/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

/// Encodes with a unigram vocabulary.
pub(super) struct Unigram {
    charsmap: Charsmap,
    plain: [bool; 128],
    /// White space at both ends goes, and of several spaces in a row one is left.
    remove_extra_spaces: bool,
    pieces: Trie,
    scores: Vec<f32>,
    unknown: Option<u32>,
    unknown_score: f32,
    /// The token of each byte, if there is one for all of them.
    bytes: Option<Box<[u32; 256]>>,
}

/// The best way to get to a place in the text: the last piece and where it starts.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    id: u32,
    start: u32,
}

/// A place that no piece has led to.
const NOWHERE: Best = Best { score: 0.0, id: UNKNOWN, start: u32::MAX };

/// Stands for a character that has no piece.
const UNKNOWN: u32 = u32::MAX;

impl Unigram {
    /// `scores` has one for each token.
    ///
    /// # Errors
    /// `Unsupported` if the pieces take more than 64 MiB.
    pub(super) fn new(
        vocab: &Vocab,
        scores: Vec<f32>,
        unknown: Option<u32>,
        charsmap: Charsmap,
        remove_extra_spaces: bool,
    ) -> Result<Self> {
        let ids = || 0..vocab.len() as u32;
        let normal = ids().filter(|&id| vocab.kind(id) == Kind::Normal);
        let worst = normal.map(|id| scores[id as usize]).fold(f32::MAX, f32::min);
        // Texts are cut at user-defined tokens before they get here.
        let is_piece = |id: &u32| {
            let text = vocab.text(*id);
            vocab.kind(*id) == Kind::Normal && text.len() <= MAX_PIECE && std::str::from_utf8(text).is_ok()
        };
        let pieces: Vec<(&[u8], u32)> = ids().filter(is_piece).map(|id| (vocab.text(id), id)).collect();
        if pieces.iter().map(|(text, _)| text.len()).sum::<usize>() > MAX_PIECES {
            return Err(Error::unsupported("the pieces take more than 64 MiB, expected less"));
        }
        Ok(Self {
            plain: charsmap.plain(),
            charsmap,
            remove_extra_spaces,
            pieces: Trie::new(pieces),
            scores,
            unknown,
            unknown_score: worst - UNKNOWN_PENALTY,
            bytes: byte_tokens(vocab),
        })
    }

    pub(super) fn removes_extra_spaces(&self) -> bool {
        self.remove_extra_spaces
    }

    /// Appends the ids of `text`.
    ///
    /// # Errors
    /// `Input` if the normalised text is longer than 4 GiB.
    pub(super) fn encode(&self, text: &str, space_before: bool, ids: &mut Vec<u32>) -> Result<()> {
        let normal = self.normalize(text, space_before)?;
        self.segment(&normal, ids);
        Ok(())
    }

    /// Applies the rules, and writes `▁` for spaces.
    fn normalize(&self, text: &str, space_before: bool) -> Result<String> {
        let mut out = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        if space_before && !text.is_empty() {
            out.push_str(SPACE);
        }
        let mut after_space = true;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let as_it_is = |len| (len, &rest[..len]);
            let (len, mut part) = match self.plain_len(rest) {
                0 => self.charsmap.prefix(rest).unwrap_or(as_it_is(c.len_utf8())),
                plain => as_it_is(plain),
            };
            rest = &rest[len..];
            if self.remove_extra_spaces && after_space {
                part = part.trim_start_matches(' ');
            }
            if !part.is_empty() {
                after_space = part.ends_with(' ');
                push_escaped(part, &mut out);
            }
            if out.len() > u32::MAX as usize {
                return Err(Error::input("the normalised text is longer than 4 GiB, expected less"));
            }
        }
        if self.remove_extra_spaces {
            out.truncate(out.trim_end_matches(SPACE).len());
        }
        Ok(out)
    }

    /// How many bytes at the start of `text` stay as they are for sure, and hold no space.
    fn plain_len(&self, text: &str) -> usize {
        let is_plain = |byte: u8| byte != b' ' && self.plain.get(usize::from(byte)) == Some(&true);
        let bytes = text.as_bytes();
        let len = bytes.iter().position(|&byte| !is_plain(byte)).unwrap_or(bytes.len());
        // What is not ASCII may change the character before it.
        let changed = bytes.get(len).is_some_and(|next| !next.is_ascii());
        len - usize::from(changed && len > 0)
    }

    /// Viterbi's algorithm, in `f32` as in SentencePiece, so that ties are broken as there.
    fn segment(&self, text: &str, ids: &mut Vec<u32>) {
        // The best ways to the places from `base` on; no piece reaches beyond `reach`.
        let mut best = vec![NOWHERE];
        let (mut base, mut reach) = (0, 0);
        let mut path = Path::default();
        for (at, c) in text.char_indices() {
            if at == reach {
                // All ways lead through here, so what is before is settled.
                let score = best[at - base].score;
                self.settle(text, base, &best, &mut path, ids);
                best.clear();
                best.push(Best { score, ..NOWHERE });
                base = at;
            }
            let here = best[at - base].score;
            let mut offer = |len: usize, id: u32, score: f32| {
                reach = reach.max(at + len);
                if best.len() <= reach - base {
                    best.resize(reach - base + 1, NOWHERE);
                }
                let target = &mut best[at + len - base];
                if target.start == NOWHERE.start || score > target.score {
                    *target = Best { score, id, start: at as u32 };
                }
            };
            let mut has_own_piece = false;
            self.pieces.prefixes(&text.as_bytes()[at..], |len, id| {
                has_own_piece |= len == c.len_utf8();
                offer(len, id, self.scores[id as usize] + here);
            });
            if !has_own_piece {
                offer(c.len_utf8(), UNKNOWN, self.unknown_score + here);
            }
        }
        self.settle(text, base, &best, &mut path, ids);
    }

    /// Appends the ids of the best way to the last place of `best`, of which the first is at `base`.
    fn settle(&self, text: &str, base: usize, best: &[Best], path: &mut Path, ids: &mut Vec<u32>) {
        let mut end = base + best.len() - 1;
        while end > base {
            let last = best[end - base];
            path.steps.push((last.id, end));
            end = last.start as usize;
        }
        let mut start = base;
        while let Some((id, end)) = path.steps.pop() {
            match (&self.bytes, id) {
                (Some(bytes), UNKNOWN) => ids.extend(text[start..end].bytes().map(|byte| bytes[usize::from(byte)])),
                // Unknown characters in a row become one token.
                (None, UNKNOWN) => ids.extend(self.unknown.filter(|_| !path.after_unknown)),
                _ => ids.push(id),
            }
            path.after_unknown = id == UNKNOWN;
            start = end;
        }
    }
}

/// The pieces of a stretch of text, from its end to its start, and what kind was before it.
#[derive(Default)]
struct Path {
    steps: Vec<(u32, usize)>,
    after_unknown: bool,
}

fn push_escaped(part: &str, out: &mut String) {
    for (at, word) in part.split(' ').enumerate() {
        if at > 0 {
            out.push_str(SPACE);
        }
        out.push_str(word);
    }
}

fn byte_tokens(vocab: &Vocab) -> Option<Box<[u32; 256]>> {
    let mut tokens = Box::new([0; 256]);
    for (byte, token) in tokens.iter_mut().enumerate() {
        *token = vocab.find(format!("<0x{byte:02X}>").as_bytes()).filter(|&id| vocab.kind(id) == Kind::Byte)?;
    }
    Some(tokens)
}
