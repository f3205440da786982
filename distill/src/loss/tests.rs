//! The fused loss against PyTorch, against plain f64, against finite differences, and against the composed one.

use super::{Divergence, Lost, Objective, Soft, Sparse, composed, fused, loss, measure, sorted};
use crate::{batch::IGNORE, nn::only_composed};
use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use serde::Deserialize;

const ALL: [Divergence; 6] = [
    Divergence::ForwardKl,
    Divergence::ReverseKl,
    Divergence::JensenShannon(0.3),
    Divergence::SkewedForwardKl(0.1),
    Divergence::SkewedReverseKl(0.9),
    Divergence::TotalVariation,
];

fn tensor(numbers: &[f32], shape: [usize; 2]) -> Tensor {
    Tensor::from_slice(numbers, &shape, &Device::Cpu).unwrap()
}

fn variable(numbers: &[f32], shape: [usize; 2]) -> Var {
    Var::from_tensor(&tensor(numbers, shape)).unwrap()
}

/// Numbers between −1 and 1 that a seed stands for.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A problem, and its loss and gradients.
struct Problem {
    shape: [usize; 3],
    hidden: Vec<f32>,
    weight: Vec<f32>,
    scale: f64,
    labels: Vec<u32>,
    teacher: Option<Soft>,
    objective: Objective,
}

struct Solved {
    loss: f64,
    lost: Lost,
    hidden: Vec<f32>,
    weight: Vec<f32>,
}

impl Problem {
    fn random([n, width, vocab]: [usize; 3], seed: u64, size: f32, objective: Objective) -> Self {
        let scaled = |n, seed| random(n, seed).into_iter().map(|x| x * size).collect::<Vec<_>>();
        Self {
            shape: [n, width, vocab],
            hidden: random(n * width, seed),
            weight: scaled(vocab * width, seed + 1),
            scale: 1.0,
            labels: (0..n).map(|i| ((i * 7919 + 3) % vocab) as u32).collect(),
            teacher: Some(Soft::Dense(tensor(&scaled(n * vocab, seed + 2), [n, vocab]))),
            objective: Objective { tokens: n, ..objective },
        }
    }

    fn valid(&self) -> Vec<u32> {
        (0..).zip(&self.labels).filter(|&(_, &label)| label != IGNORE).map(|(row, _)| row).collect()
    }

    fn variables(&self) -> (Var, Var) {
        let [n, width, vocab] = self.shape;
        (variable(&self.hidden, [n, width]), variable(&self.weight, [vocab, width]))
    }

    fn solved(&self, composed: bool) -> Solved {
        let (hidden, weight) = self.variables();
        let output = (weight.as_tensor(), self.scale);
        // Only positions that count have hidden states.
        let valid = hidden.index_select(&Tensor::new(self.valid(), &Device::Cpu).unwrap(), 0).unwrap();
        let solve = || loss(&valid, output, &self.labels, self.teacher.as_ref(), &self.objective).unwrap();
        let (loss, lost) = if composed { only_composed(solve) } else { solve() };
        let gradients = loss.backward().unwrap();
        let of = |var: &Var| gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        Solved { loss: loss.to_scalar::<f32>().unwrap().into(), lost, hidden: of(&hidden), weight: of(&weight) }
    }

