//! The loss out of candle's operations, for devices that have no fused one. Gradients are written down, not recorded:
//! that takes a third of the memory and of the time.

use super::{Divergence, Lost, Objective, Soft, Solved, Sparse};
use crate::error::Result;
use candle_core::{D, DType, Tensor};

/// Numbers of logits that are made at once.
const CHUNK: usize = 1 << 27;

/// Positions that are worked on together.
pub fn chunk(vocab: usize) -> usize {
    (CHUNK / vocab).max(1)
}

/// As [`super::loss`], for arguments that are checked, in f32; `chunk` positions at a time.
pub fn solve(
    hidden: &Tensor,
    (weight, scale): (&Tensor, f64),
    labels: &[u32],
    teacher: Option<&Soft>,
    objective: &Objective,
    wanted: [bool; 2],
    chunk: usize,
) -> Result<Solved> {
    let n = labels.len();
    let mut sums = Vec::new();
    let (mut of_hidden, mut of_weight) = (Vec::new(), None);
    for first in (0..n).step_by(chunk) {
        let rows = chunk.min(n - first);
        let hidden = hidden.narrow(0, first, rows)?;
        let teacher = teacher.map(|teacher| part(teacher, first, rows)).transpose()?;
        let z = logits(&hidden, weight, scale)?;
        let solved = of_logits(&z, &labels[first..first + rows], teacher.as_ref(), objective, wanted != [false; 2])?;
        sums.push(solved.sums);
        let Some(gradient) = solved.gradient else { continue };
        if wanted[0] {
            of_hidden.push((gradient.matmul(weight)? * scale)?);
        }
        if wanted[1] {
            let part = (gradient.t()?.matmul(&hidden)? * scale)?;
            of_weight = Some(match of_weight {
                Some(sum) => (part + sum)?,
                None => part,
            });
        }
    }
    // The one time that the device is waited for.
    let sums =
        if n > 0 { Tensor::stack(&sums, 0)?.to_dtype(DType::F64)?.sum(0)?.to_vec1::<f64>()? } else { vec![0.0; 3] };
    let lost = Lost { tokens: n, cross_entropy: sums[0], correct: sums[1] as usize, divergence: sums[2] };
    Ok(Solved {
        loss: super::total(&lost, teacher.is_some(), objective),
        lost,
        hidden: wanted[0].then(|| joined(of_hidden, hidden)).transpose()?,
        weight: match (wanted[1], of_weight) {
            (true, None) => Some(weight.zeros_like()?),
            (_, of_weight) => of_weight,
        },
    })
}

fn joined(parts: Vec<Tensor>, like: &Tensor) -> Result<Tensor> {
    Ok(match parts.len() {
        0 => like.zeros_like()?,
        1 => parts[0].clone(),
        _ => Tensor::cat(&parts, 0)?,
    })
}

/// What a teacher says of some rows.
fn part(teacher: &Soft, first: usize, rows: usize) -> Result<Soft> {
    Ok(match teacher {
        Soft::Dense(logits) => Soft::Dense(logits.narrow(0, first, rows)?),
        Soft::Hidden { hidden, weight, scale } => {
            Soft::Hidden { hidden: hidden.narrow(0, first, rows)?, weight: weight.clone(), scale: *scale }
        }
        Soft::Sparse(Sparse { k, ids, probabilities }) => {
            let range = first * k..(first + rows) * k;
            Soft::Sparse(Sparse { k: *k, ids: ids[range.clone()].into(), probabilities: probabilities[range].into() })
        }
    })
}

/// What some positions lost.
struct Chunk {
    /// `[3]`: cross-entropy, positions whose label is the likeliest, divergence times T².
    sums: Tensor,
    /// Of the logits, `[rows, vocab]`.
    gradient: Option<Tensor>,
}

