//! Matrix products of the size of a head: too small for packing, large enough to want registers.

use crate::loss::vector::{Group, LANES};

/// Rows and groups that are summed in registers.
const ROWS: usize = 4;
const GROUPS: usize = 2;

/// A matrix whose rows are padded to whole groups with zeros.
#[derive(Default)]
pub(super) struct Padded {
    groups: Vec<Group>,
    /// Groups of a row.
    pub(super) width: usize,
}

impl Padded {
    /// Makes it `[rows][columns]`, of zeros.
    pub(super) fn clear(&mut self, rows: usize, columns: usize) {
        self.width = columns.div_ceil(LANES);
        self.groups.clear();
        self.groups.resize(rows * self.width, [0.0; LANES]);
    }

    /// All numbers, in rows of `stride`.
    #[inline(always)]
    pub(super) fn flat(&self) -> &[f32] {
        self.groups.as_flattened()
    }

    #[inline(always)]
    pub(super) fn flat_mut(&mut self) -> &mut [f32] {
        self.groups.as_flattened_mut()
    }

    /// Numbers from a row to the next.
    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        self.width * LANES
    }

    /// Makes it the transpose of the first `columns` columns of `other`, which has `rows` rows.
    #[inline(always)]
    pub(super) fn transpose(&mut self, other: &Padded, rows: usize, columns: usize) {
        self.clear(columns, rows);
        let (from, to) = (other.stride(), self.stride());
        let out = self.groups.as_flattened_mut();
        for (row, numbers) in other.flat().chunks_exact(from).take(rows).enumerate() {
            for (column, &number) in numbers[..columns].iter().enumerate() {
                out[column * to + row] = number;
            }
        }
    }
}

/// The left side of a product: element (i, k) is at `i × row + k × column`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) data: &'a [f32],
    pub(super) row: usize,
    pub(super) column: usize,
}

/// `out += a · b` for `m` rows and `k` terms; `out` has the width of `b`.
///
/// The sums are fused multiply-adds: without such an instruction they would be slow, but no x86 processor with AVX2 and
/// no 64-bit ARM is.
#[inline(always)]
pub(super) fn add_product(out: &mut Padded, m: usize, k: usize, a: Left<'_>, b: &Padded) {
    assert!(out.width == b.width && out.groups.len() >= m * out.width && b.groups.len() >= k * b.width);
    let width = b.width;
    let mut i = 0;
    while i < m {
        let rows = ROWS.min(m - i);
        let mut j = 0;
        while j < width {
            let groups = GROUPS.min(width - j);
            match (rows == ROWS, groups == GROUPS) {
                (true, true) => tile::<ROWS, GROUPS>(out, k, a, b, i, j),
                (true, false) => tile::<ROWS, 1>(out, k, a, b, i, j),
                (false, _) => {
                    for i in i..i + rows {
                        match groups == GROUPS {
                            true => tile::<1, GROUPS>(out, k, a, b, i, j),
                            false => tile::<1, 1>(out, k, a, b, i, j),
                        }
                    }
                }
            }
            j += groups;
        }
        i += rows;
    }
}

#[inline(always)]
fn tile<const R: usize, const G: usize>(out: &mut Padded, k: usize, a: Left<'_>, b: &Padded, i: usize, j: usize) {
    let width = b.width;
    let mut sums = [[[0.0_f32; LANES]; G]; R];
    let rows: [&[f32]; R] = std::array::from_fn(|r| &a.data[(i + r) * a.row..]);
    for t in 0..k {
        let right: &[Group; G] = b.groups[t * width + j..][..G].try_into().expect("G groups");
        for r in 0..R {
            let left = rows[r][t * a.column];
            for g in 0..G {
                for lane in 0..LANES {
                    sums[r][g][lane] = left.mul_add(right[g][lane], sums[r][g][lane]);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let out = &mut out.groups[(i + r) * width + j..][..G];
        for (out, sum) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            *out += sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_sizes() {
        for (m, k, n) in [(1, 1, 1), (4, 3, 16), (5, 7, 33), (9, 16, 48), (3, 2, 20)] {
            let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
            let (mut b, mut out) = (Padded::default(), Padded::default());
            b.clear(k, n);
            let stride = b.stride();
            (0..k * n).for_each(|i| b.flat_mut()[i / n * stride + i % n] = (i as f32 * 0.53).cos());
            out.clear(m, n);
            out.flat_mut()[0] = 1.0;
            for (row, column) in [(k, 1), (1, m)] {
                add_product(&mut out, m, k, Left { data: &a, row, column }, &b);
            }
            for i in 0..m {
                for j in 0..n {
                    let sum =
                        |row, column| (0..k).map(|t| a[i * row + t * column] * b.flat()[t * stride + j]).sum::<f32>();
                    let expected = sum(k, 1) + sum(1, m) + if (i, j) == (0, 0) { 1.0 } else { 0.0 };
                    let found = out.flat()[i * stride + j];
                    assert!((found - expected).abs() < 1e-5, "{m}x{k}x{n} at {i}, {j}: {found}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn transposes() {
        let (mut a, mut b) = (Padded::default(), Padded::default());
        a.clear(3, 18);
        let stride = a.stride();
        (0..3 * 18).for_each(|i| a.flat_mut()[i / 18 * stride + i % 18] = i as f32);
        b.transpose(&a, 3, 18);
        assert_eq!((b.width, b.flat()[17 * 16 + 2], b.flat()[3]), (1, 53.0, 0.0));
    }
}