    /// The loss in plain f64.
    fn reference(&self) -> f64 {
        let [n, width, vocab] = self.shape;
        let Objective { alpha, divergence, temperature: t, label_smoothing, tokens } = self.objective;
        let mut total = 0.0;
        for i in 0..n {
            let logit = |v: usize| -> f64 {
                let (h, w) = (&self.hidden[i * width..][..width], &self.weight[v * width..][..width]);
                self.scale * h.iter().zip(w).map(|(&h, &w)| f64::from(h) * f64::from(w)).sum::<f64>()
            };
            let z: Vec<f64> = (0..vocab).map(logit).collect();
            let hard = log_softmax(&z, 1.0);
            let smooth = -hard.iter().sum::<f64>() / vocab as f64;
            let ce = -(1.0 - label_smoothing) * hard[self.labels[i] as usize] + label_smoothing * smooth;
            let log_t = match &self.teacher {
                Some(Soft::Dense(logits)) => {
                    let logits: Vec<f32> = logits.get(i).unwrap().to_vec1().unwrap();
                    log_softmax(&logits.into_iter().map(f64::from).collect::<Vec<_>>(), t)
                }
                Some(Soft::Sparse(Sparse { k, ids, probabilities })) => {
                    let mut expected = vec![0.0; vocab];
                    for (&id, &p) in ids[i * k..][..*k].iter().zip(&probabilities[i * k..][..*k]) {
                        expected[id as usize] += f64::from(p);
                    }
                    expected.into_iter().map(f64::ln).collect()
                }
                _ => {
                    total += ce;
                    continue;
                }
            };
            total += alpha * ce + (1.0 - alpha) * t * t * diverge(divergence, &log_t, &log_softmax(&z, t));
        }
        total / tokens as f64
    }
}

fn log_softmax(z: &[f64], t: f64) -> Vec<f64> {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| ((z - max) / t).exp()).sum();
    z.iter().map(|z| (z - max) / t - sum.ln()).collect()
}

fn diverge(divergence: Divergence, log_t: &[f64], log_p: &[f64]) -> f64 {
    let exp = |logs: &[f64]| logs.iter().map(|x| x.exp()).collect::<Vec<_>>();
    let kl = |log_a: &[f64], log_b: &[f64]| -> f64 {
        let pairs = log_a.iter().zip(log_b).filter(|(a, _)| a.exp() > 0.0);
        pairs.map(|(a, b)| a.exp() * (a - b)).sum()
    };
    let mix = |a: &[f64], b: &[f64], x: f64| -> Vec<f64> {
        exp(a).iter().zip(exp(b)).map(|(a, b)| (x * a + (1.0 - x) * b).max(1e-300).ln()).collect()
    };
    match divergence {
        Divergence::ForwardKl => kl(log_t, log_p),
        Divergence::ReverseKl => kl(log_p, log_t),
        Divergence::JensenShannon(x) => {
            let m = mix(log_t, log_p, x);
            x * kl(log_t, &m) + (1.0 - x) * kl(log_p, &m)
        }
        Divergence::SkewedForwardKl(x) => kl(log_t, &mix(log_t, log_p, x)),
        Divergence::SkewedReverseKl(x) => kl(log_p, &mix(log_t, log_p, x)),
        Divergence::TotalVariation => 0.5 * exp(log_t).iter().zip(exp(log_p)).map(|(t, p)| (t - p).abs()).sum::<f64>(),
    }
}

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance * (1.0 + expected.abs()), "{what}: {found}, expected {expected}");
}

#[track_caller]
fn all_close(found: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = f64::from((found - expected).abs());
        assert!(error <= tolerance * f64::from(size) + 5e-8, "{what} [{i}]: {found}, expected {expected}");
    }
}

/// Columns of a gradient by themselves, since their sizes differ. Each is a sum of the logits' gradients, which are differences
/// of `terms` of that size, times a column of the other factor.
#[track_caller]
fn columns_close([found, expected, other]: [&[f32]; 3], width: usize, terms: f32, tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for first in 0..width {
        let column = |all: &[f32]| all.iter().skip(first).step_by(width).copied().collect::<Vec<_>>();
        let largest = |all: &[f32]| all.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let (found, expected) = (column(found), column(expected));
        let most = tolerance * f64::from(largest(&expected).max(terms * largest(&column(other)))) + 5e-8;
        for (i, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            let off = f64::from((found - expected).abs());
            assert!(off <= most, "{what}, column {first} [{i}]: {found}, expected {expected}");
        }
    }
}

