//! Products of matrices in plain slices, on all threads.

use gemm::Parallelism;

/// A matrix in a slice: element (i, j) is at `i × row + j × column`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` numbers that are `stride` apart.
    pub fn new(data: &'a [f32], [rows, columns]: [usize; 2], stride: usize) -> Self {
        assert!(columns <= stride && (rows == 0 || (rows - 1) * stride + columns <= data.len()));
        Self { data, rows, columns, row: stride, column: 1 }
    }

    /// The transpose, in place.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }
}

/// `out = scale · a · b`, or `out += …`; rows of `out` are `stride` apart.
pub fn multiply(out: &mut [f32], stride: usize, add: bool, scale: f32, a: Matrix<'_>, b: Matrix<'_>) {
    product(out, stride, add, scale, a, b, Parallelism::Rayon(rayon::current_num_threads()));
}

/// `out = a · b`, or `out += …`, on this thread alone: for those who are one of many already.
pub fn multiply_alone(out: &mut [f32], stride: usize, add: bool, a: Matrix<'_>, b: Matrix<'_>) {
    product(out, stride, add, 1.0, a, b, Parallelism::None);
}

#[allow(unsafe_code)]
fn product(out: &mut [f32], stride: usize, add: bool, scale: f32, a: Matrix<'_>, b: Matrix<'_>, threads: Parallelism) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows);
    assert!(n <= stride && (m == 0 || (m - 1) * stride + n <= out.len()));
    // SAFETY: the assertions here and in `Matrix::new` say that each matrix lies within its slice, and `out` is
    // borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_scaled_and_added() {
        let a = [1.0, 2.0, 0.0, 3.0, 4.0, 0.0]; // [2][2] in rows of 3
        let b = [1.0, 0.0, 2.0, 0.0, 1.0, 1.0]; // [2][3]
        let (a, b) = (Matrix::new(&a, [2, 2], 3), Matrix::new(&b, [2, 3], 3));
        let mut out = [9.0; 8];
        multiply(&mut out, 4, false, 2.0, a, b);
        assert_eq!(out, [2.0, 4.0, 8.0, 9.0, 6.0, 8.0, 20.0, 9.0]);
        multiply(&mut out, 4, true, 1.0, a, b);
        assert_eq!(out, [3.0, 6.0, 12.0, 9.0, 9.0, 12.0, 30.0, 9.0]);
        multiply(&mut out, 4, false, 1.0, a.transposed(), b);
        assert_eq!(out, [1.0, 3.0, 5.0, 9.0, 2.0, 4.0, 8.0, 9.0]);
    }
}
