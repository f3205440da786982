//! Exponentials, logarithms and sums over rows of numbers, written so that the compiler vectorises them.
//!
//! Rows come as groups of [`LANES`] numbers: operations on a whole group become a few vector instructions, and sums run
//! in that many lanes. Callers run all of this within `pulp::Arch::dispatch`, which compiles it once for each
//! instruction set.

/// Numbers in a group.
pub const LANES: usize = 16;

/// Numbers side by side.
pub type Group = [f32; LANES];

/// Applies `f` to each lane.
#[inline(always)]
pub fn map(mut f: impl FnMut(usize) -> f32) -> Group {
    let mut out = [0.0; LANES];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = f(lane);
    }
    out
}

/// `eˣ` for x ≤ 0, within 2 units in the last place; 0 below −87, where it is smaller than the smallest normal number.
/// NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Added to a small number, it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 1.5 * (1 << 23) as f32;
    // ln 2 in two parts; the first has so few digits that its multiples are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // eˣ = 2ⁿ eʳ with n = round(x / ln 2), |r| ≤ ½ ln 2. A comparison with NaN is false, and lets it through.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    // Taylor's series; the next term is below 6e-9.
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 24.0 + r * (1.0 / 120.0 + r * series);
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * series)));
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { series * power }
}

/// `ln x` for positive normal x, within 2e-7 plus 2e-7 of its size. NaN stays NaN.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // x = 2ⁿ m with m in [√½, √2), and ln m = 2 artanh((m − 1) / (m + 1)).
    let shifted = x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let n = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x7f_ffff).wrapping_add(std::f32::consts::FRAC_1_SQRT_2.to_bits()));
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    // The next term is below 4e-10.
    let series = 1.0 / 3.0 + s2 * (1.0 / 5.0 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0)));
    if x.is_nan() { x } else { n * std::f32::consts::LN_2 + 2.0 * (s + s * s2 * series) }
}

/// `1 / (1 + e⁻ˣ)`
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    let inverse = 1.0 / (1.0 + small);
    if x >= 0.0 { inverse } else { small * inverse }
}

/// The largest number; NaN are passed over.
#[inline(always)]
pub fn maximum(row: &[Group]) -> f32 {
    let mut max = [f32::NEG_INFINITY; LANES];
    for group in row {
        for lane in 0..LANES {
            max[lane] = if group[lane] > max[lane] { group[lane] } else { max[lane] };
        }
    }
    max.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Sums what `each` gives for every group of a row, in f32 over a thousand numbers and in f64 over those.
#[inline(always)]
pub fn sums<const N: usize>(groups: usize, mut each: impl FnMut(usize) -> [Group; N]) -> [f64; N] {
    const BLOCK: usize = 64;
    let mut total = [0.0; N];
    for start in (0..groups).step_by(BLOCK) {
        let mut lanes = [[0.0_f32; LANES]; N];
        for group in start..groups.min(start + BLOCK) {
            let terms = each(group);
            for (lanes, terms) in lanes.iter_mut().zip(terms) {
                for lane in 0..LANES {
                    lanes[lane] += terms[lane];
                }
            }
        }
        for (total, lanes) in total.iter_mut().zip(lanes) {
            *total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_the_last_places() {
        for i in 0..200_000 {
            let x = -87.0 * i as f32 / 200_000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 2.4e-7 * exact, "exp({x}) = {}, not {exact}", exp(x));
        }
        assert_eq!((exp(0.0), exp(-1e4), exp(-1e30), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn logarithms_are_exact_to_the_last_places() {
        for i in 0..200_000 {
            let x = (-87.0 + 0.001 * i as f32).exp();
            if !x.is_normal() {
                continue;
            }
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() <= 2e-7 + 2e-7 * exact.abs(), "ln({x}) = {}, not {exact}", ln(x));
        }
        assert_eq!(ln(1.0), 0.0);
        assert!(ln(f32::NAN).is_nan());
    }

    #[test]
    fn sums_of_many_small_numbers_lose_nothing() {
        let [sum] = sums(100_000, |_| [[1e-7_f32; LANES]]);
        assert!((sum / 0.16 - 1.0).abs() < 1e-5, "{sum}");
    }
}