/// `k` probabilities a row, which may name a token twice.
fn few_tokens(n: usize, vocab: usize, k: usize, seed: u64) -> Sparse {
    let of_row = |row: &[f32]| {
        let sum: f32 = row.iter().sum();
        row.iter().map(|p| p / sum).collect::<Vec<_>>()
    };
    let sizes: Vec<f32> = random(n * k, seed).into_iter().map(|x| x.abs() + 1e-3).collect();
    let ids = random(n * k, seed + 1).into_iter().map(|x| ((x.abs() * vocab as f32) as u32).min(vocab as u32 - 1));
    Sparse { k, ids: ids.collect(), probabilities: sizes.chunks(k).flat_map(of_row).collect() }
}

#[derive(Deserialize)]
struct Case {
    divergence: String,
    parameter: f64,
    temperature: f64,
    alpha: f64,
    smoothing: f64,
    scale: f64,
    tokens: usize,
    n: usize,
    width: usize,
    vocab: usize,
    hidden: Vec<f32>,
    weight: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<u32>,
    ids: Option<Vec<u32>>,
    probabilities: Option<Vec<f32>>,
    k: Option<usize>,
    loss: f64,
    cross_entropy: f64,
    kd: f64,
    correct: usize,
    hidden_gradient: Vec<f32>,
    weight_gradient: Vec<f32>,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

/// Some rows of `[n][width]`.
fn of<T: Copy>(rows: &[usize], all: &[T], width: usize) -> Vec<T> {
    rows.iter().flat_map(|row| &all[row * width..][..width]).copied().collect()
}

#[test]
fn losses_and_gradients_are_pytorchs() {
    let cases: Cases = serde_json::from_str(include_str!("../../tests/vectors/losses.json")).unwrap();
    assert!(cases.cases.len() > 40);
    for case in cases.cases {
        let valid = |row: &usize| case.labels[*row] != IGNORE;
        let rows: Vec<usize> = (0..case.n).filter(valid).collect();
        let divergence = match (case.divergence.as_str(), case.parameter) {
            ("forward_kl", _) => Divergence::ForwardKl,
            ("reverse_kl", _) => Divergence::ReverseKl,
            ("jensen_shannon", beta) => Divergence::JensenShannon(beta),
            ("skewed_forward_kl", lambda) => Divergence::SkewedForwardKl(lambda),
            ("skewed_reverse_kl", lambda) => Divergence::SkewedReverseKl(lambda),
            _ => Divergence::TotalVariation,
        };
        let teacher = match (case.ids, case.probabilities, case.k) {
            (Some(ids), Some(probabilities), Some(k)) => {
                let (ids, probabilities) = (of(&rows, &ids, k), of(&rows, &probabilities, k));
                Soft::Sparse(Sparse { k, ids, probabilities })
            }
            _ => Soft::Dense(tensor(&of(&rows, &case.teacher, case.vocab), [rows.len(), case.vocab])),
        };
        let problem = Problem {
            shape: [case.n, case.width, case.vocab],
            hidden: case.hidden,
            weight: case.weight,
            scale: case.scale,
            labels: case.labels,
            teacher: Some(teacher),
            objective: Objective {
                alpha: case.alpha,
                divergence,
                temperature: case.temperature,
                label_smoothing: case.smoothing,
                tokens: case.tokens,
            },
        };
        // At ±1e4, logits' gradients are differences of large numbers, of which there remains little but their rounding.
        let extreme = problem.weight.iter().any(|w| w.abs() > 1e3);
        let terms = if extreme { case.kd as f32 / case.tokens as f32 } else { 0.0 };
        for composed in [false, true] {
            let what = format!("{divergence:?} at {}, composed: {composed}", case.temperature);
            let solved = problem.solved(composed);
            close(solved.loss, case.loss, 1e-6, &what);
            close(solved.lost.cross_entropy, case.cross_entropy, 1e-6, &what);
            close(solved.lost.divergence, case.kd, 2e-6, &what);
            assert_eq!((solved.lost.correct, solved.lost.tokens), (case.correct, rows.len()), "{what}");
            // More roundings, as more intermediate results are stored.
            let off = if composed { 1e-5 } else { 3e-6 };
            columns_close([&solved.hidden, &case.hidden_gradient, &problem.weight], case.width, terms, off, &what);
            columns_close([&solved.weight, &case.weight_gradient, &problem.hidden], case.width, terms, off, &what);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn losses_are_those_of_plain_arithmetic(
        n in 1..6_usize, width in 1..9_usize, vocab in 2..70_usize, seed: u64, size in 0.1..8.0_f32,
        alpha in 0.0..=1.0_f64, temperature in 0.5..5.0_f64, label_smoothing in 0.0..0.3_f64, which in 0..6_usize,
    ) {
        let objective = Objective { alpha, divergence: ALL[which], temperature, label_smoothing, tokens: 1 };
        let problem = Problem::random([n, width, vocab], seed >> 2, size, objective);
        let solved = problem.solved(false);
        close(solved.loss, problem.reference(), 2e-5, &format!("{objective:?}"));
        let same = problem.solved(true);
        all_close(&solved.hidden, &same.hidden, 2e-4, "hidden");
        all_close(&solved.weight, &same.weight, 2e-4, "weight");
        let (hidden, weight) = problem.variables();
        let measured = measure(
            &hidden, (weight.as_tensor(), 1.0), &problem.labels, problem.teacher.as_ref(), &problem.objective,
        );
        prop_assert_eq!(measured.unwrap(), solved.lost);
    }

    #[test]
    fn losses_by_a_few_tokens_are_those_of_plain_arithmetic(
        n in 1..6_usize, vocab in 2..70_usize, k in 1..9_usize, seed: u64, size in 0.1..8.0_f32,
        alpha in 0.0..=1.0_f64, temperature in 0.5..5.0_f64, which in 0..6_usize,
    ) {
        prop_assume!(ALL[which] != Divergence::ReverseKl);
        let objective = Objective { alpha, divergence: ALL[which], temperature, ..Objective::default() };
        let mut problem = Problem::random([n, 5, vocab], seed >> 2, size, objective);
        problem.teacher = Some(Soft::Sparse(few_tokens(n, vocab, k, seed >> 2)));
        for composed in [false, true] {
            let what = format!("{objective:?}, composed: {composed}");
            close(problem.solved(composed).loss, problem.reference(), 2e-5, &what);
        }
        let [fused, composed] = [false, true].map(|composed| problem.solved(composed));
        all_close(&fused.hidden, &composed.hidden, 2e-4, "hidden");
        all_close(&fused.weight, &composed.weight, 2e-4, "weight");
    }
}

#[test]
fn gradients_are_what_differences_say() {
    let few = Soft::Sparse(few_tokens(3, 11, 4, 9));
    let both = ALL.into_iter().flat_map(|divergence| [(divergence, None), (divergence, Some(&few))]);
    for (divergence, few) in both.filter(|(divergence, few)| *divergence != Divergence::ReverseKl || few.is_none()) {
        let objective = Objective { divergence, label_smoothing: 0.1, ..Objective::default() };
        let mut problem = Problem::random([3, 4, 11], 5, 2.0, objective);
        problem.scale = 0.7;
        problem.teacher = few.cloned().or(problem.teacher);
        let solved = problem.solved(false);
        const STEP: f32 = 1.0 / 1024.0;
        let mut check = |pick: fn(&mut Problem) -> &mut Vec<f32>, gradients: &[f32]| {
            for (i, &gradient) in gradients.iter().enumerate() {
                let before = pick(&mut problem)[i];
                pick(&mut problem)[i] = before + STEP;
                let above = problem.reference();
                let width = pick(&mut problem)[i];
                pick(&mut problem)[i] = before - STEP;
                let below = problem.reference();
                let width = f64::from(width) - f64::from(pick(&mut problem)[i]);
                pick(&mut problem)[i] = before;
                close(gradient.into(), (above - below) / width, 1e-5, &format!("{divergence:?} {i}"));
            }
        };
        check(|problem| &mut problem.hidden, &solved.hidden);
        check(|problem| &mut problem.weight, &solved.weight);
    }
}

#[test]
fn extreme_logits_stay_finite() {
    for divergence in ALL {
        for temperature in [1.0, 2.0] {
            let objective = Objective { divergence, temperature, ..Objective::default() };
            let mut problem = Problem::random([4, 3, 33], 11, 1e4, objective);
            let solved = problem.solved(false);
            close(solved.loss, problem.reference(), 2e-5, &format!("{divergence:?}"));
            assert!(solved.hidden.iter().chain(&solved.weight).all(|x| x.is_finite()), "{divergence:?}");
            // Tokens that the teacher forbids.
            if divergence != Divergence::ReverseKl {
                let mut logits = random(4 * 33, 3);
                logits.iter_mut().step_by(2).for_each(|x| *x = f32::NEG_INFINITY);
                problem.teacher = Some(Soft::Dense(tensor(&logits, [4, 33])));
                let solved = problem.solved(false);
                assert!(solved.loss.is_finite(), "{divergence:?}");
                assert!(solved.hidden.iter().chain(&solved.weight).all(|x| x.is_finite()), "{divergence:?}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows() {
    for divergence in ALL {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut problem = Problem::random([4, 3, 33], 11, 1.0, Objective { divergence, ..Objective::default() });
            problem.hidden[4] = bad;
            assert!(!problem.solved(false).loss.is_finite(), "{divergence:?}: {bad} in hidden states");
            let mut problem = Problem::random([4, 3, 33], 11, 1.0, Objective { divergence, ..Objective::default() });
            let mut logits = random(4 * 33, 3);
            logits[40] = bad;
            problem.teacher = Some(Soft::Dense(tensor(&logits, [4, 33])));
            assert!(!problem.solved(false).loss.is_finite(), "{divergence:?}: {bad} in the teacher's logits");
        }
    }
}

#[test]
fn chunks_do_not_matter() {
    for divergence in ALL {
        let problem = Problem::random([23, 8, 45], 17, 2.0, Objective { divergence, ..Objective::default() });
        let Some(Soft::Dense(logits)) = &problem.teacher else { unreachable!() };
        let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
        let student = fused::Product { hidden: &problem.hidden, weight: &problem.weight, width: 8, scale: 1.0 };
        let run = |chunk| {
            let teacher = Some(fused::Teacher::Logits(&logits));
            fused::run(student, &problem.labels, 45, teacher, &problem.objective, [true; 2], chunk)
        };
        let (lost, gradients) = run(23);
        for chunk in [1, 2, 7, 22, 100] {
            let (same_lost, same) = run(chunk);
            assert_eq!(same_lost.correct, lost.correct);
            close(same_lost.divergence, lost.divergence, 1e-6, "divergence");
            close(same_lost.cross_entropy, lost.cross_entropy, 1e-6, "cross-entropy");
            all_close(&same.hidden, &gradients.hidden, 2e-6, "hidden");
            all_close(&same.weight, &gradients.weight, 2e-6, "weight");
        }
    }
}

#[test]
fn chunks_of_composed_operations_do_not_matter() {
    let dense = |seed, width| tensor(&random(23 * width, seed), [23, width]);
    let made = Soft::Hidden { hidden: dense(3, 5), weight: tensor(&random(45 * 5, 4), [45, 5]), scale: 2.0 };
    for divergence in ALL {
        for teacher in
            [None, Some(Soft::Dense(dense(5, 45))), Some(made.clone()), Some(Soft::Sparse(few_tokens(23, 45, 4, 6)))]
        {
            if divergence == Divergence::ReverseKl && matches!(teacher, Some(Soft::Sparse(_))) {
                continue;
            }
            let problem = Problem::random([23, 8, 45], 17, 2.0, Objective { divergence, ..Objective::default() });
            let (hidden, weight) = (tensor(&problem.hidden, [23, 8]), tensor(&problem.weight, [45, 8]));
            let run = |rows| {
                let output = (&weight, 1.0);
                composed::solve(&hidden, output, &problem.labels, teacher.as_ref(), &problem.objective, [true; 2], rows)
                    .unwrap()
            };
            let numbers = |tensor: &Option<Tensor>| -> Vec<f32> {
                tensor.as_ref().unwrap().flatten_all().unwrap().to_vec1().unwrap()
            };
            let whole = run(23);
            for rows in [1, 2, 7, 22, 100] {
                let same = run(rows);
                assert_eq!((same.lost.correct, same.lost.tokens), (whole.lost.correct, 23));
                close(same.loss, whole.loss, 1e-6, "loss");
                all_close(&numbers(&same.hidden), &numbers(&whole.hidden), 2e-6, "hidden");
                all_close(&numbers(&same.weight), &numbers(&whole.weight), 2e-6, "weight");
            }
        }
    }
}

#[test]
fn a_teacher_may_make_its_logits_on_the_way() {
    let mut problem = Problem::random([9, 4, 21], 23, 1.0, Objective::default());
    let (hidden, weight) = (tensor(&random(9 * 5, 1), [9, 5]), tensor(&random(21 * 5, 2), [21, 5]));
    problem.teacher = Some(Soft::Dense((hidden.matmul(&weight.t().unwrap()).unwrap() * 3.0).unwrap()));
    let dense = problem.solved(false);
    problem.teacher = Some(Soft::Hidden { hidden, weight, scale: 3.0 });
    for composed in [false, true] {
        let made = problem.solved(composed);
        close(made.loss, dense.loss, 1e-6, "loss");
        all_close(&made.hidden, &dense.hidden, 5e-6, "hidden");
        all_close(&made.weight, &dense.weight, 5e-6, "weight");
    }
}

#[test]
fn a_few_tokens_are_all_if_they_cover_the_vocabulary() {
    for divergence in ALL.into_iter().filter(|d| *d != Divergence::ReverseKl) {
        let objective = Objective { divergence, temperature: 3.0, ..Objective::default() };
        let mut problem = Problem::random([5, 4, 18], 29, 2.0, objective);
        let dense = problem.solved(false);
        let Some(Soft::Dense(logits)) = &problem.teacher else { unreachable!() };
        let logits: Vec<Vec<f32>> = logits.to_vec2().unwrap();
        let mut few = Sparse { k: 19, ..Sparse::default() };
        for row in logits {
            let row: Vec<f64> = row.into_iter().map(f64::from).collect();
            let probabilities: Vec<f32> = log_softmax(&row, 3.0).into_iter().map(|x| x.exp() as f32).collect();
            // In any order, and one of them in two parts.
            few.ids.extend((0..18).rev());
            few.ids.push(4);
            few.probabilities.extend(probabilities.iter().rev());
            few.probabilities.push(probabilities[4] / 4.0);
            *few.probabilities.iter_mut().rev().nth(1 + 4).unwrap() *= 0.75;
        }
        assert_eq!(sorted(&few)[4..6].iter().map(|(id, _)| *id).collect::<Vec<_>>(), [4, 4]);
        problem.teacher = Some(Soft::Sparse(few));
        for composed in [false, true] {
            let sparse = problem.solved(composed);
            close(sparse.loss, dense.loss, 2e-6, &format!("{divergence:?}"));
            all_close(&sparse.hidden, &dense.hidden, 1e-5, &format!("{divergence:?}"));
            all_close(&sparse.weight, &dense.weight, 1e-5, &format!("{divergence:?}"));
        }
    }
}

#[test]
fn labels_that_do_not_count_are_passed_over() {
    let problem = Problem::random([3, 4, 9], 31, 1.0, Objective::default());
    let (hidden, weight) = problem.variables();
    let run = |labels: &[u32]| {
        let lost = loss(&hidden, (weight.as_tensor(), 1.0), labels, problem.teacher.as_ref(), &problem.objective);
        lost.map(|(_, lost)| lost)
    };
    let [a, b, c] = [1, 5, 8];
    let lost = run(&[a, b, c]).unwrap();
    assert_eq!(lost.tokens, 3);
    assert_eq!(run(&[IGNORE, a, IGNORE, b, c, IGNORE]).unwrap(), lost);
    assert!(run(&[a, b]).is_err());
    // None at all.
    let (hidden, none) = (tensor(&[], [0, 4]), Soft::Dense(tensor(&[], [0, 9])));
    let lost = measure(&hidden, (weight.as_tensor(), 1.0), &[IGNORE], Some(&none), &problem.objective).unwrap();
    assert_eq!(lost, Lost::default());
}

#[test]
fn gradients_are_scaled_by_what_comes_after() {
    let problem = Problem::random([3, 4, 9], 37, 1.0, Objective::default());
    let once = problem.solved(false);
    let (hidden, weight) = problem.variables();
    let output = (weight.as_tensor(), 1.0);
    let (loss, _) = loss(&hidden, output, &problem.labels, problem.teacher.as_ref(), &problem.objective).unwrap();
    let gradients = (loss * 3.0).unwrap().backward().unwrap();
    let thrice: Vec<f32> = once.weight.iter().map(|x| 3.0 * x).collect();
    let found: Vec<f32> = gradients.get(&weight).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    all_close(&found, &thrice, 1e-6, "weight");
}

#[test]
fn what_is_constant_gets_no_gradient() {
    let problem = Problem::random([3, 4, 9], 41, 1.0, Objective::default());
    let (hidden, weight) = problem.variables();
    let frozen = weight.as_detached_tensor();
    let (loss, _) = loss(&hidden, (&frozen, 1.0), &problem.labels, None, &problem.objective).unwrap();
    let gradients = loss.backward().unwrap();
    assert!(gradients.get(&hidden).is_some() && gradients.get(&frozen).is_none());
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    let good = || Problem::random([2, 3, 7], 43, 1.0, Objective::default());
    let refused = |problem: Problem, expected: &str| {
        let (hidden, weight) = problem.variables();
        let output = (weight.as_tensor(), 1.0);
        let error = loss(&hidden, output, &problem.labels, problem.teacher.as_ref(), &problem.objective).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    let with = |change: fn(&mut Objective)| {
        let mut problem = good();
        change(&mut problem.objective);
        problem
    };
    refused(with(|o| o.alpha = 1.5), "alpha is 1.5, expected 0 to 1");
    refused(with(|o| o.alpha = f64::NAN), "alpha is NaN");
    refused(with(|o| o.temperature = 0.0), "temperature is 0");
    refused(with(|o| o.label_smoothing = 1.0), "label smoothing is 1");
    refused(with(|o| o.tokens = 0), "the number of tokens is 0");
    refused(with(|o| o.divergence = Divergence::JensenShannon(1.0)), "beta is 1");
    refused(with(|o| o.divergence = Divergence::SkewedReverseKl(0.0)), "lambda is 0");
    refused(Problem { labels: vec![1, 7], ..good() }, "a label is 7, expected less than the vocabulary of 7");
    refused(Problem { labels: vec![1], ..good() }, "2 hidden states and 1 labels");
    refused(Problem { teacher: Some(Soft::Dense(tensor(&[0.0; 16], [2, 8]))), ..good() }, "expected [2, 7]");
    let sparse = |ids: &[u32]| {
        let probabilities = vec![0.5; ids.len()];
        Problem { teacher: Some(Soft::Sparse(Sparse { k: 2, ids: ids.to_vec(), probabilities })), ..good() }
    };
    refused(sparse(&[0, 1, 2]), "3 ids and 3 probabilities, expected 2 x 2");
    refused(sparse(&[0, 1, 2, 7]), "an id of the teacher is 7");
    let mut reverse = sparse(&[0, 1, 2, 3]);
    reverse.objective.divergence = Divergence::ReverseKl;
    refused(reverse, "reverse KL needs all of the teacher's probabilities");
}
