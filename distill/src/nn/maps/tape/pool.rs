//! Memory that is used again. A step of training takes and gives back the same sizes as the one before; to ask the system
//! for them each time would cost as much as some of the operations, since it hands out pages of zeros.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Lists that nobody uses now, by their length.
#[derive(Debug, Default)]
pub struct Pool(Mutex<BTreeMap<usize, Vec<Vec<f32>>>>);

impl Pool {
    /// A list of any numbers: those that were left in it.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Lent {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&length).and_then(Vec::pop);
        Lent { numbers: kept.unwrap_or_else(|| vec![0.0; length]), pool: self.clone() }
    }
}

/// A list out of a pool, to which it goes back in the end.
#[derive(Debug)]
pub(super) struct Lent {
    numbers: Vec<f32>,
    pool: Arc<Pool>,
}

impl Clone for Lent {
    fn clone(&self) -> Self {
        let mut copy = self.pool.take(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        let mut lists = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.entry(numbers.len()).or_default().push(numbers);
    }
}

impl Deref for Lent {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back() {
        let pool = Arc::new(Pool::default());
        let mut list = pool.take(3);
        list[1] = 7.0;
        let other = list.clone();
        drop(list);
        assert_eq!(other[..], [0.0, 7.0, 0.0]);
        assert_eq!(pool.take(3)[1], 7.0);
        assert_eq!(pool.take(2)[..], [0.0; 2]);
        assert_eq!(pool.take(3).len(), 3);
    }
}
