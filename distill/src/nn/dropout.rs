//! Dropout (Srivastava et al. 2014), by a hash of each number's place rather than by stored masks.

use super::{by_hand::of_one, fill_rows, fused, numbers, tensor, with_numbers};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

/// Which numbers of a tensor are dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The part that is, 0 to less than 1. The others are divided by what is left.
    pub rate: f32,
    /// Which ones.
    pub seed: u64,
}

impl Dropout {
    /// What the number at `place` is multiplied with: 0 or `1 / (1 − rate)`.
    #[inline(always)]
    pub fn factor(self, place: usize) -> f32 {
        // Two rounds of a 32-bit mixer by multiplications and shifts (Wellons 2018, "lowbias32").
        let mix = |mut x: u32| {
            x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
            x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
            x ^ (x >> 16)
        };
        let hash = mix(mix(place as u32 ^ self.seed as u32) ^ (self.seed >> 32) as u32);
        // 24 bits are what an f32 holds exactly.
        let uniform = (hash >> 8) as f32 * (1.0 / (1 << 24) as f32);
        if uniform < self.rate { 0.0 } else { 1.0 / (1.0 - self.rate) }
    }
}

/// Drops numbers of a tensor.
///
/// # Errors
/// What candle says.
pub fn dropout(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    if fused(&[x]) {
        return x.contiguous()?.apply_op1(drop);
    }
    composed(x, drop, |place| place)
}

/// `place` gives the place that a number counts as.
pub(super) fn composed(x: &Tensor, drop: Dropout, place: impl Fn(usize) -> usize) -> Result<Tensor> {
    let mask = mask(drop, x, place)?;
    let factors = mask.clone();
    of_one(x, |x| x * factors, move |_, _, gradient| gradient * &mask)
}

/// The factors of all numbers of a tensor. A device other than the CPU draws them itself: the seed is then the one that
/// [the student gave it](crate::student) for this pass.
fn mask(drop: Dropout, like: &Tensor, place: impl Fn(usize) -> usize) -> Result<Tensor> {
    if like.device().is_cpu() {
        let factors: Vec<f32> = (0..like.elem_count()).map(|i| drop.factor(place(i))).collect();
        return Tensor::from_vec(factors, like.shape(), like.device())?.to_dtype(like.dtype());
    }
    let kept = Tensor::rand(0.0_f32, 1.0, like.shape(), like.device())?.ge(drop.rate)?;
    kept.to_dtype(DType::F32)? * (1.0 / (1.0 - f64::from(drop.rate)))
}

impl Dropout {
    fn apply(self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        fill_rows(
            &mut out,
            1,
            #[inline(always)]
            |first, out| {
                let x = &x[first..][..out.len()];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = x[i] * self.factor(first + i);
                }
            },
        );
        out
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(numbers(x, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        tensor(with_numbers([gradient], |[gradient]| self.apply(gradient))?, x).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        let drop = Dropout { rate: 0.3, seed: 7 };
        check(Case::new(&[&[9, 5]]), |t| dropout(&t[0], drop), |t| composed(&t[0], drop, |place| place));
    }

    #[test]
    fn as_many_are_dropped_as_were_asked_for() {
        for rate in [0.0, 0.1, 0.5] {
            for seed in [0, 1, 1 << 40] {
                let drop = Dropout { rate, seed };
                let n = 100_000;
                let dropped = (0..n).filter(|&i| drop.factor(i) == 0.0).count() as f32 / n as f32;
                assert!((dropped - rate).abs() < 0.005, "{dropped} of {rate}");
                let mean = (0..n).map(|i| drop.factor(i)).sum::<f32>() / n as f32;
                assert!((mean - 1.0).abs() < 0.01);
            }
        }
        let (a, b) = (Dropout { rate: 0.5, seed: 1 }, Dropout { rate: 0.5, seed: 2 });
        let equal = (0..10_000).filter(|&i| a.factor(i) == b.factor(i)).count();
        assert!((4_800..5_200).contains(&equal), "{equal}");
    }
}
