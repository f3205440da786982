//! The rows of a map that an output row meets, in the order that the inner loops want.

use crate::kernels::buffer::Buffer;
use crate::kernels::conv::Sweep;

/// The last few rows that were needed.
#[derive(Default)]
pub(crate) struct Rows<T> {
    /// Which row of the map each slot holds.
    held: Vec<usize>,
    /// Slot after slot; the last one stands for what is outside of the map.
    cells: Buffer<T>,
    /// Cells of a slot.
    slot: usize,
    /// The slots that an output row meets, by row of the kernel.
    met: Vec<usize>,
}

const NO_ROW: usize = usize::MAX;

impl<T: Copy + Default> Rows<T> {
    /// Forgets all rows, and makes room for those that a kernel spans, of `slot` cells each.
    pub(super) fn reset(&mut self, sweep: &Sweep, slot: usize, outside: T) {
        let slots = (sweep.kernel[0] - 1) * sweep.dilation[0] + 1;
        self.slot = slot;
        self.held.clear();
        self.held.resize(slots, NO_ROW);
        self.cells.grow((slots + 1) * slot);
        self.cells[slots * slot..][..slot].fill(outside);
        self.met.resize(sweep.kernel[0], 0);
    }

    /// Finds the row that row `ky` of the kernel meets for the output row `y`. If it is none of the last ones, returns
    /// which one it is, and the cells to fill with it.
    #[inline(always)]
    pub(super) fn meet(&mut self, sweep: &Sweep, y: usize, ky: usize) -> Option<(usize, &mut [T])> {
        let slots = self.held.len();
        let row = sweep.at(0, y, ky);
        let slot = row.map_or(slots, |row| row % slots);
        self.met[ky] = slot;
        let row = row.filter(|&row| self.held[slot] != row)?;
        self.held[slot] = row;
        Some((row, &mut self.cells[slot * self.slot..][..self.slot]))
    }

    /// What row `ky` of the kernel meets.
    #[inline(always)]
    pub(super) fn met(&self, ky: usize) -> &[T] {
        &self.cells[self.met[ky] * self.slot..][..self.slot]
    }
}
