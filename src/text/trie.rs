//! A trie of byte strings as a double array: one step takes one look at memory.

use std::collections::VecDeque;

/// Blocks that are still looked at for free slots, so that building takes time in proportion to the keys.
const OPEN_BLOCKS: usize = 2;

/// Finds which of a set of keys a text begins with.
pub(super) struct Trie {
    slots: Vec<Slot>,
}

/// A node. Its child for a byte is at `base ^ byte`, if that slot names it as its parent.
#[derive(Clone, Copy)]
struct Slot {
    base: u32,
    parent: u32,
    value: u32,
}

const FREE: u32 = u32::MAX;
const NO_PARENT: u32 = u32::MAX - 1;
const NO_VALUE: u32 = u32::MAX;

impl Trie {
    /// A trie of `keys` with their values, which are below 2³² − 1. Of equal keys the lowest value counts; empty ones
    /// never match. Keys together must be shorter than 2²⁸ bytes.
    pub(super) fn new(mut keys: Vec<(&[u8], u32)>) -> Self {
        keys.sort_unstable();
        keys.dedup_by_key(|(key, _)| *key);
        let mut builder = Builder::new();
        // Nodes whose children have no place yet: their keys, how many bytes of these lead to the node, and its slot.
        let mut pending = vec![(&keys[..], 0, 0)];
        let mut labels = Vec::new();
        while let Some((mut keys, depth, slot)) = pending.pop() {
            if let Some((&(first, value), longer)) = keys.split_first().filter(|((first, _), _)| first.len() == depth) {
                builder.slots[slot].value = if first.is_empty() { NO_VALUE } else { value };
                keys = longer;
            }
            let children = keys.chunk_by(|(a, _), (b, _)| a[depth] == b[depth]);
            labels.clear();
            labels.extend(children.clone().map(|keys| keys[0].0[depth]));
            let base = builder.place(&labels, slot);
            pending.extend(children.map(|keys| (keys, depth + 1, base ^ usize::from(keys[0].0[depth]))));
        }
        Self { slots: builder.slots }
    }

    /// Calls `each` with the length and the value of every key that `text` begins with, the shortest first.
    #[inline]
    pub(super) fn prefixes(&self, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let mut node = 0;
        let mut base = self.slots[0].base;
        for (at, &byte) in text.iter().enumerate() {
            let next = base ^ u32::from(byte);
            let Some(slot) = self.slots.get(next as usize).filter(|slot| slot.parent == node) else { return };
            if slot.value != NO_VALUE {
                each(at + 1, slot.value);
            }
            (node, base) = (next, slot.base);
        }
    }
}

struct Builder {
    slots: Vec<Slot>,
    /// A bit for each slot that is free, by blocks of 256.
    free: Vec<[u64; 4]>,
    /// Blocks that are still looked at.
    open: VecDeque<usize>,
}

impl Builder {
    /// A trie of one node.
    fn new() -> Self {
        let mut builder = Self { slots: vec![], free: vec![], open: VecDeque::new() };
        builder.add_block();
        builder.take(0, NO_PARENT);
        builder
    }

    /// Gives the node in `slot` a base at which the slots for all `labels` are free, and takes them.
    fn place(&mut self, labels: &[u8], slot: usize) -> usize {
        if labels.is_empty() {
            return 0;
        }
        let found = self.open.iter().find_map(|&block| self.fit(labels, block));
        let base = found.unwrap_or_else(|| self.add_block());
        self.slots[slot].base = base as u32;
        for label in labels {
            self.take(base ^ usize::from(*label), slot as u32);
        }
        base
    }

    /// A base for `labels` in a block.
    fn fit(&self, labels: &[u8], block: usize) -> Option<usize> {
        let free = self.free[block];
        let is_free = |slot: usize| free[slot / 64] >> (slot % 64) & 1 == 1;
        let bases = (0..4).flat_map(|word| ones(free[word]).map(move |bit| (word * 64 + bit) ^ usize::from(labels[0])));
        let mut fitting = bases.filter(|base| labels[1..].iter().all(|label| is_free(base ^ usize::from(*label))));
        fitting.next().map(|base| block * 256 + base)
    }

    fn take(&mut self, slot: usize, parent: u32) {
        self.slots[slot].parent = parent;
        self.free[slot / 256][slot % 256 / 64] &= !(1 << (slot % 64));
    }

    /// The start of a new block.
    fn add_block(&mut self) -> usize {
        let start = self.slots.len();
        self.slots.resize(start + 256, Slot { base: 0, parent: FREE, value: NO_VALUE });
        self.free.push([u64::MAX; 4]);
        if self.open.len() == OPEN_BLOCKS {
            self.open.pop_front();
        }
        self.open.push_back(start / 256);
        start
    }
}

/// The places of the ones in `bits`.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (place < 64).then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefixes(trie: &Trie, text: &[u8]) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        trie.prefixes(text, |len, value| found.push((len, value)));
        found
    }

    #[test]
    fn the_lowest_of_equal_keys_counts_and_empty_ones_never_match() {
        let trie = Trie::new(vec![(b"ab", 7), (b"", 1), (b"ab", 3), (b"a", 9)]);
        assert_eq!(prefixes(&trie, b"abc"), [(1, 9), (2, 3)]);
        assert_eq!(prefixes(&trie, b""), []);
        assert_eq!(prefixes(&Trie::new(vec![]), b"\0a"), []);
    }

    #[test]
    fn a_node_may_have_all_children() {
        let keys: Vec<[u8; 2]> = (0..=65535u16).map(u16::to_be_bytes).collect();
        let trie = Trie::new((0..).zip(&keys).map(|(value, key)| (&key[..], value)).collect());
        assert!((0..).zip(&keys).all(|(value, key)| prefixes(&trie, key) == [(2, value)]));
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            keys in prop::collection::vec(prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..5), 0..60),
            text in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..8),
        ) {
            let trie = Trie::new((0..).zip(&keys).map(|(value, key)| (&key[..], value)).collect());
            let value = |len: usize| keys.iter().position(|key| *key == text[..len]).map(|at| (len, at as u32));
            prop_assert_eq!(prefixes(&trie, &text), (1..=text.len()).filter_map(value).collect::<Vec<_>>());
        }
    }
}
