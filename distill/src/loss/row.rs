//! One position: its losses, and their gradient with respect to the logits.
//!
//! With p the student's and t the teacher's probabilities at temperature T, every divergence is a sum of a `value` of
//! each token. Its gradient with respect to the student's logits z goes through p = softmax(z / T):
//!
//! ```text
//! T ∂D/∂zᵢ = pᵢ (∂D/∂pᵢ − Σⱼ pⱼ ∂D/∂pⱼ) = qᵢ − pᵢ Σⱼ qⱼ        with qᵢ = pᵢ ∂D/∂pᵢ
//! ```
//!
//! so that a divergence is the pair (value, q), which `with_terms!` gives.

use super::{
    Divergence, Lost, Objective,
    vector::{Group, LANES, exp, ln, map, maximum, sums},
};

/// The logit of what is no token: groups at the end of a row are filled with it. Finite, since 0 · ∞ is NaN.
pub const NOTHING: f32 = -1e30;

/// Groups in a row of `vocab` logits.
pub fn groups(vocab: usize) -> usize {
    vocab.div_ceil(LANES)
}

/// What the teacher expects at a position.
#[derive(Clone, Copy)]
pub enum Expected<'a> {
    Logits(&'a [Group]),
    /// Ids, sorted, and their probabilities.
    Few(&'a [(u32, f32)]),
}

/// A thread's buffers: `[groups]` each.
#[derive(Default)]
pub struct Scratch {
    /// exp(z − max)
    hard: Vec<Group>,
    /// exp((z − max) / T), if T is not 1
    soft: Vec<Group>,
    /// the same of the teacher
    teacher: Vec<Group>,
    q: Vec<Group>,
}

/// A softmax: `p = e / sum`, `ln p = (z − max) / T − ln sum`.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    inverse_t: f32,
    inverse_sum: f32,
    log_sum: f32,
}

impl Softmax {
    #[inline(always)]
    fn new(z: &[Group], t: f64, exps: &mut Vec<Group>) -> Self {
        let (max, inverse_t) = (maximum(z), (1.0 / t) as f32);
        exps.resize(z.len(), [0.0; LANES]);
        let [sum] = sums(
            z.len(),
            #[inline(always)]
            |i| {
                exps[i] = map(
                    #[inline(always)]
                    |lane| exp((z[i][lane] - max) * inverse_t),
                );
                [exps[i]]
            },
        );
        Self { max, inverse_t, inverse_sum: (1.0 / sum) as f32, log_sum: sum.ln() as f32 }
    }

    #[inline(always)]
    fn log(&self, z: f32) -> f32 {
        (z - self.max) * self.inverse_t - self.log_sum
    }
}

/// Calls `$call` with a function that gives (value, q) of (ln t, t, ln p, p), compiled for each divergence.
macro_rules! with_terms {
    ($divergence:expr, |$terms:ident| $call:expr) => {
        match $divergence {
            Divergence::ForwardKl => {
                let $terms = |log_t: f32, t: f32, log_p: f32, _: f32| (t * (log_t - log_p), -t);
                $call
            }
            Divergence::ReverseKl => {
                let $terms = |log_t: f32, _: f32, log_p: f32, p: f32| (p * (log_p - log_t), p * (log_p - log_t));
                $call
            }
            Divergence::JensenShannon(beta) => {
                let (b, a) = (beta as f32, (1.0 - beta) as f32);
                let $terms = |_: f32, t: f32, _: f32, p: f32| {
                    let m = b * t + a * p;
                    let q = a * p * log_ratio(p, m);
                    (b * t * log_ratio(t, m) + q, q)
                };
                $call
            }
            Divergence::SkewedForwardKl(lambda) => {
                let (b, a) = (lambda as f32, (1.0 - lambda) as f32);
                let $terms = |_: f32, t: f32, _: f32, p: f32| {
                    let m = b * t + a * p;
                    let positive = if m < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { m };
                    (t * log_ratio(t, m), -a * t * (p / positive))
                };
                $call
            }
            Divergence::SkewedReverseKl(lambda) => {
                let (b, a) = (lambda as f32, (1.0 - lambda) as f32);
                let $terms = |_: f32, t: f32, _: f32, p: f32| {
                    let m = b * t + a * p;
                    let positive = if m < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { m };
                    let value = p * log_ratio(p, m);
                    (value, value - a * p * (p / positive))
                };
                $call
            }
            Divergence::TotalVariation => {
                let $terms = |_: f32, t: f32, _: f32, p: f32| {
                    let sign = if p > t { 1.0 } else { 0.0 } - if p < t { 1.0 } else { 0.0 };
                    (0.5 * (t - p).abs(), 0.5 * p * sign)
                };
                $call
            }
        }
    };
}

/// Loss and gradient of one position.
pub struct Row<'a> {
    pub objective: &'a Objective,
    pub vocab: usize,
}

