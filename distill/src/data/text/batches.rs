//! Batches of examples of about the same length, in an order that only the seed and the epoch decide.

use super::examples::Example;
use crate::batch::{Batch, Tokens};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Examples that are gone through again and again.
pub struct Batches {
    examples: Vec<Example>,
    pad: u32,
    /// Tokens of a batch, padding included.
    budget: usize,
    seed: u64,
}

/// Where one is in the stream of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// How often all examples were gone through.
    pub epoch: u64,
    /// The next batch of this epoch.
    pub batch: usize,
}

impl Batches {
    /// Batches of up to `budget` tokens, padding included; a longer example is a batch by itself.
    pub fn new(examples: Vec<Example>, pad: u32, budget: usize, seed: u64) -> Self {
        Self { examples, pad, budget, seed }
    }

    /// What there is to learn from.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// What fills up batches.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The batches of an epoch, by the indices of their examples.
    pub fn plan(&self, epoch: u64) -> Vec<Vec<u32>> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch);
        let mut order: Vec<u32> = (0..self.examples.len() as u32).collect();
        order.shuffle(&mut random);
        let mut batches = self.in_order(order);
        batches.shuffle(&mut random);
        batches
    }

    /// Batches of all examples, the short ones first: for evaluation.
    pub fn sorted(&self) -> Vec<Vec<u32>> {
        self.in_order((0..self.examples.len() as u32).collect())
    }

    fn in_order(&self, mut order: Vec<u32>) -> Vec<Vec<u32>> {
        let lengths = |&index: &u32| {
            let example = &self.examples[index as usize];
            (example.input.len(), example.source.len())
        };
        order.sort_by_key(lengths);
        let mut batches: Vec<Vec<u32>> = Vec::new();
        let (mut inputs, mut sources) = (0, 0);
        for index in order {
            let (input, source) = lengths(&index);
            (inputs, sources) = (inputs.max(input), sources.max(source));
            match batches.last_mut() {
                Some(batch) if (batch.len() + 1) * (inputs + sources) <= self.budget => batch.push(index),
                _ => {
                    (inputs, sources) = (input, source);
                    batches.push(vec![index]);
                }
            }
        }
        batches
    }

    /// Puts examples together.
    pub fn batch(&self, indices: &[u32]) -> Batch {
        let examples: Vec<&Example> = indices.iter().map(|&index| &self.examples[index as usize]).collect();
        Batch::of(&examples, self.pad)
    }

    /// The stream of batches from `cursor` on; it never ends.
    pub fn stream(&self, cursor: Cursor) -> Stream<'_> {
        Stream { batches: self, plan: self.plan(cursor.epoch), cursor }
    }
}

impl Batch {
    /// Puts examples together, padded with `pad`.
    pub fn of(examples: &[&Example], pad: u32) -> Self {
        let inputs: Vec<&[u32]> = examples.iter().map(|example| &example.input[..]).collect();
        let labels: Vec<&[u32]> = examples.iter().map(|example| &example.labels[..]).collect();
        let sources: Vec<&[u32]> = examples.iter().map(|example| &example.source[..]).collect();
        let source = sources.iter().any(|source| !source.is_empty()).then(|| Tokens::new(&sources, pad));
        let labels = Tokens::new(&labels, crate::batch::IGNORE).ids;
        Self { source, input: Tokens::new(&inputs, pad), labels }
    }
}

/// Batches, one after the other.
pub struct Stream<'b> {
    batches: &'b Batches,
    plan: Vec<Vec<u32>>,
    cursor: Cursor,
}

impl Stream<'_> {
    /// The next batch, by the indices of its examples.
    pub fn next_batch(&mut self) -> Vec<u32> {
        if self.cursor.batch >= self.plan.len() {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, batch: 0 };
            self.plan = self.batches.plan(self.cursor.epoch);
        }
        self.cursor.batch += 1;
        self.plan[self.cursor.batch - 1].clone()
    }

    /// Where the stream is.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::IGNORE;

    fn batches(seed: u64) -> Batches {
        let example = |i: usize| {
            let (source, input) = (vec![1; i * 7 % 23 + 1], vec![2; i * 5 % 31 + 1]);
            Example { source, labels: vec![3; input.len()], input }
        };
        Batches::new((0..500).map(example).collect(), 0, 256, seed)
    }

    #[test]
    fn every_example_comes_once_an_epoch_within_the_budget() {
        let batches = batches(1);
        for epoch in 0..3 {
            let plan = batches.plan(epoch);
            let mut all = plan.concat();
            all.sort();
            assert_eq!(all, (0..500).collect::<Vec<u32>>());
            for indices in &plan {
                let batch = batches.batch(indices);
                let source = batch.source.as_ref().unwrap();
                assert!(indices.len() * (source.width + batch.input.width) <= 256);
                assert_eq!(batch.labels.len(), batch.input.ids.len());
                let padding = batch.labels.iter().filter(|&&label| label == IGNORE).count();
                assert!(padding * 2 <= batch.labels.len(), "{padding} of {}", batch.labels.len());
            }
        }
    }

    #[test]
    fn seed_and_epoch_decide_the_order() {
        assert_eq!(batches(1).plan(3), batches(1).plan(3));
        assert_ne!(batches(1).plan(3), batches(1).plan(4));
        assert_ne!(batches(1).plan(3), batches(2).plan(3));
    }

    #[test]
    fn a_stream_goes_on_where_it_was() {
        let batches = batches(1);
        let mut stream = batches.stream(Cursor::default());
        let skipped = batches.plan(0).len() + 5;
        (0..skipped).for_each(|_| _ = stream.next_batch());
        let mut resumed = batches.stream(stream.cursor());
        (0..skipped).for_each(|_| assert_eq!(stream.next_batch(), resumed.next_batch()));
        assert!(stream.cursor().epoch >= 1);
    }
}
