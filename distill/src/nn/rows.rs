//! Rows of a tensor by index. candle's own gradient of this adds row after row on one thread a column where the device is
//! a graphics card; here it is picked by index, too: rows that were taken several times are summed in pairs, and these
//! sums again, until there is one for each.

use super::by_hand::of_one;
use candle_core::{Device, Result, Tensor};
use std::sync::Arc;

/// Which rows of a tensor another one is made of.
#[derive(Debug)]
pub(crate) struct Rows {
    ids: Tensor,
    /// Rounds of sums of two rows of the gradient.
    sums: Vec<[Tensor; 2]>,
    /// The row of the last sums for each row of the tensor.
    back: Tensor,
}

/// A row of zeros. It is candle's number for this.
pub(crate) const NONE: u32 = u32::MAX;

impl Rows {
    /// The rows `ids`, or [`NONE`], of tensors of `rows` rows.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Panics
    /// If an id is not below `rows`.
    pub(crate) fn new(ids: &[u32], rows: usize, device: &Device) -> Result<Arc<Self>> {
        let mut places: Vec<(u32, u32)> = ids.iter().copied().zip(0..).filter(|&(id, _)| id != NONE).collect();
        places.sort_unstable();
        let mut sums = Vec::new();
        while places.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            let pairs = places.chunk_by(|a, b| a.0 == b.0).flat_map(|same| same.chunks(2));
            let pairs: Vec<(u32, [u32; 2])> =
                pairs.map(|pair| (pair[0].0, [pair[0].1, pair.get(1).map_or(NONE, |second| second.1)])).collect();
            let side = |side: usize| Tensor::from_iter(pairs.iter().map(|(_, pair)| pair[side]), device);
            sums.push([side(0)?, side(1)?]);
            places = pairs.iter().map(|&(id, _)| id).zip(0..).collect();
        }
        let mut back = vec![NONE; rows];
        places.into_iter().for_each(|(id, place)| back[id as usize] = place);
        Ok(Arc::new(Self { ids: Tensor::new(ids, device)?, sums, back: Tensor::new(back, device)? }))
    }

    /// The rows of `[rows, width]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub(crate) fn of(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        let rows = self.clone();
        of_one(
            x,
            |x| x.contiguous()?.index_select(&self.ids, 0),
            move |_, _, gradient| {
                let mut gradient = gradient.contiguous()?;
                for [a, b] in &rows.sums {
                    gradient = (gradient.index_select(a, 0)? + gradient.index_select(b, 0)?)?;
                }
                gradient.index_select(&rows.back, 0)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients_add_up_where_a_row_repeats() {
        for ids in [&[2, 0, 2, 3, 2, 2, 2, 0, NONE][..], &[4, 1, 0], &[NONE, 3], &[1; 9]] {
            let plain = |t: &[Tensor]| t[0].index_select(&Tensor::new(ids, t[0].device())?, 0);
            let rows = Rows::new(ids, 5, &Device::Cpu).unwrap();
            check(Case::new(&[&[5, 3]]), plain, |t| rows.of(&t[0]));
        }
    }
}
