//! One position of a label store: the likeliest tokens, and a sample of the others.
//!
//! A target of the likeliest tokens alone would tell the student that all others are impossible, which can be worse than
//! no teacher. So what they leave, the tail, is shared by `samples` tokens that are drawn from it with replacement: the
//! expected target is the teacher's whole distribution (Sparse Logit Sampling, ACL 2025).

use crate::{
    error::{Error, Result},
    loss::Sparse,
};
use half::f16;
use serde::{Deserialize, Serialize};

/// How a store's records are laid out.
///
/// ```text
/// bytes of a record                        k = 8, S = 8, 16-bit ids
/// k × id      the likeliest tokens, likeliest first       16
/// k × f16     their log-probabilities                     16
/// S × id      tokens drawn from the others, ascending     16
/// f16         logarithm of the others' probability         2
///                                                         50
/// ```
///
/// Ids are u16 if the vocabulary has at most 65,536 tokens and u32 otherwise; everything is little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// The likeliest tokens that a record holds.
    pub k: usize,
    /// Tokens drawn from the others.
    pub samples: usize,
}

impl Layout {
    /// The most of each that a record may hold.
    pub const MAX: usize = 1024;

    /// # Errors
    /// `Input` for a record of nothing, or of more than there is.
    pub fn check(self) -> Result<()> {
        let Self { vocab, k, samples } = self;
        if !(2..=1 << 24).contains(&vocab) {
            return Err(Error::input(format!("the vocabulary is of {vocab} tokens, expected 2 to {}", 1 << 24)));
        }
        for (name, number, max) in [("k", k, Self::MAX.min(vocab)), ("samples", samples, Self::MAX)] {
            if !(1..=max).contains(&number) {
                return Err(Error::input(format!("{name} is {number}, expected 1 to {max}")));
            }
        }
        Ok(())
    }

    fn id_bytes(self) -> usize {
        if self.vocab <= 1 << 16 { 2 } else { 4 }
    }

    /// Bytes of a record.
    pub fn bytes(self) -> usize {
        (self.k + self.samples) * self.id_bytes() + 2 * self.k + 2
    }

    /// Tokens that a record expects.
    pub fn tokens(self) -> usize {
        self.k + self.samples
    }
}

/// Makes records of logits.
pub struct Recorder {
    layout: Layout,
    temperature: f64,
    seed: u64,
    probabilities: Vec<f64>,
}

impl Recorder {
    /// A recorder of probabilities at `temperature`; `seed` decides what is drawn.
    pub fn new(layout: Layout, temperature: f64, seed: u64) -> Self {
        Self { layout, temperature, seed, probabilities: Vec::new() }
    }

    /// Appends the record of the logits of position `position` of the row that is known by `row`.
    ///
    /// # Errors
    /// `Input` for logits that are no numbers, or not as many as tokens.
    pub fn append(&mut self, logits: &[f32], row: u64, position: usize, out: &mut Vec<u8>) -> Result<()> {
        let Layout { vocab, k, samples } = self.layout;
        if logits.len() != vocab {
            return Err(Error::input(format!("{} logits of the teacher, expected {vocab}", logits.len())));
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        self.probabilities.clear();
        self.probabilities.extend(logits.iter().map(|&z| (f64::from(z - max) / self.temperature).exp()));
        let total: f64 = self.probabilities.iter().sum();
        if !total.is_finite() || total < 1.0 {
            return Err(Error::input("a logit of the teacher is no number, expected finite ones"));
        }

        let likeliest = likeliest(&self.probabilities, k);
        likeliest.iter().for_each(|&id| self.id(id, out));
        let kept: f64 = likeliest.iter().map(|&id| self.probabilities[id as usize]).sum();
        for &id in &likeliest {
            let log = (self.probabilities[id as usize] / total).ln();
            out.extend(f16::from_f64(log.max(LEAST)).to_le_bytes());
        }
        likeliest.iter().for_each(|&id| self.probabilities[id as usize] = 0.0);
        let tail: f64 = self.probabilities.iter().sum();
        let mut random = Random(mix(self.seed ^ mix(row ^ mix(position as u64))));
        let mut points: Vec<f64> = (0..samples).map(|_| random.uniform() * tail).collect();
        points.sort_unstable_by(f64::total_cmp);
        let (mut passed, mut points) = (0.0, points.into_iter().peekable());
        let mut last = likeliest[0];
        let mut drawn = 0;
        for (id, &p) in (0..).zip(&self.probabilities).filter(|&(_, &p)| p > 0.0) {
            (passed, last) = (passed + p, id);
            while points.next_if(|&point| point < passed).is_some() {
                self.id(id, out);
                drawn += 1;
            }
        }
        // What rounding left over; and without a tail, ids that get nothing of it.
        (drawn..samples).for_each(|_| self.id(last, out));
        let mass = if tail > 0.0 { (tail / (kept + tail)).ln().max(LEAST) } else { f64::NEG_INFINITY };
        out.extend(f16::from_f64(mass).to_le_bytes());
        Ok(())
    }

    fn id(&self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&id.to_le_bytes()[..self.layout.id_bytes()]);
    }
}