impl Row<'_> {
    /// Computes what the position's logits `z` lose, and replaces them with the gradient of the whole loss.
    #[inline(always)]
    pub fn run(&self, z: &mut [Group], label: u32, expected: Option<Expected<'_>>, scratch: &mut Scratch) -> Lost {
        let Objective { alpha, divergence, temperature, label_smoothing, tokens } = *self.objective;
        let label = label as usize;
        z.as_flattened_mut()[self.vocab..].fill(NOTHING);
        let Scratch { hard: hard_exps, soft: soft_exps, teacher, q } = scratch;

        let hard = Softmax::new(z, 1.0, hard_exps);
        let logit = z.as_flattened()[label];
        let mut lost = Lost {
            tokens: 1,
            cross_entropy: -f64::from(hard.log(logit)),
            divergence: 0.0,
            correct: usize::from(logit >= hard.max),
        };
        if label_smoothing > 0.0 {
            let sum: f64 = z.as_flattened()[..self.vocab].iter().map(|&z| f64::from(hard.log(z))).sum();
            lost.cross_entropy =
                (1.0 - label_smoothing) * lost.cross_entropy - label_smoothing * sum / self.vocab as f64;
        }

        // The part of cross-entropy: w (p − target).
        let weight = if expected.is_some() { alpha } else { 1.0 } / tokens as f64;
        let of_hard = weight as f32 * hard.inverse_sum;
        let everywhere = (weight * label_smoothing / self.vocab as f64) as f32;
        let of_label = (weight * (1.0 - label_smoothing)) as f32;
        match expected {
            None => {
                for (z, e) in z.iter_mut().zip(&*hard_exps) {
                    *z = map(
                        #[inline(always)]
                        |lane| e[lane] * of_hard - everywhere,
                    );
                }
            }
            Some(expected) => {
                let (soft, soft_exps) = match temperature == 1.0 {
                    true => (hard, &*hard_exps),
                    false => (Softmax::new(z, temperature, soft_exps), &*soft_exps),
                };
                q.resize(z.len(), [0.0; LANES]);
                let mut pair = Pair { z, soft, exps: soft_exps, teacher, q };
                let (value, sum) = with_terms!(divergence, |terms| pair.diverge(expected, temperature, terms));
                lost.divergence = temperature * temperature * value;
                // The part of the divergence: w T² (q − p Σ q) / T.
                let weight = (1.0 - alpha) * temperature / tokens as f64;
                let (of_q, of_soft) = (weight as f32, (weight * sum) as f32 * soft.inverse_sum);
                for (((z, e), soft), q) in z.iter_mut().zip(&*hard_exps).zip(soft_exps).zip(&*q) {
                    *z = map(
                        #[inline(always)]
                        |lane| e[lane] * of_hard - everywhere + q[lane] * of_q - soft[lane] * of_soft,
                    );
                }
            }
        }
        z.as_flattened_mut()[label] -= of_label;
        lost
    }
}

/// A student's row beside a teacher's.
struct Pair<'a> {
    z: &'a [Group],
    soft: Softmax,
    exps: &'a [Group],
    teacher: &'a mut Vec<Group>,
    q: &'a mut [Group],
}

/// The logarithm of a probability of 0.
const LOG_ZERO: f32 = -1e30;

impl Pair<'_> {
    /// Fills `q`; returns the divergence and the sum of q.
    #[inline(always)]
    fn diverge(
        &mut self,
        expected: Expected<'_>,
        t: f64,
        terms: impl Fn(f32, f32, f32, f32) -> (f32, f32),
    ) -> (f64, f64) {
        let Self { z, soft, exps, teacher, q } = self;
        match expected {
            Expected::Logits(logits) => {
                let other = Softmax::new(logits, t, teacher);
                let [value, sum] = sums(
                    z.len(),
                    #[inline(always)]
                    |i| {
                        let mut values = [0.0; LANES];
                        for lane in 0..LANES {
                            let log_t = other.log(logits[i][lane]);
                            // A teacher may forbid tokens with −∞; NaN must stay.
                            let log_t = if log_t < LOG_ZERO { LOG_ZERO } else { log_t };
                            let p = exps[i][lane] * soft.inverse_sum;
                            let t = teacher[i][lane] * other.inverse_sum;
                            (values[lane], q[i][lane]) = terms(log_t, t, soft.log(z[i][lane]), p);
                        }
                        [values, q[i]]
                    },
                );
                (value, sum)
            }
            Expected::Few(few) => {
                // As if the teacher expected nothing; then those that it does expect instead.
                let [mut value, mut sum] = sums(
                    z.len(),
                    #[inline(always)]
                    |i| {
                        let mut values = [0.0; LANES];
                        for lane in 0..LANES {
                            let p = exps[i][lane] * soft.inverse_sum;
                            (values[lane], q[i][lane]) = terms(LOG_ZERO, 0.0, soft.log(z[i][lane]), p);
                        }
                        [values, q[i]]
                    },
                );
                for same in few.chunk_by(|a, b| a.0 == b.0) {
                    let id = same[0].0 as usize;
                    let t: f32 = same.iter().map(|(_, t)| t).sum();
                    if t <= 0.0 {
                        continue;
                    }
                    let p = exps.as_flattened()[id] * soft.inverse_sum;
                    let log_p = soft.log(z.as_flattened()[id]);
                    let nothing = terms(LOG_ZERO, 0.0, log_p, p);
                    let something = terms(t.ln(), t, log_p, p);
                    value += f64::from(something.0) - f64::from(nothing.0);
                    sum += f64::from(something.1) - f64::from(nothing.1);
                    q.as_flattened_mut()[id] = something.1;
                }
                (value, sum)
            }
        }
    }
}

/// `ln(x / m)` for 0 ≤ x, where it is multiplied by x afterwards.
#[inline(always)]
fn log_ratio(x: f32, m: f32) -> f32 {
    let m = if m < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { m };
    let ratio = x / m;
    ln(if ratio < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { ratio })
}
