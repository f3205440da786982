//! What goes through a network at once.

/// The label of a position that does not count: padding, or a part of the text that is given.
pub const IGNORE: u32 = u32::MAX;

/// Rows of token ids, padded at their ends to the length of the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// `[rows][width]`; what stands in the padding is a valid id and means nothing.
    pub ids: Vec<u32>,
    /// The length of the longest row.
    pub width: usize,
    /// The length of each row.
    pub lengths: Vec<usize>,
}

impl Tokens {
    /// Pads rows with `pad`.
    pub fn new<R: AsRef<[u32]>>(rows: &[R], pad: u32) -> Self {
        let lengths: Vec<_> = rows.iter().map(|row| row.as_ref().len()).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let mut ids = vec![pad; rows.len() * width];
        for (padded, row) in ids.chunks_exact_mut(width.max(1)).zip(rows) {
            padded[..row.as_ref().len()].copy_from_slice(row.as_ref());
        }
        Self { ids, width, lengths }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }
}

/// Examples that go through a student together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What an encoder reads; decoder-only students have none.
    pub source: Option<Tokens>,
    /// What the decoder reads.
    pub input: Tokens,
    /// `[rows][width]` of `input`: the token that should follow each position, or [`IGNORE`].
    pub labels: Vec<u32>,
}

impl Batch {
    /// Positions whose label counts, in order: row × width + column.
    pub fn valid(&self) -> Vec<u32> {
        (0..).zip(&self.labels).filter(|&(_, &label)| label != IGNORE).map(|(position, _)| position).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_the_longest() {
        let tokens = Tokens::new(&[&[1, 2, 3][..], &[4], &[]], 9);
        assert_eq!(tokens.ids, [1, 2, 3, 4, 9, 9, 9, 9, 9]);
        assert_eq!((tokens.width, tokens.rows()), (3, 3));
        assert_eq!(tokens.lengths, [3, 1, 0]);
        assert_eq!(Tokens::new::<&[u32]>(&[], 0).rows(), 0);
    }

    #[test]
    fn only_labels_that_count_are_valid() {
        let input = Tokens::new(&[&[1, 2][..], &[3]], 0);
        let batch = Batch { source: None, input, labels: vec![2, IGNORE, 4, IGNORE] };
        assert_eq!(batch.valid(), [0, 2]);
    }
}
