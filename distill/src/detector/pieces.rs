//! The losses of single numbers and of single sides, with their gradients.

use crate::loss::vector::{exp, ln, sigmoid};

/// `ln(1 + eˣ)`
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + ln(1.0 + exp(-x.abs()))
}

/// Quality focal loss (Li et al. 2020) of the logit `z` whose probability is to be `y`, and its derivative by z:
/// `BCE(z, y) · |σ(z) − y|^β`, β at least 1. With `y = σ(z_t)` it is how far a student is from its teacher.
#[inline(always)]
pub fn focal(z: f32, y: f32, beta: f32) -> (f32, f32) {
    let p = sigmoid(z);
    let entropy = softplus(z) - y * z;
    let difference = p - y;
    // |d|^(β − 1); the least number keeps the logarithm finite.
    let size = difference.abs().max(1e-30);
    let power = exp((beta - 1.0) * ln(size));
    let sign = if difference < 0.0 { -1.0 } else { 1.0 };
    let slope = size * power * difference + entropy * beta * power * sign * p * (1.0 - p);
    (entropy * size * power, slope)
}

/// The distribution of one side: its probabilities, and its mean in cells.
pub fn softmax(logits: &[f32], temperature: f32) -> (Vec<f64>, f64) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut bins: Vec<f64> = logits.iter().map(|z| f64::from((z - max) / temperature).exp()).collect();
    let sum: f64 = bins.iter().sum();
    bins.iter_mut().for_each(|p| *p /= sum);
    let mean = bins.iter().enumerate().map(|(bin, p)| bin as f64 * p).sum();
    (bins, mean)
}

/// Distribution focal loss (Li et al. 2020): the cross-entropy with the two bins around `distance`, in cells, by how near
/// they are. Adds `weight` times its gradient by the logits, `p − target`, to `gradient`.
pub fn bins(probabilities: &[f64], distance: f64, weight: f64, gradient: &mut [f32]) -> f64 {
    let distance = distance.clamp(0.0, (probabilities.len() - 1) as f64);
    let low = (distance as usize).min(probabilities.len() - 2);
    let of_high = distance - low as f64;
    let target = |bin: usize| match bin.wrapping_sub(low) {
        0 => 1.0 - of_high,
        1 => of_high,
        _ => 0.0,
    };
    for (bin, (gradient, p)) in gradient.iter_mut().zip(probabilities).enumerate() {
        *gradient += (weight * (p - target(bin))) as f32;
    }
    let log = |bin: usize| probabilities[bin].max(f64::MIN_POSITIVE).ln();
    -(1.0 - of_high) * log(low) - of_high * log(low + 1)
}

/// Localization distillation (Zheng et al. 2022): `T² KL(teacher ‖ student)` over the bins of a side, both at temperature T.
/// Adds `weight` times its gradient by the student's logits to `gradient`.
pub fn bins_of_teacher(student: &[f32], teacher: &[f32], temperature: f32, weight: f64, gradient: &mut [f32]) -> f64 {
    let ((p, _), (q, _)) = (softmax(student, temperature), softmax(teacher, temperature));
    let t = f64::from(temperature);
    let mut lost = 0.0;
    for (gradient, (p, q)) in gradient.iter_mut().zip(p.iter().zip(&q)) {
        if *q > 0.0 {
            lost += q * (q.ln() - p.max(f64::MIN_POSITIVE).ln());
        }
        *gradient += (weight * t * (p - q)) as f32;
    }
    lost * t * t
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::close;

    /// As the papers write it, in f64.
    fn plain_focal(z: f64, y: f64, beta: f64) -> f64 {
        let p = 1.0 / (1.0 + (-z).exp());
        -(y * p.ln() + (1.0 - y) * (1.0 - p).ln()) * (p - y).abs().powf(beta)
    }

    #[test]
    fn focal_losses_are_those_of_the_formula() {
        for beta in [1.0, 1.5, 2.0, 3.0] {
            for z in [-9.0, -3.0, -0.7, 0.0, 0.4, 2.0, 8.0] {
                for y in [0.0, 0.2, 0.55, 1.0] {
                    let (lost, slope) = focal(z as f32, y as f32, beta as f32);
                    let difference = (plain_focal(z + 1e-6, y, beta) - plain_focal(z - 1e-6, y, beta)) / 2e-6;
                    close("loss", &[lost.into()], &[plain_focal(z, y, beta)], 3e-6);
                    close("slope", &[slope.into()], &[difference], 3e-6);
                }
            }
        }
        assert!(focal(0.0, 0.5, 2.0).1.abs() < 1e-20);
        for z in [-1e4, 1e4] {
            let (lost, slope) = focal(z, 0.5, 2.0);
            assert!(lost.is_finite() && slope.is_finite());
        }
    }

    fn differences(logits: &[f32], f: impl Fn(&[f32]) -> f64) -> Vec<f64> {
        let at = |i: usize, step: f32| {
            let mut moved = logits.to_vec();
            moved[i] += step;
            f(&moved)
        };
        (0..logits.len()).map(|i| (at(i, 1e-2) - at(i, -1e-2)) / 2e-2).collect()
    }

    #[test]
    fn gradients_of_bins_are_differences() {
        let logits = [0.3_f32, -1.0, 0.8, 0.1, 1.2];
        for distance in [0.0, 0.4, 2.0, 3.7, 4.0, 9.0, -1.0] {
            let run = |logits: &[f32], gradient: &mut [f32]| bins(&softmax(logits, 1.0).0, distance, 1.0, gradient);
            let mut gradient = [0.0; 5];
            run(&logits, &mut gradient);
            let found: Vec<f64> = gradient.iter().map(|&x| x.into()).collect();
            close("gradient", &found, &differences(&logits, |moved| run(moved, &mut [0.0; 5])), 1e-4);
        }
        let teacher = [1.0_f32, 0.0, -0.5, 0.9, 0.2];
        for temperature in [1.0, 3.0] {
            let run =
                |logits: &[f32], gradient: &mut [f32]| bins_of_teacher(logits, &teacher, temperature, 1.0, gradient);
            let mut gradient = [0.0; 5];
            assert!(run(&logits, &mut gradient) > 0.0);
            let found: Vec<f64> = gradient.iter().map(|&x| x.into()).collect();
            close("gradient", &found, &differences(&logits, |moved| run(moved, &mut [0.0; 5])), 1e-4);
        }
        assert!(bins_of_teacher(&teacher, &teacher, 2.0, 1.0, &mut [0.0; 5]).abs() < 1e-12);
    }

    #[test]
    fn bins_by_hand() {
        // All bins alike: the loss is ln 4 whatever the distance.
        let (p, mean) = softmax(&[2.0; 4], 1.0);
        assert_eq!(mean, 1.5);
        close("loss", &[bins(&p, 1.3, 1.0, &mut [0.0; 4])], &[4_f64.ln()], 1e-12);
    }
}
