//! What a student is trained to make small.
//!
//! `L = α · L_CE + (1 − α) · L_KD`, both summed over the valid tokens of a batch and divided by those of the whole
//! accumulated batch (Hinton et al. 2015).

use candle_core::Tensor;

/// How far the student's distribution is from the teacher's; both at temperature T, and times T² so that gradients keep
/// their size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divergence {
    /// `KL(teacher ‖ student)`.
    ForwardKl,
    /// `KL(student ‖ teacher)`.
    ReverseKl,
    /// `β KL(teacher ‖ m) + (1 − β) KL(student ‖ m)` with `m = β teacher + (1 − β) student`.
    JensenShannon(f64),
    /// `KL(teacher ‖ λ teacher + (1 − λ) student)`.
    SkewedForwardKl(f64),
    /// `KL(student ‖ λ student + (1 − λ) teacher)`.
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

/// What the teacher expects at each of n positions.
#[derive(Debug, Clone)]
pub enum Soft {
    /// Its logits, `[n, vocab]`.
    Dense(Tensor),
    /// A few of its probabilities at the objective's temperature.
    Sparse(Sparse),
}

/// Probabilities of the likeliest tokens and of a sample of the others, `k` a position; what is left is spread as the
/// sample stands for the tail (Sparse Logit Sampling, ACL 2025).
#[derive(Debug, Clone, PartialEq)]
pub struct Sparse {
    /// Tokens a position.
    pub k: usize,
    /// `[n][k]`
    pub ids: Vec<u32>,
    /// `[n][k]`: target probabilities; those of a position sum to 1.
    pub probabilities: Vec<f32>,
}
