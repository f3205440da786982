//! Features that a student learns from its teacher: what both have of each cell before the heads.
//!
//! PKD (Cao et al. 2022): `1 − ρ`, where ρ is Pearson's correlation of a channel of the student with that of the teacher
//! over all cells of a level in a batch; the mean over channels and levels. It is half the squared difference of
//! standardised channels, so that how large features are does not matter. The student's channels go through a product
//! that only the training knows, because a teacher may have more of them, and has them in another order.

use crate::error::{Error, Result};
use crate::nn::{by_hand::of_one, linear::linear};
use crate::student::normal;
use candle_core::{Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// The least variance: a channel that says nothing stays what it is.
const EPSILON: f64 = 1e-6;

/// A projector from a student's `ours` channels to a teacher's for each level, of which `theirs` says how many there are:
/// variables `projector{i}.weight`, drawn by chance.
///
/// # Errors
/// What candle says.
pub fn projectors(theirs: &[usize], ours: usize, seed: u64, device: &Device) -> Result<BTreeMap<String, Var>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut projector = |(i, &theirs): (usize, &usize)| {
        let deviation = (1.0 / ours as f64).sqrt();
        let numbers: Vec<f32> = (0..theirs * ours).map(|_| (normal(&mut random) * deviation) as f32).collect();
        Ok((format!("projector{i}.weight"), Var::from_vec(numbers, (theirs, ours), device)?))
    };
    theirs.iter().enumerate().map(&mut projector).collect()
}

/// What a student's features lack of its teacher's, a scalar whose gradient reaches the features and the projectors: for
/// each level `[rows, student's channels]`, `[teacher's channels, student's channels]` and `[rows, teacher's channels]`.
///
/// # Errors
/// `Input` for levels of other numbers or sizes.
pub fn features<'a>(
    student: &[Tensor],
    projectors: impl ExactSizeIterator<Item = &'a Var>,
    teacher: &[Tensor],
) -> Result<Tensor> {
    if student.is_empty() || student.len() != teacher.len() || student.len() != projectors.len() {
        let (ours, theirs) = (student.len(), teacher.len());
        return Err(Error::input(format!("features of {ours} levels, expected {theirs} as the teacher has")));
    }
    let mut sum = None;
    for ((ours, theirs), projector) in student.iter().zip(teacher).zip(projectors) {
        let projected = linear(ours, projector)?;
        if projected.dims() != theirs.dims() {
            let (ours, theirs) = (projected.dims(), theirs.dims());
            return Err(Error::input(format!("features of {ours:?} numbers, expected {theirs:?} as the teacher has")));
        }
        let lost = decorrelation(&projected, theirs)?;
        sum = Some(match sum {
            Some(sum) => (sum + lost)?,
            None => lost,
        });
    }
    Ok((sum.expect("a level") / student.len() as f64)?)
}

/// The mean over channels of `1 − ρ`, of `[n, channels]` both. With standardised channels ẑ and t̂, the gradient of a
/// channel is `(ρ ẑ − t̂) / (n σ)`, divided by the number of channels.
fn decorrelation(z: &Tensor, t: &Tensor) -> candle_core::Result<Tensor> {
    let (n, channels) = z.dims2()?;
    let (theirs, _) = standardised(&t.detach())?;
    let (ours, deviation) = standardised(&z.detach())?;
    let correlation = (&ours * &theirs)?.mean_keepdim(0)?;
    let value = (1.0 - correlation.mean_all()?)?;
    let slope = (ours.broadcast_mul(&correlation)? - theirs)?.broadcast_div(&(deviation * (n * channels) as f64)?)?;
    of_one(z, |_| Ok(value), move |_, _, of_value| slope.broadcast_mul(of_value))
}

/// Each column with a mean of 0 and a variance of 1, and its deviation, `[1, columns]`.
fn standardised(x: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(0)? + EPSILON)?.sqrt()?;
    Ok((centred.broadcast_div(&deviation)?, deviation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{Case, check};
    use candle_core::{DType, Device};

    /// What candle differentiates by itself.
    fn composed(z: &Tensor, t: &Tensor) -> candle_core::Result<Tensor> {
        let ((ours, _), (theirs, _)) = (standardised(z)?, standardised(t)?);
        1.0 - (ours * theirs)?.mean_all()?
    }

    #[test]
    fn gradients() {
        let teacher = |like: &Tensor| {
            let numbers: Vec<f64> = (0..9 * 4).map(|i| (i as f64 * 0.77).sin()).collect();
            Tensor::from_vec(numbers, (9, 4), &Device::Cpu)?.to_dtype(like.dtype())
        };
        let with =
            |f: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>| move |t: &[Tensor]| f(&t[0], &teacher(&t[0])?);
        check(Case::new(&[&[9, 4]]), with(decorrelation), with(composed));
    }

    #[test]
    fn the_scale_of_features_does_not_matter_and_their_sign_does() {
        let x = Tensor::randn(0.0_f32, 1.0, (64, 6), &Device::Cpu).unwrap();
        let same = Var::from_tensor(&Tensor::eye(6, DType::F32, &Device::Cpu).unwrap()).unwrap();
        let lost = |teacher: Tensor| {
            features(std::slice::from_ref(&x), [&same].into_iter(), &[teacher]).unwrap().to_scalar::<f32>().unwrap()
        };
        assert!(lost(((&x * 5.0).unwrap() + 3.0).unwrap()).abs() < 1e-4);
        assert!((lost(x.neg().unwrap()) - 2.0).abs() < 1e-4);
        // A channel that is the same everywhere correlates with nothing.
        assert!((lost(Tensor::ones((64, 6), DType::F32, &Device::Cpu).unwrap()) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn other_levels_and_sizes_are_refused() {
        let x = Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
        let projector = Var::zeros((5, 3), DType::F32, &Device::Cpu).unwrap();
        let error = |teacher: &[Tensor]| {
            features(std::slice::from_ref(&x), [&projector].into_iter(), teacher).unwrap_err().to_string()
        };
        assert!(error(&[]).contains("1 levels, expected 0"));
        assert!(error(std::slice::from_ref(&x)).contains("[4, 5] numbers, expected [4, 3]"));
    }
}
