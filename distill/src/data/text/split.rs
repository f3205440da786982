//! Which items are held out.
//!
//! Items with the same source always go together, whatever their spelling: sources are compared by their letters and
//! digits in lower case. Sources are ranked by a hash of that (64-bit FNV-1a, mixed by SplitMix64's last steps); the first
//! are for testing, the next for validation, and the others for training. So the parts do not depend on the order of the
//! files, on filters or on chance.

use super::Item;
use crate::fnv::Fnv;
use std::collections::BTreeMap;

/// How many distinct sources are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldOut {
    /// For the last measurement.
    pub test: usize,
    /// For choosing among states of the student.
    pub validation: usize,
}

/// The parts of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Parts {
    /// In the order of their hashes: its beginning is a sample of all.
    pub train: Vec<Item>,
    pub validation: Vec<Item>,
    pub test: Vec<Item>,
}

/// The hash by which sources are ranked.
pub fn hash(source: &str) -> u64 {
    let mut plain = source.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).peekable();
    // A source of signs alone is itself.
    let text: String = if plain.peek().is_some() { plain.collect() } else { source.to_string() };
    let mut hash = Fnv::new().bytes(text.as_bytes()).0;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

impl Parts {
    /// Splits items.
    pub fn new(items: Vec<Item>, held_out: HeldOut) -> Self {
        let mut groups: BTreeMap<u64, Vec<Item>> = BTreeMap::new();
        for item in items {
            groups.entry(hash(item.source())).or_default().push(item);
        }
        let mut parts = Self::default();
        for (rank, (_, items)) in groups.into_iter().enumerate() {
            let part = match rank {
                _ if rank < held_out.test => &mut parts.test,
                _ if rank < held_out.test + held_out.validation => &mut parts.validation,
                _ => &mut parts.train,
            };
            part.extend(items);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn pairs(range: std::ops::Range<usize>) -> Vec<Item> {
        let pair = |i: usize| Item::Pair { source: format!("Sentence {}.", i / 2), target: format!("Satz {i}") };
        range.map(pair).collect()
    }

    #[test]
    fn no_source_is_in_two_parts_and_none_is_lost() {
        let held_out = HeldOut { test: 50, validation: 30 };
        let parts = Parts::new(pairs(0..1000), held_out);
        let sources = |items: &[Item]| items.iter().map(|item| item.source().to_string()).collect::<BTreeSet<_>>();
        let [train, validation, test] = [&parts.train, &parts.validation, &parts.test].map(|items| sources(items));
        assert_eq!((train.len(), validation.len(), test.len()), (420, 30, 50));
        assert!(train.is_disjoint(&test) && train.is_disjoint(&validation) && validation.is_disjoint(&test));
        assert_eq!(parts.train.len() + parts.validation.len() + parts.test.len(), 1000);

        let mut others = pairs(0..1000);
        others.reverse();
        assert_eq!(sources(&Parts::new(others, held_out).test), test);
    }

    #[test]
    fn spelling_makes_no_other_source() {
        assert_eq!(hash("Hi!"), hash("hi"));
        assert_ne!(hash("Hi!"), hash("Hi you"));
        assert_ne!(hash("?"), hash("!"));
        // Splits must stay as they are: scores are measured on them.
        assert_eq!(hash("Where is the train station?"), 9739266041035808043);
    }
}
