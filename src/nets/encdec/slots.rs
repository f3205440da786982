//! Where hypotheses have the keys and values of their past: in blocks of the cache, which those with a common past share until
//! one of them writes.

/// The blocks of each slot, of which a hypothesis has one. Blocks are taken from the cache's beginning on, so that of a cache
/// for the worst case only what is needed is ever touched.
#[derive(Default)]
pub(super) struct Slots {
    /// The numbers of each slot's blocks, in the order of positions.
    slots: Vec<Vec<usize>>,
    /// How many slots hold each block that was ever taken.
    holders: Vec<usize>,
    /// Those that none holds.
    free: Vec<usize>,
}

impl Slots {
    /// Empties all, and makes it so many.
    pub(super) fn reset(&mut self, slots: usize) {
        self.slots.iter_mut().for_each(Vec::clear);
        self.slots.resize_with(slots, Vec::new);
        self.holders.clear();
        self.free.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn blocks(&self, slot: usize) -> &[usize] {
        &self.slots[slot]
    }

    /// Gives up a slot's blocks.
    pub(super) fn clear(&mut self, slot: usize) {
        for block in self.slots[slot].drain(..) {
            self.holders[block] -= 1;
            if self.holders[block] == 0 {
                self.free.push(block);
            }
        }
    }

    /// Lets slot `to` hold what slot `from` holds, instead of what it held.
    pub(super) fn share(&mut self, from: usize, to: usize) {
        assert_ne!(from, to, "slots that are two");
        self.clear(to);
        let mut blocks = std::mem::take(&mut self.slots[to]);
        blocks.extend_from_slice(&self.slots[from]);
        blocks.iter().for_each(|&block| self.holders[block] += 1);
        self.slots[to] = blocks;
    }

    /// Sees to it that the slot has a block `i`, and that no other holds that one. Returns the block to be copied, from and to,
    /// if there was one that others go on holding.
    pub(super) fn own(&mut self, slot: usize, i: usize) -> Option<(usize, usize)> {
        while self.slots[slot].len() <= i {
            let block = self.take();
            self.slots[slot].push(block);
        }
        let shared = self.slots[slot][i];
        if self.holders[shared] == 1 {
            return None;
        }
        self.holders[shared] -= 1;
        let own = self.take();
        self.slots[slot][i] = own;
        Some((shared, own))
    }

    fn take(&mut self) -> usize {
        let block = self.free.pop().unwrap_or(self.holders.len());
        if block == self.holders.len() {
            self.holders.push(0);
        }
        self.holders[block] = 1;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_shared_until_one_writes() {
        let mut slots = Slots::default();
        slots.reset(3);
        assert_eq!((slots.own(0, 0), slots.own(0, 1)), (None, None));
        slots.share(0, 1);
        slots.share(0, 2);
        assert_eq!((slots.blocks(1), slots.blocks(2)), (&[0, 1][..], &[0, 1][..]));
        // Two copy what the last one keeps.
        assert_eq!(slots.own(1, 1), Some((1, 2)));
        assert_eq!(slots.own(0, 1), Some((1, 3)));
        assert_eq!(slots.own(2, 1), None);
        // What all have given up is taken again.
        slots.clear(1);
        assert_eq!(slots.own(0, 2), None);
        assert_eq!(slots.blocks(0), [0, 3, 2]);
        slots.reset(1);
        assert_eq!((slots.own(0, 0), slots.blocks(0)), (None, &[0][..]));
    }

    proptest! {
        /// Whatever is done: a block that was written is held by one slot, no slot loses what it wrote, and there are never more
        /// blocks than slots times their length.
        #[test]
        fn slots_keep_what_they_wrote(steps in prop::collection::vec((0..5_usize, 0..5_usize, 0..3_usize), 1..200)) {
            const SLOTS: usize = 5;
            let mut slots = Slots::default();
            slots.reset(SLOTS);
            // What each slot should read, and what each block of the cache holds.
            let mut expected: Vec<Vec<usize>> = vec![vec![]; SLOTS];
            let mut cache = [usize::MAX; SLOTS * 4];
            for (step, (slot, other, what)) in steps.into_iter().enumerate() {
                match what {
                    0 if slot != other => {
                        slots.share(slot, other);
                        expected[other] = expected[slot].clone();
                    }
                    1 => {
                        slots.clear(slot);
                        expected[slot].clear();
                    }
                    _ => {
                        // Either the last block is written again, or the next one.
                        let again = usize::from(step % 2 == 0 && !expected[slot].is_empty());
                        let i = (expected[slot].len() - again).min(3);
                        if let Some((from, to)) = slots.own(slot, i) {
                            cache[to] = cache[from];
                        }
                        cache[slots.blocks(slot)[i]] = step;
                        expected[slot].truncate(i);
                        expected[slot].push(step);
                    }
                }
                for (slot, expected) in expected.iter().enumerate() {
                    let held = &slots.blocks(slot)[..expected.len()];
                    prop_assert_eq!(&held.iter().map(|&block| cache[block]).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
