//! Means and variances, by which batch norms go (Ioffe and Szegedy 2015).
//!
//! With the mean μ and variance σ² of each channel: `y = f(γ (x − μ) / √(σ² + ε) + β)`. In training they are those of the
//! batch, and gradients go through them; afterwards they are running means of those, and the whole norm becomes part of
//! the convolution before it.

/// ε of all norms.
pub const EPSILON: f32 = 1e-5;

/// The mean and the variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `[channels]`
    pub mean: Vec<f32>,
    /// `[channels]`: the mean of the squared differences from the mean.
    pub variance: Vec<f32>,
    /// What they are of; 0 if they are no batch's.
    pub rows: usize,
}

impl Moments {
    /// Mean 0 and variance 1, as if nothing was known.
    pub fn standard(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], variance: vec![1.0; channels], rows: 0 }
    }

    /// Moves towards those of a batch by `momentum`, 0 to 1. Its variance is that of a sample, so it is multiplied by
    /// `rows / (rows − 1)`.
    ///
    /// # Panics
    /// If the batch has other channels.
    pub fn follow(&mut self, batch: &Self, momentum: f32) {
        assert_eq!(self.mean.len(), batch.mean.len());
        let unbiased = batch.rows as f32 / (batch.rows.max(2) - 1) as f32;
        for (running, &now) in self.mean.iter_mut().zip(&batch.mean) {
            *running += momentum * (now - *running);
        }
        for (running, &now) in self.variance.iter_mut().zip(&batch.variance) {
            *running += momentum * (now * unbiased - *running);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::close;

    #[test]
    fn running_moments_follow_those_of_batches() {
        let mut running = Moments::standard(1);
        let batch = Moments { mean: vec![2.0], variance: vec![3.0], rows: 4 };
        running.follow(&batch, 0.1);
        close("mean", &[running.mean[0].into()], &[0.2], 1e-6);
        close("variance", &[running.variance[0].into()], &[0.9 + 0.1 * 4.0], 1e-6); // 3 × 4 / 3
    }
}
