//! What a student is trained to make small.
//!
//! `L = α · L_CE + (1 − α) · L_KD`, both summed over the valid tokens of a batch and divided by those of the whole
//! accumulated batch (Hinton et al. 2015). Without a teacher, `L = L_CE`.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use pupil_distill::loss::{Divergence, Objective, Soft, loss};
//!
//! let hidden = Var::from_tensor(&Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?)?;
//! let output = Var::from_tensor(&Tensor::ones((3, 4), candle_core::DType::F32, &Device::Cpu)?)?;
//! let teacher = Soft::Dense(Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?);
//! let objective = Objective { tokens: 2, ..Objective::default() };
//! let (loss, lost) = loss(&hidden, (&output, 1.0), &[0, 2], Some(&teacher), &objective)?;
//! let gradients = loss.backward()?; // of `hidden` and `output`
//! assert!((lost.cross_entropy / lost.tokens as f64 - 3_f64.ln()).abs() < 1e-6);
//! # assert!(gradients.get(&output).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! On the CPU, `fused.rs` never holds more than a few rows of `[n, vocab]`, and `row.rs` is where losses and gradients of
//! one position are; on other devices, `composed.rs` is made of candle's operations.

mod composed;
mod fused;
pub(crate) mod matmul;
mod row;
#[cfg(test)]
mod tests;
pub(crate) mod vector;

use crate::nn::by_hand::Known;
use crate::{
    batch::IGNORE,
    error::{Error, Result},
};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Layout, Shape, Storage, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// How far the student's distribution is from the teacher's; both at temperature T, and times T² so that gradients keep
/// their size. Recipes spell them `"forward-kl"`, `{ skewed-reverse-kl = 0.9 }`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// `KL(teacher ‖ student)`.
    #[default]
    ForwardKl,
    /// `KL(student ‖ teacher)`. It needs all of the teacher's probabilities.
    ReverseKl,
    /// `β KL(teacher ‖ m) + (1 − β) KL(student ‖ m)` with `m = β teacher + (1 − β) student` (GKD, ICLR 2024).
    JensenShannon(f64),
    /// `KL(teacher ‖ λ teacher + (1 − λ) student)`: DistiLLM's (ICML 2024) for λ = 0.1.
    SkewedForwardKl(f64),
    /// `KL(student ‖ λ teacher + (1 − λ) student)`: DistiLLM's for λ = 0.9, which is the teacher's part here, too.
    SkewedReverseKl(f64),
    /// Half of the sum of the absolute differences.
    TotalVariation,
}

/// What the loss weighs, for one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// The part of cross-entropy with the labels, 0 to 1.
    pub alpha: f64,
    /// Of the other part.
    pub divergence: Divergence,
    /// Temperature of the other part, above 0.
    pub temperature: f64,
    /// Of the labels, 0 to 1: how much of each is spread over the vocabulary.
    pub label_smoothing: f64,
    /// What sums are divided by: the valid tokens of the whole accumulated batch.
    pub tokens: usize,
}

impl Default for Objective {
    /// Half and half, forward KL at temperature 2, no smoothing.
    fn default() -> Self {
        Self { alpha: 0.5, divergence: Divergence::ForwardKl, temperature: 2.0, label_smoothing: 0.0, tokens: 1 }
    }
}

impl Divergence {
    /// # Errors
    /// `Input` for a number that is not between 0 and 1.
    pub fn check(self) -> Result<()> {
        let (name, number) = match self {
            Self::ForwardKl | Self::ReverseKl | Self::TotalVariation => return Ok(()),
            Self::JensenShannon(beta) => ("beta", beta),
            Self::SkewedForwardKl(lambda) | Self::SkewedReverseKl(lambda) => ("lambda", lambda),
        };
        match number > 0.0 && number < 1.0 {
            true => Ok(()),
            false => Err(Error::input(format!("{name} is {number}, expected more than 0 and less than 1"))),
        }
    }
}

