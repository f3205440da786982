//! Texts of different lengths, one after the other.

use super::attention::Padding;
use crate::batch::Tokens;
use std::{ops::Range, sync::OnceLock};

/// Where each of some texts is among the rows of a packed tensor.
#[derive(Debug, Clone)]
pub struct Segments {
    /// The first row of each, and the number of all rows.
    bounds: Vec<usize>,
    /// How attention that is composed pads them: the same in all layers.
    pub(super) padding: OnceLock<Padding>,
}

impl Segments {
    /// Texts of these lengths.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut bounds = vec![0];
        for length in lengths {
            bounds.push(bounds[bounds.len() - 1] + length);
        }
        Self { bounds, padding: OnceLock::new() }
    }

    /// The rows of each text.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.bounds.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows.
    pub fn rows(&self) -> usize {
        self.bounds[self.len()]
    }

    /// Rows of the longest text.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }
}

impl Tokens {
    /// The ids without padding, and where each row's are.
    pub fn packed(&self) -> (Vec<u32>, Segments) {
        let rows = self.ids.chunks_exact(self.width.max(1)).zip(&self.lengths);
        let ids = rows.flat_map(|(row, &length)| &row[..length]).copied().collect();
        (ids, Segments::new(self.lengths.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_left_out() {
        let tokens = Tokens::new(&[&[1, 2, 3][..], &[4], &[], &[5, 6]], 9);
        let (ids, segments) = tokens.packed();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
        assert_eq!(segments.ranges().collect::<Vec<_>>(), [0..3, 3..4, 4..4, 4..6]);
        assert_eq!((segments.rows(), segments.longest(), segments.len()), (6, 3, 4));
    }
}
