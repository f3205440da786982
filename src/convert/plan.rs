//! What becomes of each tensor: its name, its type, and its values in small pieces.

use super::checkpoint::{Checkpoint, Stored};
use crate::error::{Error, Result};
use crate::quant::{self, Mix};
use crate::tensor::DType;

/// Elements that are converted at once, if rows are not longer.
const PIECE: usize = 1 << 18;

/// Collects the tensors of the file to be.
pub(super) struct Plan {
    checkpoint: Checkpoint,
    mix: Mix,
    tensors: Vec<Planned>,
    fallbacks: Vec<(String, String)>,
}

/// A tensor of the file to be.
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) dtype: DType,
    /// Contiguous dimension first.
    pub(super) dims: Vec<usize>,
    values: Values,
}

enum Values {
    Given(Vec<f32>),
    Stored { tensor: Stored, rows: Rows, scale: f32 },
}

/// In which order the rows of a matrix go.
#[derive(Clone, Copy)]
pub(super) enum Rows {
    AsTheyAre,
    /// In each head of this many rows, those that rotate together become neighbours: Hugging Face has them in two
    /// halves, the architecture `llama` side by side.
    Pairs(usize),
}

impl Rows {
    /// The row of the checkpoint that becomes row `i`.
    fn source(self, i: usize) -> usize {
        match self {
            Self::AsTheyAre => i,
            Self::Pairs(head) => {
                let within = i % head;
                i - within + (within % 2) * (head / 2) + within / 2
            }
        }
    }
}

/// Where a matrix stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its layer, and how many there are in the stack.
    pub(super) layer: (usize, usize),
    pub(super) rows: Rows,
    /// What its values are multiplied with.
    pub(super) scale: f32,
    /// Whether it computes the logits, as the embeddings may.
    pub(super) logits: bool,
}

impl Place {
    pub(super) const TOP: Self = Self { layer: (0, 1), rows: Rows::AsTheyAre, scale: 1.0, logits: false };
}

impl Plan {
    pub(super) fn new(checkpoint: Checkpoint, mix: Mix) -> Self {
        Self { checkpoint, mix, tensors: Vec::new(), fallbacks: Vec::new() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.checkpoint.has(name)
    }

    /// Whether two tensors of the checkpoint hold the same.
    pub(super) fn same(&mut self, a: &str, b: &str, shape: &[usize]) -> Result<bool> {
        let (a, b) = (self.checkpoint.take(a, shape)?, self.checkpoint.take(b, shape)?);
        Ok(a.dtype() == b.dtype() && a.data() == b.data())
    }

    pub(super) fn skip(&mut self, fine: impl Fn(&str) -> bool) {
        self.checkpoint.skip(fine);
    }

    /// The matrix `from` with `cols` inputs and `rows` outputs, as `to`.
    pub(super) fn matrix(&mut self, from: &str, to: &str, [cols, rows]: [usize; 2], place: Place) -> Result<()> {
        let tensor = self.checkpoint.take(from, &[rows, cols])?;
        let name = to.strip_suffix(".weight").unwrap_or(to);
        let part = if place.logits { "output" } else { name.rsplit('.').next().unwrap_or(name) };
        let (layer, layers) = place.layer;
        let (dtype, wanted) = self.mix.dtype(part, layer, layers, cols);
        if dtype != wanted {
            let why = format!("{dtype}, as rows of {cols} are no whole blocks of {wanted}");
            self.fallbacks.push((to.into(), why));
        }
        let values = Values::Stored { tensor, rows: place.rows, scale: place.scale };
        self.tensors.push(Planned { name: to.into(), dtype, dims: vec![cols, rows], values });
        Ok(())
    }

    /// The tensor `from` of `shape` (contiguous dimension last) as it is, in f32: norms, biases, small tables.
    pub(super) fn numbers(&mut self, from: &str, to: &str, shape: &[usize], rows: Rows) -> Result<()> {
        let tensor = self.checkpoint.take(from, shape)?;
        // A bias has one row an element.
        let values = Values::Stored { tensor, rows, scale: 1.0 };
        let dims = shape.iter().rev().copied().collect();
        self.tensors.push(Planned { name: to.into(), dtype: DType::F32, dims, values });
        Ok(())
    }

    /// A vector that is in no checkpoint.
    pub(super) fn given(&mut self, to: &str, values: Vec<f32>) {
        let (dims, values) = (vec![values.len()], Values::Given(values));
        self.tensors.push(Planned { name: to.into(), dtype: DType::F32, dims, values });
    }

    /// The tensors, and those that could not have the type asked for.
    ///
    /// # Errors
    /// As [`Checkpoint::finish`].
    pub(super) fn finish(self) -> Result<(Vec<Planned>, Vec<(String, String)>)> {
        self.checkpoint.finish()?;
        Ok((self.tensors, self.fallbacks))
    }
}

impl Planned {
    /// Elements of a row, and rows. A vector is a column where its rows change places.
    fn shape(&self) -> (usize, usize) {
        match self.values {
            Values::Stored { rows: Rows::Pairs(_), .. } if self.dims.len() == 1 => (1, self.dims[0]),
            _ => (self.dims[0], self.dims[1..].iter().product()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let rows: usize = self.dims[1..].iter().product();
        self.dtype.row_bytes(self.dims[0]).unwrap_or(0) * rows
    }

    fn rows_in_piece(&self) -> usize {
        (PIECE / self.shape().0.max(1)).max(1)
    }

    pub(super) fn pieces(&self) -> usize {
        self.shape().1.div_ceil(self.rows_in_piece())
    }

    /// The bytes of piece `i`.
    ///
    /// # Errors
    /// `Input` for values that the type cannot hold.
    pub(super) fn piece(&self, i: usize) -> Result<Vec<u8>> {
        let (cols, rows) = self.shape();
        let step = self.rows_in_piece();
        let range = i * step..rows.min((i + 1) * step);
        let values = match &self.values {
            Values::Given(values) => values[range.start * cols..range.end * cols].to_vec(),
            Values::Stored { tensor, rows, scale } => {
                let row_bytes = cols * tensor.dtype().block_bytes();
                let mut values = vec![0.0; range.len() * cols];
                for (i, out) in range.clone().zip(values.chunks_exact_mut(cols)) {
                    let at = rows.source(i) * row_bytes;
                    quant::dequantize(tensor.dtype(), &tensor.data()[at..at + row_bytes], out);
                }
                if *scale != 1.0 {
                    values.iter_mut().for_each(|v| *v *= scale);
                }
                values
            }
        };
        let place = |at: usize| format!("row {}, column {}", range.start + at / cols, at % cols);
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::input(format!("{} is {}, expected a finite number", place(at), values[at])));
        }
        let limit = half::f16::MAX.to_f32();
        if self.dtype != DType::F32
            && let Some(at) = values.iter().position(|v| v.abs() > limit)
        {
            let (place, value, dtype) = (place(at), values[at], self.dtype);
            return Err(Error::input(format!("{place} is {value}: {dtype} holds up to {limit}; f32 holds more")));
        }
        quant::quantize(self.dtype, &values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_pairs() {
        let order: Vec<usize> = (0..12).map(|i| Rows::Pairs(6).source(i)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
