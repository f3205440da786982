//! Shapes, and tensors that borrow a file's bytes.

use crate::bytes::Bytes;
pub use crate::quant::DType;
use std::{ops::Range, sync::Arc};

/// A tensor in place: it shares the file's bytes and copies nothing.
///
/// `dims` are as GGUF writes them: `dims[0]` is the contiguous one (columns), `dims[1]` the rows.
#[derive(Clone)]
pub struct Tensor {
    bytes: Arc<Bytes>,
    range: Range<usize>,
    dtype: DType,
    dims: Vec<usize>,
}

impl Tensor {
    /// A tensor over `range` of `bytes`.
    ///
    /// # Panics
    /// If the range is outside `bytes` or not as long as `dtype` and `dims` ask for: readers check this beforehand.
    pub(crate) fn new(bytes: Arc<Bytes>, range: Range<usize>, dtype: DType, dims: Vec<usize>) -> Self {
        let tensor = Self { bytes, range, dtype, dims };
        let row = dtype.row_bytes(tensor.cols()).expect("whole blocks");
        assert_eq!(tensor.data().len(), row * tensor.rows());
        tensor
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions, contiguous one first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Elements in a row.
    pub fn cols(&self) -> usize {
        self.dims.first().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all dimensions but the first.
    pub fn rows(&self) -> usize {
        self.dims.iter().skip(1).product()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.cols() / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// The bytes, as they lie in the file.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    /// The bytes of the rows `rows`.
    pub fn row_data(&self, rows: Range<usize>) -> &[u8] {
        let n = self.row_bytes();
        &self.data()[rows.start * n..rows.end * n]
    }
}
