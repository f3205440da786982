//! How tensors will be stored in a student's file.

use crate::error::{Error, Result};
use pupil::tensor::DType;

/// Element types by what a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types {
    /// Of the layers' matrices.
    pub matrices: DType,
    /// Of the embeddings, and of the output where it is the same matrix.
    pub embeddings: DType,
    /// Of an output matrix of its own.
    pub output: DType,
}

/// What types of whole files are called.
const NAMED: [(&str, Types); 5] = [
    ("f32", Types::all(DType::F32)),
    ("f16", Types::all(DType::F16)),
    ("q8_0", Types::all(DType::Q8_0)),
    // What makes the logits suffers most.
    ("q4_0", Types { matrices: DType::Q4_0, embeddings: DType::Q8_0, output: DType::Q8_0 }),
    ("q4_k", Types { matrices: DType::Q4K, embeddings: DType::Q6K, output: DType::Q6K }),
];

impl Types {
    /// Those of a file that is called `name`, such as q8_0.
    ///
    /// # Errors
    /// `Input` for an unknown name.
    pub fn named(name: &str) -> Result<Self> {
        let named = NAMED.iter().find(|(known, _)| *known == name);
        named.map(|(_, types)| *types).ok_or_else(|| {
            let expected = NAMED.map(|(known, _)| known).join(", ");
            Error::input(format!("\"{name}\" is no type, expected one of {expected}"))
        })
    }

    /// The same for all matrices.
    pub const fn all(dtype: DType) -> Self {
        Self { matrices: dtype, embeddings: dtype, output: dtype }
    }

    /// The type of a tensor with these dimensions, columns last. Norms and relative biases stay f32. A type whose blocks
    /// do not divide the rows gives way: the K types to the smallest that is no worse in blocks of 32, and those to f16.
    pub fn of(&self, name: &str, dims: &[usize]) -> DType {
        let [_, columns] = *dims else { return DType::F32 };
        let wanted = match name {
            _ if name.ends_with("attn_rel_b.weight") => return DType::F32,
            "token_embd.weight" => self.embeddings,
            "output.weight" => self.output,
            _ => self.matrices,
        };
        let smaller = match wanted {
            DType::Q4K => DType::Q5_0,
            DType::Q6K => DType::Q8_0,
            other => other,
        };
        let fits = |dtype: &DType| dtype.row_bytes(columns).is_some();
        [wanted, smaller].into_iter().find(fits).unwrap_or(DType::F16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        let types = Types { matrices: DType::Q4K, embeddings: DType::Q6K, output: DType::Q8_0 };
        for (name, dims, expected) in [
            ("blk.0.attn_q.weight", &[4, 512][..], DType::Q4K),
            ("blk.0.attn_q.weight", &[4, 288], DType::Q5_0),
            ("blk.0.attn_q.weight", &[4, 40], DType::F16),
            ("token_embd.weight", &[4, 288], DType::Q8_0),
            ("output.weight", &[4, 288], DType::Q8_0),
            ("output.weight", &[4, 280], DType::F16),
            ("output_norm.weight", &[256], DType::F32),
            ("enc.blk.0.attn_rel_b.weight", &[32, 256], DType::F32),
        ] {
            assert_eq!(types.of(name, dims), expected, "{name} {dims:?}");
        }
    }
}
