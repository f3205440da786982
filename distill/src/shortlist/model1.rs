//! IBM Model 1 (Brown et al. 1993): the probability that a token is the translation of another, from pairs of sentences
//! alone. Each token of a translation comes from some token of the sentence, or from none.

use super::Ids;

/// Pairs that are collected before they are sorted and counted once each.
const CHUNK: usize = 1 << 23;

/// `p(target | source)` for the pairs that occur.
pub(super) struct Table {
    /// Where the row of each source starts; the last but one is that of no token at all.
    offsets: Vec<usize>,
    targets: Vec<u32>,
    probabilities: Vec<f32>,
}

impl Table {
    /// The targets of a token, ascending, and their probabilities.
    pub(super) fn row(&self, source: u32) -> impl Iterator<Item = (u32, f32)> {
        let range = self.offsets[source as usize]..self.offsets[source as usize + 1];
        self.targets[range.clone()].iter().copied().zip(self.probabilities[range].iter().copied())
    }

    /// All pairs that occur, with the same probability for each in a row.
    fn new(pairs: &[Ids], vocab: usize) -> Self {
        let mut seen: Vec<u64> = Vec::new();
        let mut settled = 0;
        for (source, target) in pairs {
            for source in with_none(source, vocab) {
                seen.extend(within(target, vocab).map(|target| u64::from(source) << 32 | u64::from(target)));
            }
            if seen.len() - settled > CHUNK.max(settled) {
                seen.sort_unstable();
                seen.dedup();
                settled = seen.len();
            }
        }
        seen.sort_unstable();
        seen.dedup();
        let mut offsets = vec![0; vocab + 2];
        seen.iter().for_each(|pair| offsets[(pair >> 32) as usize + 1] += 1);
        for i in 0..=vocab {
            offsets[i + 1] += offsets[i];
        }
        let targets: Vec<u32> = seen.iter().map(|&pair| pair as u32).collect();
        let probabilities = vec![1.0 / vocab as f32; targets.len()];
        Self { offsets, targets, probabilities }
    }

    /// Where a pair is that occurs.
    fn find(&self, source: u32, target: u32) -> usize {
        let range = self.offsets[source as usize]..self.offsets[source as usize + 1];
        range.start + self.targets[range].partition_point(|&other| other < target)
    }

    /// Makes each row a distribution.
    fn normalize(&mut self) {
        for range in self.offsets.windows(2) {
            let row = &mut self.probabilities[range[0]..range[1]];
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= sum);
        }
    }
}

/// The ids below `vocab`.
fn within(ids: &[u32], vocab: usize) -> impl Iterator<Item = u32> {
    ids.iter().copied().filter(move |&id| (id as usize) < vocab)
}

/// The same, and the id that stands for no token.
fn with_none(ids: &[u32], vocab: usize) -> impl Iterator<Item = u32> {
    within(ids, vocab).chain([vocab as u32])
}

/// Expectation maximisation: how often each token of a translation came from each of the sentence, as the table has it,
/// is the next table.
pub(super) fn fit(pairs: &[Ids], vocab: usize, iterations: usize) -> Table {
    let mut table = Table::new(pairs, vocab);
    let mut places = Vec::new();
    for _ in 0..iterations {
        let mut counts = vec![0.0_f32; table.targets.len()];
        for (source, target) in pairs {
            for target in within(target, vocab) {
                places.clear();
                places.extend(with_none(source, vocab).map(|source| table.find(source, target)));
                let sum: f32 = places.iter().map(|&at| table.probabilities[at]).sum();
                if sum > 0.0 {
                    places.iter().for_each(|&at| counts[at] += table.probabilities[at] / sum);
                }
            }
        }
        table.probabilities = counts;
        table.normalize();
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Koehn's *Statistical Machine Translation* (§4.2.2): das Haus, das Buch, ein Buch. The figures are
    /// those of the book's algorithm without an empty token, which here is kept out by its own translation.
    #[test]
    fn rows_are_distributions_and_the_best_is_right() {
        let pairs = [(vec![0, 1], vec![0, 1]), (vec![0, 2], vec![0, 2]), (vec![3, 2], vec![3, 2])];
        let table = fit(&pairs, 4, 20);
        for source in 0..4 {
            let row: Vec<(u32, f32)> = table.row(source).collect();
            assert!((row.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-5);
            let best = row.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert_eq!(best.0, source);
        }
    }
}