impl Objective {
    /// # Errors
    /// `Input` for a number that makes no sense.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, expected: &str, good: bool| match good {
            true => Ok(()),
            false => Err(Error::input(format!("{name} is {value}, expected {expected}"))),
        };
        let Self { alpha, divergence, temperature, label_smoothing, tokens } = *self;
        within("alpha", alpha, "0 to 1", (0.0..=1.0).contains(&alpha))?;
        within("temperature", temperature, "0.01 to 100", (0.01..=100.0).contains(&temperature))?;
        within("label smoothing", label_smoothing, "0 to less than 1", (0.0..1.0).contains(&label_smoothing))?;
        within("the number of tokens", tokens as f64, "at least 1", tokens > 0)?;
        divergence.check()
    }
}

/// What the teacher expects at each of n positions.
#[derive(Debug, Clone)]
pub enum Soft {
    /// Its logits, `[n, vocab]`.
    Dense(Tensor),
    /// What makes its logits, a few rows at a time: `scale · hidden · weightᵀ`.
    Hidden {
        /// `[n, width]`
        hidden: Tensor,
        /// `[vocab, width]`
        weight: Tensor,
        /// Of the logits.
        scale: f64,
    },
    /// A few of its probabilities at the objective's temperature.
    Sparse(Sparse),
}

/// Probabilities of the likeliest tokens and of a sample of the others, `k` a position; what is left is spread as the
/// sample stands for the tail (Sparse Logit Sampling, ACL 2025).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sparse {
    /// Tokens a position.
    pub k: usize,
    /// `[n][k]`; what stands several times in a row counts as often.
    pub ids: Vec<u32>,
    /// `[n][k]`: target probabilities; those of a position sum to 1.
    pub probabilities: Vec<f32>,
}

/// What a batch lost: sums over its valid positions, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lost {
    /// Valid positions.
    pub tokens: usize,
    /// Cross-entropy with the labels, with their smoothing.
    pub cross_entropy: f64,
    /// The divergence from the teacher, times T².
    pub divergence: f64,
    /// Positions whose label is the student's likeliest token.
    pub correct: usize,
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.cross_entropy += other.cross_entropy;
        self.divergence += other.divergence;
        self.correct += other.correct;
    }
}

/// The loss, a scalar whose gradients reach `hidden` and the output matrix, and what it is made of.
///
/// `hidden` is `[n, width]`, of the valid positions; `output` is [`Student::output`](crate::student::Student::output);
/// `labels` are those of the positions, with or without the [`IGNORE`] between them. A loss that is not finite is
/// returned as it is.
///
/// # Errors
/// `Input` for shapes, labels or numbers that do not fit.
pub fn loss(
    hidden: &Tensor,
    output: (&Tensor, f64),
    labels: &[u32],
    teacher: Option<&Soft>,
    objective: &Objective,
) -> Result<(Tensor, Lost)> {
    let labels = valid(labels);
    let vocab = check(hidden, output.0, &labels, teacher, objective)?;
    let (hidden, weight) = (hidden.to_dtype(DType::F32)?, output.0.to_dtype(DType::F32)?);
    let wanted = [&hidden, &weight].map(|tensor| tensor.track_op());
    let Solved { loss, lost, hidden: of_hidden, weight: of_weight } =
        solve(&hidden, (&weight, output.1), &labels, teacher, objective, wanted, vocab)?;
    let value = Tensor::new(loss as f32, hidden.device())?;
    let op = Loss { value: Known::new(value)?, hidden: of_hidden, weight: of_weight };
    Ok((hidden.apply_op2(&weight, op)?, lost))
}

/// What the loss is made of, without gradients.
///
/// # Errors
/// As [`loss`].
pub fn measure(
    hidden: &Tensor,
    output: (&Tensor, f64),
    labels: &[u32],
    teacher: Option<&Soft>,
    objective: &Objective,
) -> Result<Lost> {
    let labels = valid(labels);
    let vocab = check(hidden, output.0, &labels, teacher, objective)?;
    let plain = |tensor: &Tensor| tensor.detach().to_dtype(DType::F32);
    let (hidden, weight) = (plain(hidden)?, plain(output.0)?);
    Ok(solve(&hidden, (&weight, output.1), &labels, teacher, objective, [false; 2], vocab)?.lost)
}

