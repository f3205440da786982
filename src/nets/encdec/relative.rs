//! Relative positions: a learned bias for each head and bucket of distances (Raffel et al. 2020, section 2.1).

use crate::nets::attention::Bias;

/// Distances from here on share the last bucket. No file says otherwise.
const MAX_DISTANCE: usize = 128;

/// A layer's biases as the file has them.
pub(super) struct Relative {
    /// `[buckets][heads]`
    pub(super) weights: Vec<f32>,
    pub(super) heads: usize,
    pub(super) buckets: usize,
    /// Whether keys after the query count too, as in the encoder.
    pub(super) both: bool,
}

/// The biases of all distances between positions below a limit.
#[derive(Default)]
pub(super) struct Table {
    /// `[heads][stride]`
    values: Vec<f32>,
    stride: usize,
    /// Positions that the table reaches.
    positions: usize,
}

impl Relative {
    /// Lays `table` out for at least `positions` positions, unless it is already.
    pub(super) fn reach(&self, positions: usize, table: &mut Table) {
        if positions <= table.positions {
            return;
        }
        let positions = positions.next_power_of_two();
        let after = if self.both { positions } else { 1 };
        *table = Table {
            values: Vec::with_capacity(self.heads * (positions + after)),
            stride: positions + after,
            positions,
        };
        let buckets: Vec<usize> = (0..positions + after).map(|i| self.bucket(i, positions)).collect();
        for head in 0..self.heads {
            table.values.extend(buckets.iter().map(|bucket| self.weights[bucket * self.heads + head]));
        }
    }

    /// The bucket of a key at `key` and a query at `query`. In single precision and in this order of operations, as
    /// the models were trained: some distances lie right at the border of two buckets.
    fn bucket(&self, key: usize, query: usize) -> usize {
        let buckets = if self.both { self.buckets / 2 } else { self.buckets };
        let first = if self.both && key > query { buckets } else { 0 };
        let distance = if self.both { key.abs_diff(query) } else { query.saturating_sub(key) };
        let exact = buckets / 2;
        if distance < exact {
            return first + distance;
        }
        let octaves = (MAX_DISTANCE as f64 / exact as f64).ln() as f32;
        let beyond = (distance as f32 / exact as f32).ln() / octaves * (buckets - exact) as f32;
        first + (exact + beyond as usize).min(buckets - 1)
    }
}

impl Table {
    pub(super) fn bias(&self) -> Bias<'_> {
        Bias { table: &self.values, stride: self.stride, zero: self.positions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of distances -130, -129, …, 130, from `T5Attention._relative_position_bucket` of transformers, by
    /// `tests/vectors/t5.py`.
    #[test]
    fn buckets_are_those_of_transformers() {
        let expected = include_str!("../../../tests/vectors/t5-buckets.txt");
        for (line, both) in expected.lines().zip([true, false]) {
            let relative = Relative { weights: vec![], heads: 1, buckets: 32, both };
            let buckets: Vec<usize> = (0..=260).map(|key| relative.bucket(key, 130)).collect();
            let expected: Vec<usize> = line.split(' ').map(|bucket| bucket.parse().unwrap()).collect();
            assert_eq!(buckets, expected, "both: {both}");
        }
    }

    #[test]
    fn a_table_has_the_bias_of_every_distance() {
        let weights = (0..32 * 3).map(|i| i as f32).collect();
        let relative = Relative { weights, heads: 3, buckets: 32, both: true };
        let mut table = Table::default();
        relative.reach(20, &mut table);
        for (head, query, key) in [(0, 0, 0), (2, 19, 0), (1, 0, 19), (2, 7, 11)] {
            let Bias { table, stride, zero } = table.bias();
            let bias = table[head * stride + zero + key - query];
            assert_eq!(bias, (relative.bucket(key, query) * 3 + head) as f32);
        }
    }
}
