//! Rows of a table.

use super::{fused, numbers, rows::Rows, tensor, with_numbers};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// The rows `ids` of a table `[rows, width]`: `[n, width]`.
///
/// # Errors
/// If an id is outside of the table.
pub fn embedding(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let rows = table.dim(0)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        bail!("token {id} is outside of the vocabulary of {rows}");
    }
    if fused(&[table]) {
        return table.apply_op1(Embedding { ids: ids.to_vec() });
    }
    composed(table, ids)
}

fn composed(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    Rows::new(ids, table.dim(0)?, table.device())?.of(table)
}

struct Embedding {
    ids: Vec<u32>,
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let table = numbers(table, layout)?;
        let mut out = Vec::with_capacity(self.ids.len() * width);
        self.ids.iter().for_each(|&id| out.extend_from_slice(&table[id as usize * width..][..width]));
        Ok((CpuStorage::F32(out), Shape::from((self.ids.len(), width))))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = table.dim(1)?;
        let sums = with_numbers([gradient], |[gradient]| {
            let mut sums = vec![0.0; table.elem_count()];
            for (&id, gradient) in self.ids.iter().zip(gradient.chunks_exact(width)) {
                sums[id as usize * width..][..width].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }
            sums
        })?;
        tensor(sums, table).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients_add_up_where_an_id_repeats() {
        let ids = [2, 0, 2, 3, 2];
        check(Case::new(&[&[5, 3]]), |t| embedding(&t[0], &ids), |t| composed(&t[0], &ids));
    }

    #[test]
    fn ids_outside_of_the_table_are_refused() {
        let table = Tensor::zeros((4, 2), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        assert!(embedding(&table, &[1, 4]).unwrap_err().to_string().contains("token 4"));
    }
}
