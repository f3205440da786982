//! The loss out of candle's operations, for devices that have no fused one.

use super::{Divergence, Lost, Objective, Soft, Sparse};
use crate::error::Result;
use candle_core::{D, DType, Tensor};

/// As [`super::loss`], for arguments that are checked.
pub fn loss(
    hidden: &Tensor,
    (weight, scale): (&Tensor, f64),
    labels: &[u32],
    teacher: Option<&Soft>,
    objective: &Objective,
) -> Result<(Tensor, Lost)> {
    let Objective { divergence, temperature: t, label_smoothing: smoothing, tokens, .. } = *objective;
    let device = hidden.device();
    let logits = |hidden: &Tensor, weight: &Tensor, scale: f64| -> Result<Tensor> {
        Ok((hidden.to_dtype(DType::F32)?.matmul(&weight.to_dtype(DType::F32)?.t()?)? * scale)?)
    };
    let z = logits(hidden, weight, scale)?; // [n, vocab]
    let labels = Tensor::new(labels, device)?.unsqueeze(1)?; // [n, 1]

    let log_p = log_softmax(&z)?;
    let of_label = log_p.gather(&labels, 1)?.sum_all()?;
    let cross_entropy = match smoothing > 0.0 {
        false => of_label.neg()?,
        true => (of_label * (smoothing - 1.0))?.sub(&(log_p.mean(D::Minus1)?.sum_all()? * smoothing)?)?,
    };
    let correct = log_p.argmax_keepdim(D::Minus1)?.eq(&labels)?.to_dtype(DType::F32)?.sum_all()?;
    let mut lost = Lost {
        tokens: labels.dim(0)?,
        cross_entropy: cross_entropy.to_scalar::<f32>()?.into(),
        divergence: 0.0,
        correct: correct.to_scalar::<f32>()? as usize,
    };
    let Some(teacher) = teacher else { return Ok(((cross_entropy / tokens as f64)?, lost)) };

    let (log_t, probabilities) = match teacher {
        // The runtime's logits are not where the student is.
        Soft::Dense(logits) => of_logits(&logits.to_device(device)?, t)?,
        Soft::Hidden { hidden, weight, scale } => of_logits(&logits(hidden, weight, *scale)?, t)?,
        Soft::Sparse(Sparse { k, ids, probabilities }) => {
            let shape = (labels.dim(0)?, *k);
            let ids = Tensor::from_slice(ids, shape, device)?;
            let probabilities = Tensor::from_slice(probabilities, shape, device)?;
            let dense = z.zeros_like()?.detach().scatter_add(&ids, &probabilities, 1)?;
            (positive(&dense)?.log()?, dense)
        }
    };
    let log_p = log_softmax(&(z / t)?)?;
    let kd = (diverge(divergence, &log_t, &probabilities, &log_p)?.sum_all()? * (t * t))?;
    lost.divergence = kd.to_scalar::<f32>()?.into();
    let total = ((cross_entropy * objective.alpha)? + (kd * (1.0 - objective.alpha))?)?;
    Ok(((total / tokens as f64)?, lost))
}

/// Logarithms of probabilities, and these.
fn of_logits(logits: &Tensor, t: f64) -> Result<(Tensor, Tensor)> {
    let log = log_softmax(&(logits.detach().to_dtype(DType::F32)? / t)?)?.clamp(-1e30, 0.0)?;
    let probabilities = log.exp()?;
    Ok((log, probabilities))
}

/// candle's own has no gradient.
fn log_softmax(z: &Tensor) -> Result<Tensor> {
    let z = z.broadcast_sub(&z.max_keepdim(D::Minus1)?.detach())?;
    Ok(z.broadcast_sub(&z.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}

/// What may be divided by and has a logarithm.
fn positive(x: &Tensor) -> Result<Tensor> {
    Ok(x.maximum(f64::from(f32::MIN_POSITIVE))?)
}

/// Of each token of each position, `[n, vocab]`.
fn diverge(divergence: Divergence, log_t: &Tensor, t: &Tensor, log_p: &Tensor) -> Result<Tensor> {
    let p = log_p.exp()?;
    let kl = |a: &Tensor, log_a: &Tensor, log_m: &Tensor| -> Result<Tensor> { Ok((a * (log_a - log_m)?)?) };
    let log_mixed = |a: &Tensor, b: &Tensor, of_a: f64| -> Result<Tensor> {
        Ok(positive(&((a * of_a)? + (b * (1.0 - of_a))?)?)?.log()?)
    };
    match divergence {
        Divergence::ForwardKl => kl(t, log_t, log_p),
        Divergence::ReverseKl => kl(&p, log_p, log_t),
        Divergence::JensenShannon(beta) => {
            let log_m = log_mixed(t, &p, beta)?;
            Ok(((kl(t, log_t, &log_m)? * beta)? + (kl(&p, log_p, &log_m)? * (1.0 - beta))?)?)
        }
        Divergence::SkewedForwardKl(lambda) => kl(t, log_t, &log_mixed(t, &p, lambda)?),
        Divergence::SkewedReverseKl(lambda) => kl(&p, log_p, &log_mixed(&p, t, lambda)?),
        Divergence::TotalVariation => Ok(((t - p)?.abs()? * 0.5)?),
    }
}