fn of_logits(z: &Tensor, labels: &[u32], teacher: Option<&Soft>, objective: &Objective, wanted: bool) -> Result<Chunk> {
    let Objective { divergence, temperature: t, label_smoothing: smoothing, tokens, .. } = *objective;
    let ((rows, vocab), device) = (z.dims2()?, z.device());
    let alpha = if teacher.is_some() { objective.alpha } else { 1.0 };
    let labels = Tensor::new(labels, device)?.unsqueeze(1)?; // [rows, 1]

    let log_p = log_softmax(z)?;
    let mut cross_entropy = (log_p.gather(&labels, 1)?.sum_all()? * (smoothing - 1.0))?;
    if smoothing > 0.0 {
        cross_entropy = (cross_entropy - (log_p.sum_all()? * (smoothing / vocab as f64))?)?;
    }
    let correct = z.argmax_keepdim(D::Minus1)?.eq(&labels)?.to_dtype(DType::F32)?.sum_all()?;
    let mut gradient = None;
    if wanted && alpha > 0.0 {
        let minus = Tensor::full((smoothing - 1.0) as f32, (rows, 1), device)?;
        let p = (log_p.exp()? - smoothing / vocab as f64)?.scatter_add(&labels, &minus, 1)?;
        gradient = Some((p * (alpha / tokens as f64))?);
    }
    let Some(teacher) = teacher else {
        let none = cross_entropy.zeros_like()?;
        return Ok(Chunk { sums: Tensor::stack(&[cross_entropy, correct, none], 0)?, gradient });
    };

    let (log_t, probabilities) = targets(teacher, z, t)?;
    let log_p = if t == 1.0 { log_p } else { log_softmax(&(z / t)?)? };
    let (lost, slope) = diverge(divergence, &log_t, &probabilities, &log_p)?;
    let kd = (lost.sum_all()? * (t * t))?;
    if wanted && alpha < 1.0 {
        // Through the softmax at T: the slopes by log p, less p times their sum.
        let shift = log_p.exp()?.broadcast_mul(&slope.sum_keepdim(D::Minus1)?)?;
        let of_kd = ((slope - shift)? * ((1.0 - alpha) * t / tokens as f64))?;
        gradient = Some(match gradient {
            Some(sum) => (sum + of_kd)?,
            None => of_kd,
        });
    }
    Ok(Chunk { sums: Tensor::stack(&[cross_entropy, correct, kd], 0)?, gradient })
}

fn logits(hidden: &Tensor, weight: &Tensor, scale: f64) -> Result<Tensor> {
    Ok((hidden.matmul(&weight.t()?)? * scale)?)
}

/// Logarithms of the teacher's probabilities, and these, `[rows, vocab]`.
fn targets(teacher: &Soft, z: &Tensor, t: f64) -> Result<(Tensor, Tensor)> {
    let plain = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.detach().to_dtype(DType::F32)?) };
    let of_logits = |logits: Tensor| -> Result<(Tensor, Tensor)> {
        let log = log_softmax(&(logits / t)?)?.clamp(-1e30, 0.0)?;
        let probabilities = log.exp()?;
        Ok((log, probabilities))
    };
    match teacher {
        // The runtime's logits are not where the student is.
        Soft::Dense(logits) => of_logits(plain(logits)?.to_device(z.device())?),
        Soft::Hidden { hidden, weight, scale } => of_logits(logits(&plain(hidden)?, &plain(weight)?, *scale)?),
        Soft::Sparse(Sparse { k, ids, probabilities }) => {
            let shape = (z.dim(0)?, *k);
            let ids = Tensor::from_slice(ids, shape, z.device())?;
            let probabilities = Tensor::from_slice(probabilities, shape, z.device())?;
            let dense = z.zeros_like()?.scatter_add(&ids, &probabilities, 1)?;
            Ok((positive(&dense)?.log()?, dense))
        }
    }
}

fn log_softmax(z: &Tensor) -> Result<Tensor> {
    let z = z.broadcast_sub(&z.max_keepdim(D::Minus1)?)?;
    Ok(z.broadcast_sub(&z.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}

/// What may be divided by and has a logarithm.
fn positive(x: &Tensor) -> Result<Tensor> {
    Ok(x.maximum(f64::from(f32::MIN_POSITIVE))?)
}

/// Of each token of each position, `[rows, vocab]`: what it loses, and the slope of that by `log p`.
fn diverge(divergence: Divergence, log_t: &Tensor, t: &Tensor, log_p: &Tensor) -> Result<(Tensor, Tensor)> {
    let p = log_p.exp()?;
    let mixed = |of_t: f64| -> Result<(Tensor, Tensor)> {
        let m = positive(&((t * of_t)? + (&p * (1.0 - of_t))?)?)?;
        let log_m = m.log()?;
        Ok((m, log_m))
    };
    Ok(match divergence {
        Divergence::ForwardKl => ((t * (log_t - log_p)?)?, t.neg()?),
        Divergence::ReverseKl => {
            let lost = (&p * (log_p - log_t)?)?;
            let slope = (&lost + p)?;
            (lost, slope)
        }
        Divergence::JensenShannon(beta) => {
            let (_, log_m) = mixed(beta)?;
            let of_p = ((p * (log_p - &log_m)?)? * (1.0 - beta))?;
            (((t * (log_t - log_m)?)? * beta)?.add(&of_p)?, of_p)
        }
        Divergence::SkewedForwardKl(lambda) => {
            let (m, log_m) = mixed(lambda)?;
            ((t * (log_t - log_m)?)?, (((t * p)? / m)? * (lambda - 1.0))?)
        }
        Divergence::SkewedReverseKl(lambda) => {
            let (m, log_m) = mixed(lambda)?;
            let lost = (&p * (log_p - log_m)?)?;
            let slope = (&lost + (&p * (1.0 - ((&p / m)? * (1.0 - lambda))?)?)?)?;
            (lost, slope)
        }
        Divergence::TotalVariation => {
            let over = (&p - t)?;
            ((over.abs()? * 0.5)?, ((p * over.sign()?)? * 0.5)?)
        }
    })
}
