//! Loss and gradients in one pass on the CPU.
//!
//! Logits are made for a few positions at a time, turned into their own gradient in place, and multiplied back into the
//! gradients of hidden states and output matrix. Only those few rows of `[n, vocab]` ever exist.

use super::{
    Lost, Objective,
    matmul::{Matrix, multiply},
    row::{Expected, Row, Scratch, groups},
    vector::{Group, LANES},
};
use crate::nn::vectorised;
use rayon::prelude::*;

/// Hidden states `[n][width]` and the matrix `[vocab][width]` that makes scaled logits of them.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub hidden: &'a [f32],
    pub weight: &'a [f32],
    pub width: usize,
    pub scale: f32,
}

impl Product<'_> {
    /// Logits of positions `start..start + n`, in rows of `stride`.
    fn logits(&self, start: usize, n: usize, vocab: usize, stride: usize, out: &mut [f32]) {
        let hidden = Matrix::new(&self.hidden[start * self.width..], [n, self.width], self.width);
        let weight = Matrix::new(self.weight, [vocab, self.width], self.width);
        multiply(out, stride, false, self.scale, hidden, weight.transposed());
    }
}

/// What the teacher expects, in plain slices.
#[derive(Clone, Copy)]
pub enum Teacher<'a> {
    /// `[n][vocab]`
    Logits(&'a [f32]),
    Product(Product<'a>),
    /// `[n][k]`, sorted by id in each row.
    Few(&'a [(u32, f32)], usize),
}

/// The gradients of the loss.
#[derive(Default)]
pub struct Gradients {
    /// `[n][width]`
    pub hidden: Vec<f32>,
    /// `[vocab][width]`
    pub weight: Vec<f32>,
}

/// Numbers in the rows that are worked on together: few enough to stay near the caches, enough rows for products to be
/// worth their packing.
const CHUNK: usize = 4 << 20;

/// Positions that are worked on together.
pub fn chunk(vocab: usize) -> usize {
    (CHUNK / vocab.max(1)).clamp(32, 512)
}

/// Losses, summed over all positions, and the gradients of what is `wanted`: of hidden states, of the matrix.
pub fn run(
    student: Product<'_>,
    labels: &[u32],
    vocab: usize,
    teacher: Option<Teacher<'_>>,
    objective: &Objective,
    wanted: [bool; 2],
    chunk: usize,
) -> (Lost, Gradients) {
    let (n, width) = (labels.len(), student.width);
    let groups = groups(vocab);
    let stride = groups * LANES;
    let row = Row { objective, vocab };
    let mut gradients = Gradients {
        hidden: vec![0.0; if wanted[0] { n * width } else { 0 }],
        weight: vec![0.0; if wanted[1] { vocab * width } else { 0 }],
    };
    let mut z: Vec<Group> = vec![[0.0; LANES]; chunk.min(n) * groups];
    let dense = matches!(teacher, Some(Teacher::Logits(_) | Teacher::Product(_)));
    let mut theirs: Vec<Group> = vec![[0.0; LANES]; if dense { z.len() } else { 0 }];
    let mut total = Lost::default();
    for start in (0..n).step_by(chunk) {
        let rows = chunk.min(n - start);
        let z = &mut z[..rows * groups];
        student.logits(start, rows, vocab, stride, z.as_flattened_mut());
        match teacher {
            Some(Teacher::Product(product)) => {
                product.logits(start, rows, vocab, stride, theirs.as_flattened_mut());
            }
            Some(Teacher::Logits(logits)) => {
                let rows = logits[start * vocab..][..rows * vocab].chunks_exact(vocab);
                for (out, logits) in theirs.as_flattened_mut().chunks_exact_mut(stride).zip(rows) {
                    out[..vocab].copy_from_slice(logits);
                }
            }
            _ => {}
        }
        for theirs in theirs.as_flattened_mut().chunks_exact_mut(stride) {
            theirs[vocab..].fill(super::row::NOTHING);
        }

        let run = |scratch: &mut Scratch, (i, z): (usize, &mut [Group])| {
            let expected = match teacher {
                Some(Teacher::Few(few, k)) => Some(Expected::Few(&few[(start + i) * k..][..k])),
                Some(_) => Some(Expected::Logits(&theirs[i * groups..][..groups])),
                None => None,
            };
            vectorised(
                #[inline(always)]
                || row.run(z, labels[start + i], expected, scratch),
            )
        };
        let lost: Vec<Lost> = z.par_chunks_exact_mut(groups).enumerate().map_init(Scratch::default, run).collect();
        for lost in lost {
            total += lost;
        }

        let z = Matrix::new(z.as_flattened(), [rows, vocab], stride);
        if wanted[0] {
            let out = &mut gradients.hidden[start * width..][..rows * width];
            multiply(out, width, false, student.scale, z, Matrix::new(student.weight, [vocab, width], width));
        }
        if wanted[1] {
            let hidden = Matrix::new(&student.hidden[start * width..], [rows, width], width);
            multiply(&mut gradients.weight, width, true, student.scale, z.transposed(), hidden);
        }
    }
    (total, gradients)
}
