//! Memory for maps, as vectors like it.

use std::ops::{Deref, DerefMut};

/// What caches hold together, in bytes, and what the longest vector holds. One that lies across two of these costs twice.
const LINE: usize = 64;

/// Zeros to be computed in, from the beginning of a cache line on.
#[derive(Default)]
pub(crate) struct Buffer<T> {
    cells: Vec<T>,
    first: usize,
}

impl<T: Copy + Default> Buffer<T> {
    /// `len` elements.
    pub(crate) fn new(len: usize) -> Self {
        let mut buffer = Self { cells: Vec::new(), first: 0 };
        buffer.grow(len);
        buffer
    }

    /// Makes it at least that long. Where it has to grow for that, it forgets what it held.
    pub(crate) fn grow(&mut self, len: usize) {
        if self.len() < len {
            self.cells = vec![T::default(); len + LINE / size_of::<T>()];
            self.first = self.cells.as_ptr().align_offset(LINE);
            self.cells.truncate(self.first + len);
        }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.cells[self.first..]
    }
}

impl<T> DerefMut for Buffer<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.cells[self.first..]
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn buffers_begin_with_a_cache_line_whatever_their_length() {
        let mut floats = Buffer::<f32>::default();
        assert!(floats.is_empty());
        for (asked, len) in [(0, 0), (1, 1), (15, 15), (17, 17), (1000, 1000), (5, 1000)] {
            floats.grow(asked);
            assert_eq!((floats.len(), floats.as_ptr().addr() % 64 * len), (len, 0));
            let bytes = Buffer::<u8>::new(asked);
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % 64 * asked), (asked, 0));
            assert!(bytes.iter().all(|&x| x == 0));
        }
    }
}
