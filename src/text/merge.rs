//! Byte-pair merging: joins neighbours, best pair first, until no pair is left to join.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

/// A run of a text that may still grow; `len` 0 once another one has swallowed it.
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
}

/// Two neighbours that can be joined. The lowest rank goes first, the leftmost among equals.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    rank: u32,
    left: u32,
    right: u32,
    /// Bytes of both when the pair was found; if they no longer match, one of them has changed.
    len: u32,
}

const NONE: u32 = u32::MAX;

/// Merges one text after the other, with buffers that are kept. Takes O(n log n) for n symbols.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Pair>>,
}

impl Merger {
    /// Splits `text` at its characters, joins the neighbours that `rank` gives a rank for, lowest first, and calls
    /// `each` with the runs that remain, in order. `rank` sees two neighbours as one slice and where the second begins.
    /// A text must be shorter than 4 GiB.
    pub(super) fn merge<'t>(
        &mut self,
        text: &'t str,
        mut rank: impl FnMut(&'t [u8], usize) -> Option<u32>,
        mut each: impl FnMut(&'t [u8]),
    ) {
        self.start(text);
        let bytes = text.as_bytes();
        let mut rank = |range: Range<usize>, mid: usize| rank(&bytes[range], mid);
        let mut found = std::mem::take(&mut self.queue).into_vec();
        found.extend((1..self.symbols.len() as u32).filter_map(|right| self.pair(right - 1, right, &mut rank)));
        self.queue = found.into();
        while let Some(Reverse(Pair { left, right, len, .. })) = self.queue.pop() {
            let (l, r) = (&self.symbols[left as usize], &self.symbols[right as usize]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            let (prev, next) = (l.prev, r.next);
            self.symbols[right as usize].len = 0;
            let joined = &mut self.symbols[left as usize];
            (joined.len, joined.next) = (len, next);
            if next != NONE {
                self.symbols[next as usize].prev = left;
                let pair = self.pair(left, next, &mut rank);
                self.queue.extend(pair);
            }
            if prev != NONE {
                let pair = self.pair(prev, left, &mut rank);
                self.queue.extend(pair);
            }
        }
        for symbol in self.symbols.iter().filter(|s| s.len > 0) {
            each(&bytes[symbol.start as usize..][..symbol.len as usize]);
        }
    }

    /// One symbol for each character.
    fn start(&mut self, text: &str) {
        self.symbols.clear();
        self.symbols.extend((0..).zip(text.char_indices()).map(|(at, (start, c)): (u32, _)| Symbol {
            start: start as u32,
            len: c.len_utf8() as u32,
            prev: at.wrapping_sub(1),
            next: at + 1,
        }));
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
    }

    fn pair(
        &self,
        left: u32,
        right: u32,
        rank: &mut impl FnMut(Range<usize>, usize) -> Option<u32>,
    ) -> Option<Reverse<Pair>> {
        let (l, r) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        let len = l.len + r.len;
        let range = l.start as usize..(l.start + len) as usize;
        let rank = rank(range, l.len as usize)?;
        Some(Reverse(Pair { rank, left, right, len }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by definition: join the best leftmost pair, start over.
    fn naive(text: &str, rank: impl Fn(&[u8], usize) -> Option<u32>) -> Vec<Vec<u8>> {
        let mut parts: Vec<Vec<u8>> = text.chars().map(|c| c.to_string().into_bytes()).collect();
        loop {
            let ranks =
                (1..parts.len()).filter_map(|i| Some((rank(&parts[i - 1..=i].concat(), parts[i - 1].len())?, i)));
            let Some((_, at)) = ranks.min() else { return parts };
            let right = parts.remove(at);
            parts[at - 1].extend(right);
        }
    }

    proptest! {
        #[test]
        fn equals_the_definition(text in "[abcé]{0,24}", merges in prop::collection::vec("[abcé]{2,5}", 0..20)) {
            // As SentencePiece ranks: by the joined text.
            let joined = |both: &[u8], _| merges.iter().position(|m| m.as_bytes() == both).map(|at| at as u32 / 2);
            let mut out = Vec::new();
            Merger::default().merge(&text, joined, |part| out.push(part.to_vec()));
            prop_assert_eq!(out, naive(&text, joined));
        }

        #[test]
        fn equals_the_definition_for_pairs(text in "[ab]{0,24}", merges in prop::collection::vec(("[ab]{1,3}", "[ab]{1,3}"), 0..20)) {
            let listed = |both: &[u8], mid| {
                let found = both.split_at(mid);
                merges.iter().position(|(a, b)| (a.as_bytes(), b.as_bytes()) == found).map(|at| at as u32)
            };
            let mut out = Vec::new();
            Merger::default().merge(&text, listed, |part| out.push(part.to_vec()));
            prop_assert_eq!(out, naive(&text, listed));
        }
    }
}
