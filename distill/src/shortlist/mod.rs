//! Lexical shortlists: which tokens a translation may have, given the tokens of the sentence (Jean et al. 2015).
//!
//! The last matrix of a small translator, which gives every token of the vocabulary a score, is most of its work. With a
//! shortlist only a few hundred rows of it are needed: the likeliest translations of each token that is in the sentence,
//! and the most frequent tokens. Likely is what IBM Model 1 (`model1.rs`) finds in parallel text.

mod model1;

use std::collections::BTreeSet;

/// A pair of sentences as ids of tokens.
pub type Ids = (Vec<u32>, Vec<u32>);

/// What a shortlist is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Translations that are kept of each token, at most.
    pub best: usize,
    /// Tokens that are always in the list: the most frequent ones of all translations.
    pub frequent: usize,
    /// Translations that are less likely than this are not kept.
    pub least: f32,
    /// How often the model is fitted again (Brown et al. 1993).
    pub iterations: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { best: 50, frequent: 100, least: 1e-4, iterations: 4 }
    }
}

/// The tokens that translations may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortlist {
    /// Always in the list; ascending.
    pub frequent: Vec<u32>,
    /// Where the targets of each token start in `targets`, and at last how many there are: one more than tokens.
    pub offsets: Vec<u32>,
    /// The translations of each token, and the token itself, as names and numbers stay what they are; ascending.
    pub targets: Vec<u32>,
}

/// How well a shortlist fits sentences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// The share of the translations' tokens that is in the list.
    pub tokens: f64,
    /// The share of the sentences with all of their translation's tokens in the list.
    pub sentences: f64,
    /// How many tokens are in the list, on average.
    pub size: f64,
}

impl Shortlist {
    /// Learns which tokens translate which, for a vocabulary of `vocab` tokens. What is no id below it does not count.
    ///
    /// Memory is about 16 bytes for each pair of tokens that are in one pair of sentences, each counted once.
    pub fn learn(pairs: &[Ids], vocab: usize, options: &Options) -> Self {
        let table = model1::fit(pairs, vocab, options.iterations);
        let mut offsets = vec![0];
        let mut targets = Vec::new();
        for source in 0..vocab as u32 {
            let mut found: Vec<(u32, f32)> = table.row(source).filter(|(_, p)| *p >= options.least).collect();
            found.sort_by(|(a, p), (b, q)| q.total_cmp(p).then(a.cmp(b)));
            found.truncate(options.best);
            let mut ids: BTreeSet<u32> = found.into_iter().map(|(id, _)| id).collect();
            ids.insert(source);
            targets.extend(ids);
            offsets.push(targets.len() as u32);
        }
        Self { frequent: frequent(pairs, vocab, options.frequent), offsets, targets }
    }

    /// The tokens that the translation of `sentence` may have.
    pub fn of(&self, sentence: &[u32]) -> BTreeSet<u32> {
        let mut ids: BTreeSet<u32> = self.frequent.iter().copied().collect();
        for &id in sentence {
            if let Some(&[start, end]) = self.offsets.get(id as usize..id as usize + 2) {
                ids.extend(&self.targets[start as usize..end as usize]);
            }
        }
        ids
    }

    /// How well the shortlist fits `pairs`, which it should not have seen.
    pub fn coverage(&self, pairs: &[Ids]) -> Coverage {
        let (mut tokens, mut covered, mut whole, mut size) = (0, 0, 0, 0);
        for (source, target) in pairs {
            let list = self.of(source);
            let found = target.iter().filter(|id| list.contains(id)).count();
            tokens += target.len();
            covered += found;
            whole += usize::from(found == target.len());
            size += list.len();
        }
        let share = |a: usize, b: usize| a as f64 / b.max(1) as f64;
        Coverage {
            tokens: share(covered, tokens),
            sentences: share(whole, pairs.len()),
            size: share(size, pairs.len()),
        }
    }
}

/// The `n` most frequent tokens of the translations, ascending.
fn frequent(pairs: &[Ids], vocab: usize, n: usize) -> Vec<u32> {
    let mut counts = vec![0_usize; vocab];
    for id in pairs.iter().flat_map(|(_, target)| target) {
        if let Some(count) = counts.get_mut(*id as usize) {
            *count += 1;
        }
    }
    let mut ids: Vec<u32> = (0..vocab as u32).filter(|&id| counts[id as usize] > 0).collect();
    ids.sort_by_key(|&id| (std::cmp::Reverse(counts[id as usize]), id));
    ids.truncate(n);
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Token `2n` always becomes `2n + 1`, in another order, and 0 ends all.
    fn made_up() -> Vec<Ids> {
        (0..200_u32)
            .map(|i| {
                let source: Vec<u32> = [i % 7, i % 5 + 7, i * i % 11 + 12].map(|n| 2 * n + 2).to_vec();
                let target = source.iter().rev().map(|id| id + 1);
                (source.iter().copied().chain([0]).collect(), target.chain([0]).collect())
            })
            .collect()
    }

    #[test]
    fn finds_the_translations() {
        let options = Options { best: 1, frequent: 1, ..Options::default() };
        let shortlist = Shortlist::learn(&made_up(), 64, &options);
        assert_eq!(shortlist.frequent, [0]);
        assert_eq!(shortlist.of(&[2, 16]), BTreeSet::from([0, 2, 3, 16, 17]));
        let coverage = shortlist.coverage(&made_up());
        assert_eq!((coverage.tokens, coverage.sentences, coverage.size), (1.0, 1.0, 7.0));
        // What nobody has seen has itself.
        assert_eq!(shortlist.of(&[63, 9999]), BTreeSet::from([0, 63]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn is_sound_whatever_the_text(
            pairs in proptest::collection::vec((proptest::collection::vec(0_u32..40, 0..9), proptest::collection::vec(0_u32..40, 0..9)), 0..20),
            best in 0_usize..5,
        ) {
            let vocab = 32;
            let options = Options { best, frequent: 3, ..Options::default() };
            let shortlist = Shortlist::learn(&pairs, vocab, &options);
            prop_assert_eq!(shortlist.offsets.len(), vocab + 1);
            prop_assert_eq!(*shortlist.offsets.last().unwrap() as usize, shortlist.targets.len());
            for id in 0..vocab as u32 {
                let [start, end] = [0, 1].map(|i| shortlist.offsets[id as usize + i] as usize);
                let targets = &shortlist.targets[start..end];
                prop_assert!(targets.is_sorted() && targets.contains(&id) && targets.len() <= best + 1);
                prop_assert!(targets.iter().all(|&target| (target as usize) < vocab));
            }
            let all = Options { best: 99, least: 0.0, ..options };
            let inside: Vec<Ids> = pairs.iter().map(|(a, b)| (a.clone(), b.iter().copied().filter(|&id| id < 32).collect())).collect();
            let with_source: Vec<Ids> = inside.into_iter().filter(|(a, _)| a.iter().any(|&id| id < 32)).collect();
            prop_assert!(with_source.is_empty() || Shortlist::learn(&with_source, vocab, &all).coverage(&with_source).tokens == 1.0 || with_source.iter().all(|(_, b)| b.is_empty()));
        }
    }
}
