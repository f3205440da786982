//! Matrix products of the size of a head: too small for packing, large enough to want registers.

use crate::loss::vector::{Group, LANES};
use pulp::Simd;

/// Rows, and vectors of each, that are summed in registers.
const ROWS: usize = 4;
const VECTORS: usize = 2;

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
/// The sums are of vectors by name. As loops over numbers they are left in memory, number by number, by compilers that
/// unroll the numbers of a vector before the vectors.
#[inline(always)]
pub(super) fn add_product<S: Simd>(simd: S, out: &mut Padded, m: usize, k: usize, a: Left<'_>, b: &Padded) {
    assert!(out.width == b.width && out.groups.len() >= m * out.width && b.groups.len() >= k * b.width);
    // A group is one vector or several.
    let width = b.stride() / S::F32_LANES;
    let (out, b) = (S::as_mut_simd_f32s(out.flat_mut()).0, S::as_simd_f32s(b.flat()).0);
    let mut product = Product { simd, out, a, b, width, k };
    let mut i = 0;
    while i < m {
        let rows = ROWS.min(m - i);
        let mut j = 0;
        while j < width {
            let vectors = VECTORS.min(width - j);
            match (rows == ROWS, vectors == VECTORS) {
                (true, true) => product.tile::<ROWS, VECTORS>(i, j),
                (true, false) => product.tile::<ROWS, 1>(i, j),
                (false, true) => (i..i + rows).for_each(|i| product.tile::<1, VECTORS>(i, j)),
                (false, false) => (i..i + rows).for_each(|i| product.tile::<1, 1>(i, j)),
            }
            j += if vectors == VECTORS { VECTORS } else { 1 };
        }
        i += rows;
    }
}

struct Product<'a, S: Simd> {
    simd: S,
    out: &'a mut [S::f32s],
    a: Left<'a>,
    b: &'a [S::f32s],
    /// Vectors of a row of `out` and of `b`.
    width: usize,
    k: usize,
}

impl<S: Simd> Product<'_, S> {
    /// `R` rows from `i` on of `V` vectors from `j` on.
    #[inline(always)]
    fn tile<const R: usize, const V: usize>(&mut self, i: usize, j: usize) {
        let Self { simd, a, b, width, k, .. } = *self;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for t in 0..k {
            let right: &[_; V] = b[t * width + j..][..V].try_into().expect("V vectors");
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = simd.splat_f32s(a.data[(i + r) * a.row + t * a.column]);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = simd.mul_add_f32s(left, *right, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (out, sum) in self.out[(i + r) * width + j..][..V].iter_mut().zip(sums) {
                *out = simd.add_f32s(*out, *sum);
            }
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
                add_product(pulp::Scalar, &mut out, m, k, Left { data: &a, row, column }, &b);
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