/// The least finite f16.
const LEAST: f64 = -65504.0;

/// The indices of the k largest numbers, largest first, and of equal ones the first.
fn likeliest(numbers: &[f64], k: usize) -> Vec<u32> {
    let mut best: Vec<(f64, u32)> = Vec::with_capacity(k + 1);
    let mut least = f64::NEG_INFINITY;
    for (id, &x) in (0..).zip(numbers) {
        if best.len() == k && x <= least {
            continue;
        }
        let at = best.partition_point(|&(y, _)| y >= x);
        best.insert(at, (x, id));
        best.truncate(k);
        least = best[best.len() - 1].0;
    }
    best.into_iter().map(|(_, id)| id).collect()
}

/// Bits that look random, of a number (SplitMix64's finalizer, Steele et al. 2014).
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random numbers that a seed decides, the same on every machine (SplitMix64).
struct Random(u64);

impl Random {
    /// In [0, 1).
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Appends what a record expects to `out`; returns the part of the likeliest tokens.
///
/// # Errors
/// `Format` for ids outside of the vocabulary and probabilities that are none.
pub fn read(layout: Layout, record: &[u8], out: &mut Sparse) -> Result<f64> {
    let Layout { vocab, k, samples } = layout;
    let id = |bytes: &[u8]| match *bytes {
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => u32::MAX,
    };
    let (ids, rest) = record.split_at(k * layout.id_bytes());
    let (logs, rest) = rest.split_at(2 * k);
    let (drawn, mass) = rest.split_at(samples * layout.id_bytes());
    let probability = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f64().exp();
    let start = out.ids.len();
    out.ids.extend(ids.chunks_exact(layout.id_bytes()).chain(drawn.chunks_exact(layout.id_bytes())).map(id));
    if let Some(id) = out.ids[start..].iter().find(|&&id| id as usize >= vocab) {
        return Err(Error::format(format!("token {id}, expected less than {vocab}")));
    }
    let (kept, tail): (f64, f64) = (logs.chunks_exact(2).map(probability).sum(), probability(mass));
    let total = kept + tail;
    // Rounding to f16 moves each by up to half a percent where it is above e^-16.
    if !(0.9..1.1).contains(&total) {
        return Err(Error::format(format!("the probabilities are {total} together, expected 1")));
    }
    out.probabilities.extend(logs.chunks_exact(2).map(|log| (probability(log) / total) as f32));
    out.probabilities.extend((0..samples).map(|_| (tail / total / samples as f64) as f32));
    Ok(kept / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exps: Vec<f64> = logits.iter().map(|&z| (f64::from(z - max) / temperature).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(|e| e / sum).collect()
    }

    /// What a record makes of logits, as a whole distribution.
    fn target(layout: Layout, logits: &[f32], temperature: f64, seed: u64) -> (Vec<f64>, f64) {
        let mut bytes = Vec::new();
        Recorder::new(layout, temperature, seed).append(logits, 7, 3, &mut bytes).unwrap();
        assert_eq!(bytes.len(), layout.bytes());
        let mut sparse = Sparse { k: layout.tokens(), ..Sparse::default() };
        let kept = read(layout, &bytes, &mut sparse).unwrap();
        let mut all = vec![0.0; layout.vocab];
        sparse.ids.iter().zip(&sparse.probabilities).for_each(|(&id, &p)| all[id as usize] += f64::from(p));
        (all, kept)
    }

    #[test]
    fn fifty_bytes_hold_eight_and_eight() {
        assert_eq!(Layout { vocab: 1 << 16, k: 8, samples: 8 }.bytes(), 50);
        assert_eq!(Layout { vocab: (1 << 16) + 1, k: 8, samples: 8 }.bytes(), 82);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn on_average_the_target_is_the_teachers(
            logits in prop::collection::vec(-6.0..6.0_f32, 12..60), k in 1..8_usize, samples in 1..6_usize,
            temperature in 0.7..3.0_f64, seed: u32,
        ) {
            const DRAWS: u64 = 3000;
            let layout = Layout { vocab: logits.len(), k, samples };
            let exact = softmax(&logits, temperature);
            let mut mean = vec![0.0; logits.len()];
            for draw in 0..DRAWS {
                let (target, _) = target(layout, &logits, temperature, u64::from(seed) << 20 | draw);
                prop_assert!((target.iter().sum::<f64>() - 1.0).abs() < 1e-6);
                mean.iter_mut().zip(target).for_each(|(mean, p)| *mean += p / DRAWS as f64);
            }
            for (mean, exact) in mean.iter().zip(&exact) {
                // Six standard deviations of the mean of the samples, what rare tokens add that are drawn once or twice
                // (Bernstein's inequality: once in 10^7 times), and f16.
                let one = 1.0 / (samples as u64 * DRAWS) as f64;
                let allowed = 6.0 * (exact * one).sqrt() + 12.0 * one + 4e-3 * exact;
                prop_assert!((mean - exact).abs() < allowed, "{} {}", mean, exact);
            }
        }
    }

    #[test]
    fn k_of_all_tokens_leaves_no_tail() {
        let logits = [1.0, 3.0, -2.0, f32::NEG_INFINITY];
        let (target, kept) = target(Layout { vocab: 4, k: 4, samples: 2 }, &logits, 1.0, 1);
        let exact = softmax(&logits, 1.0);
        target.iter().zip(exact).for_each(|(p, exact)| assert!((p - exact).abs() <= 4e-3 * exact));
        assert_eq!(kept, 1.0);
    }

    #[test]
    fn the_likeliest_come_first_and_of_equals_the_first() {
        assert_eq!(likeliest(&[0.1, 0.3, 0.3, 0.2, 0.1], 4), [1, 2, 3, 0]);
        assert_eq!(likeliest(&[0.5], 1), [0]);
    }

    #[test]
    fn logits_that_are_no_numbers_are_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            let layout = Layout { vocab: 3, k: 1, samples: 1 };
            let refused = Recorder::new(layout, 1.0, 0).append(&[0.0, bad, 1.0], 0, 0, &mut Vec::new());
            assert!(refused.unwrap_err().to_string().contains("no number"));
        }
    }

    #[test]
    fn records_of_nonsense_are_refused() {
        let layout = Layout { vocab: 3, k: 1, samples: 1 };
        let mut good = Vec::new();
        Recorder::new(layout, 1.0, 0).append(&[0.0, 0.5, 1.0], 0, 0, &mut good).unwrap();
        assert!(read(layout, &good, &mut Sparse::default()).is_ok());
        for (at, byte) in [(0, 3), (4, 9), (3, 0x7c), (3, 0x7e), (7, 0x7e), (7, 0x40)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(read(layout, &bad, &mut Sparse::default()).is_err(), "byte {at} is {byte}");
        }
    }
}