/// The loss of numbers of f32, with the gradients that are wanted, by the form that the device has.
fn solve(
    hidden: &Tensor,
    output: (&Tensor, f64),
    labels: &[u32],
    teacher: Option<&Soft>,
    objective: &Objective,
    wanted: [bool; 2],
    vocab: usize,
) -> Result<Solved> {
    if !crate::nn::has_fused(hidden.device()) {
        let (hidden, weight) = (hidden.detach(), output.0.detach());
        let (output, chunk) = ((&weight, output.1), composed::chunk(vocab));
        return composed::solve(&hidden, output, labels, teacher, objective, wanted, chunk);
    }
    let (lost, gradients) = on_cpu(hidden, output, labels, teacher, objective, wanted, vocab)?;
    let gradient = |numbers: Vec<f32>, of: &Tensor, wanted: bool| {
        wanted.then(|| Tensor::from_vec(numbers, of.shape(), of.device())).transpose()
    };
    Ok(Solved {
        loss: total(&lost, teacher.is_some(), objective),
        lost,
        hidden: gradient(gradients.hidden, hidden, wanted[0])?,
        weight: gradient(gradients.weight, output.0, wanted[1])?,
    })
}

/// The loss a token.
fn total(lost: &Lost, taught: bool, objective: &Objective) -> f64 {
    let alpha = if taught { objective.alpha } else { 1.0 };
    (weighted(alpha, lost.cross_entropy) + weighted(1.0 - alpha, lost.divergence)) / objective.tokens as f64
}

/// The loss a token, what it is made of, and the gradients of the hidden states and of the matrix.
struct Solved {
    loss: f64,
    lost: Lost,
    hidden: Option<Tensor>,
    weight: Option<Tensor>,
}

/// A part of weight 0 does not count, whatever it is.
fn weighted(weight: f64, sum: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight * sum }
}

fn valid(labels: &[u32]) -> Vec<u32> {
    labels.iter().copied().filter(|&label| label != IGNORE).collect()
}

/// Returns the vocabulary.
fn check(
    hidden: &Tensor,
    weight: &Tensor,
    labels: &[u32],
    teacher: Option<&Soft>,
    objective: &Objective,
) -> Result<usize> {
    objective.check()?;
    let ((n, width), (vocab, inputs)) = (hidden.dims2()?, weight.dims2()?);
    if width != inputs || vocab == 0 {
        let message = format!("hidden states of {width} and a matrix of {vocab} x {inputs}: expected the same width");
        return Err(Error::input(message));
    }
    if n != labels.len() {
        return Err(Error::input(format!("{n} hidden states and {} labels, expected as many", labels.len())));
    }
    let token = |what: &str, id: u32| match (id as usize) < vocab {
        true => Ok(()),
        false => Err(Error::input(format!("{what} is {id}, expected less than the vocabulary of {vocab}"))),
    };
    labels.iter().try_for_each(|&label| token("a label", label))?;
    let shape = match teacher {
        None => [n, vocab],
        Some(Soft::Dense(logits)) => logits.dims2()?.into(),
        Some(Soft::Hidden { hidden, weight, .. }) => {
            let ((rows, width), (vocab, inputs)) = (hidden.dims2()?, weight.dims2()?);
            if width != inputs {
                let message = format!("the teacher's hidden states are of {width}, its matrix of {inputs}");
                return Err(Error::input(message));
            }
            [rows, vocab]
        }
        Some(Soft::Sparse(sparse)) => {
            if objective.divergence == Divergence::ReverseKl {
                let expected = "expected a teacher at hand, or another divergence";
                return Err(Error::input(format!("reverse KL needs all of the teacher's probabilities: {expected}")));
            }
            sparse.ids.iter().try_for_each(|&id| token("an id of the teacher", id))?;
            if sparse.ids.len() != n * sparse.k || sparse.probabilities.len() != n * sparse.k {
                let (k, ids, probabilities) = (sparse.k, sparse.ids.len(), sparse.probabilities.len());
                return Err(Error::input(format!("{ids} ids and {probabilities} probabilities, expected {n} x {k}")));
            }
            [n, vocab]
        }
    };
    if shape != [n, vocab] {
        return Err(Error::input(format!("the teacher's logits are {shape:?}, expected {:?}", [n, vocab])));
    }
    Ok(vocab)
}

/// Runs the fused pass on the numbers of tensors.
fn on_cpu(
    hidden: &Tensor,
    (weight, scale): (&Tensor, f64),
    labels: &[u32],
    teacher: Option<&Soft>,
    objective: &Objective,
    wanted: [bool; 2],
    vocab: usize,
) -> Result<(Lost, fused::Gradients)> {
    let width = hidden.dim(1)?;
    let plain = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.contiguous();
    let few;
    let theirs = match teacher {
        None | Some(Soft::Sparse(_)) => None,
        Some(Soft::Dense(logits)) => Some((plain(logits)?, None)),
        Some(Soft::Hidden { hidden, weight, scale }) => Some((plain(hidden)?, Some((plain(weight)?, *scale)))),
    };
    let (hidden, weight) = (plain(hidden)?, plain(weight)?);
    let (hidden, weight) = (hidden.storage_and_layout(), weight.storage_and_layout());
    let student = fused::Product { hidden: numbers(&hidden)?, weight: numbers(&weight)?, width, scale: scale as f32 };
    let chunk = fused::chunk(vocab);
    let run = |teacher| fused::run(student, labels, vocab, teacher, objective, wanted, chunk);
    Ok(match (teacher, &theirs) {
        (Some(Soft::Sparse(sparse)), _) => {
            few = sorted(sparse);
            run(Some(fused::Teacher::Few(&few, sparse.k)))
        }
        (_, Some((logits, None))) => run(Some(fused::Teacher::Logits(numbers(&logits.storage_and_layout())?))),
        (_, Some((hidden, Some((weight, scale))))) => {
            let width = hidden.dim(1)?;
            let (hidden, weight) = (hidden.storage_and_layout(), weight.storage_and_layout());
            let (hidden, weight) = (numbers(&hidden)?, numbers(&weight)?);
            run(Some(fused::Teacher::Product(fused::Product { hidden, weight, width, scale: *scale as f32 })))
        }
        (_, None) => run(None),
    })
}

/// The numbers of a contiguous tensor of f32 on the CPU.
fn numbers<'a>((storage, layout): &'a (impl std::ops::Deref<Target = Storage>, &Layout)) -> Result<&'a [f32]> {
    match (&**storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(numbers)), Some((start, end))) => Ok(&numbers[start..end]),
        _ => Err(Error::input("a tensor is not on the CPU, expected the student's device")),
    }
}

/// The rows of `sparse`, each sorted by id.
fn sorted(sparse: &Sparse) -> Vec<(u32, f32)> {
    let mut pairs: Vec<_> = sparse.ids.iter().copied().zip(sparse.probabilities.iter().copied()).collect();
    pairs.chunks_exact_mut(sparse.k.max(1)).for_each(|row| row.sort_unstable_by_key(|&(id, _)| id));
    pairs
}

/// A loss that is computed already, with its gradients.
struct Loss {
    value: Known,
    hidden: Option<Tensor>,
    weight: Option<Tensor>,
}

impl CustomOp2 for Loss {
    fn name(&self) -> &'static str {
        "distillation-loss"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.value.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.value.on_cuda()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        of_loss: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let factor = f64::from(of_loss.to_scalar::<f32>()?);
        let scaled = |gradient: &Option<Tensor>| match (gradient, factor == 1.0) {
            (None, _) => Ok(None),
            (Some(gradient), true) => Ok(Some(gradient.clone())),
            (Some(gradient), false) => gradient.affine(factor, 0.0).map(Some),
        };
        Ok((scaled(&self.hidden)?, scaled(&self.weight)?))
    }
}
