//! Chooses the next token from the logits.

use crate::error::{Error, Result};
use crate::gguf::{Keys, Value};
use std::collections::VecDeque;

/// How [`Sampler`] chooses. The default is llama.cpp's.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Keeps the k likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of likeliest tokens whose probabilities sum to at least this (nucleus sampling,
    /// Holtzman et al., 2020); 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides a positive logit and multiplies a negative one of every token among the last `repeat_last_n`
    /// (CTRL, Keskar et al., 2019); 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalty looks at.
    pub repeat_last_n: usize,
    /// The same seed and logits give the same tokens, on every platform.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, repeat_penalty: 1.0, repeat_last_n: 64, seed: 0 }
    }
}

impl SamplerOptions {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// What a file recommends, in llama.cpp's keys `general.sampling.*`, and the defaults for what it leaves open.
    ///
    /// # Errors
    /// `Format` for keys of other types; `Input` for options that make no sense.
    pub fn recommended(keys: &Keys) -> Result<Self> {
        let defaults = Self::default();
        let real = |key: &str, default| Ok::<_, Error>(keys.opt_f32(key)?.unwrap_or(default));
        // They are signed, and -1 stands for all.
        let count = |key: &str, all, default| match keys.get(key) {
            Some(Value::I32(-1)) => Ok(all),
            _ => Ok::<_, Error>(keys.opt_usize(key)?.unwrap_or(default)),
        };
        let options = Self {
            temperature: real("general.sampling.temp", defaults.temperature)?,
            top_k: count("general.sampling.top_k", 0, defaults.top_k)?,
            top_p: real("general.sampling.top_p", defaults.top_p)?,
            min_p: real("general.sampling.min_p", defaults.min_p)?,
            repeat_penalty: real("general.sampling.penalty_repeat", defaults.repeat_penalty)?,
            repeat_last_n: count("general.sampling.penalty_last_n", usize::MAX, defaults.repeat_last_n)?,
            seed: defaults.seed,
        };
        options.validate()?;
        Ok(options)
    }

    /// Checks that the options make sense.
    ///
    /// # Errors
    /// `Input`, naming the option, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f32, ok: bool, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::input(format!("{name} is {value}, expected {expected}"))),
        };
        let Self { temperature, top_p, min_p, repeat_penalty, .. } = *self;
        check("temperature", temperature, temperature.is_finite() && temperature >= 0.0, "a number from 0 up")?;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "more than 0 and at most 1")?;
        check("min_p", min_p, (0.0..=1.0).contains(&min_p), "0 to 1")?;
        let penalty_ok = repeat_penalty.is_finite() && repeat_penalty > 0.0;
        check("repeat_penalty", repeat_penalty, penalty_ok, "a number above 0")
    }
}

/// A token that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    logit: f32,
    id: u32,
}

impl Candidate {
    /// The likeliest first; among equals the smallest id.
    fn likeliest(a: &Self, b: &Self) -> std::cmp::Ordering {
        b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
    }
}

/// Chooses tokens: repetition penalty, top-k, top-p, min-p, temperature, then a draw; llama.cpp's default order.
///
/// Buffers are reused: after the first token nothing is allocated.
///
/// ```
/// # use pupil::text::{Sampler, SamplerOptions};
/// let mut sampler = Sampler::new(SamplerOptions::greedy())?;
/// assert_eq!(sampler.sample(&[0.1, 2.5, -1.0]), 1);
/// # Ok::<(), pupil::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    rng: SplitMix64,
    recent: VecDeque<u32>,
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
    weights: Vec<f64>,
}

impl Sampler {
    /// A sampler with these options and no history.
    ///
    /// # Errors
    /// As [`SamplerOptions::validate`].
    pub fn new(options: SamplerOptions) -> Result<Self> {
        options.validate()?;
        let rng = SplitMix64(options.seed);
        let (logits, candidates, weights) = Default::default();
        Ok(Self { options, rng, recent: VecDeque::new(), logits, candidates, weights })
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// Tells the sampler that `id` is now part of the text, so that the repetition penalty sees it. Call it for the
    /// tokens of the prompt and for each one chosen.
    pub fn accept(&mut self, id: u32) {
        let window = self.options.repeat_last_n;
        if self.options.repeat_penalty == 1.0 || window == 0 {
            return;
        }
        if self.recent.len() >= window {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
    }

    /// Forgets the tokens accepted and starts the random numbers over.
    pub fn reset(&mut self) {
        self.recent.clear();
        self.rng = SplitMix64(self.options.seed);
    }

    /// Chooses a token from the logits of the whole vocabulary, `[vocab]`. A NaN is never chosen unless there is
    /// nothing else; with +∞ among them the choice is the first +∞.
    ///
    /// # Panics
    /// If `logits` is empty.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        assert!(!logits.is_empty(), "logits of an empty vocabulary");
        if self.recent.is_empty() {
            return self.choose(logits);
        }
        let mut penalized = std::mem::take(&mut self.logits);
        penalized.clear();
        penalized.extend_from_slice(logits);
        penalize(&mut penalized, logits, &self.recent, self.options.repeat_penalty);
        let id = self.choose(&penalized);
        self.logits = penalized;
        id
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        let best = argmax(logits);
        let top = logits[best as usize];
        if self.options.temperature == 0.0 || self.options.top_k == 1 || !top.is_finite() {
            return best;
        }
        let k = if self.options.top_k == 0 { logits.len() } else { self.options.top_k };
        select_top(logits, k, &mut self.candidates);
        keep_top_p(&mut self.candidates, &mut self.weights, top, self.options.top_p);
        keep_min_p(&mut self.candidates, top, self.options.min_p);
        self.draw(top)
    }

    /// Draws from softmax(logit / temperature) of the candidates.
    fn draw(&mut self, top: f32) -> u32 {
        let inverse = 1.0 / f64::from(self.options.temperature);
        // `exp` in double precision: platforms differ in its last bit only, far below what a draw can see.
        self.weights.clear();
        let mut sum = 0.0;
        for candidate in &self.candidates {
            sum += (f64::from(candidate.logit - top) * inverse).exp();
            self.weights.push(sum);
        }
        let point = self.rng.unit() * sum;
        let at = self.weights.partition_point(|&up_to| up_to <= point);
        self.candidates[at.min(self.candidates.len() - 1)].id
    }
}

/// The first index of the largest number; 0 if there is none.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    let mut top = f32::NEG_INFINITY;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > top {
            (best, top) = (id, logit);
        }
    }
    best as u32
}

/// The penalty of CTRL, once for each distinct token however often it came.
fn penalize(penalized: &mut [f32], logits: &[f32], recent: &VecDeque<u32>, penalty: f32) {
    for &id in recent {
        if let (Some(to), Some(&from)) = (penalized.get_mut(id as usize), logits.get(id as usize)) {
            *to = if from > 0.0 { from / penalty } else { from * penalty };
        }
    }
}

/// Puts the `k` likeliest tokens into `out`, sorted if `k` is less than all; NaN and −∞ are never among them.
///
/// One pass with a rising threshold: the buffer fills up to `2k`, is cut back to the best `k`, and from then on only
/// what beats the worst of these gets in.
fn select_top(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    if k >= logits.len() {
        let all = (0..).zip(logits).map(|(id, &logit)| Candidate { logit, id });
        out.extend(all.filter(|c| c.logit > f32::NEG_INFINITY));
        return;
    }
    let room = (2 * k).max(64);
    let mut threshold = f32::NEG_INFINITY;
    for (id, &logit) in (0..).zip(logits) {
        // Later ids lose among equals, so what only equals the threshold cannot get in.
        if logit > threshold {
            out.push(Candidate { logit, id });
            if out.len() == room {
                out.select_nth_unstable_by(k - 1, Candidate::likeliest);
                out.truncate(k);
                threshold = out[k - 1].logit;
            }
        }
    }
    out.sort_unstable_by(Candidate::likeliest);
    out.truncate(k);
}

/// Keeps the shortest run of likeliest candidates whose probabilities sum to at least `p`; sorts no more than needed.
fn keep_top_p(candidates: &mut Vec<Candidate>, weights: &mut Vec<f64>, top: f32, p: f32) {
    if p >= 1.0 {
        return;
    }
    let weight = |c: &Candidate| f64::from(c.logit - top).exp();
    weights.clear();
    weights.extend(candidates.iter().map(weight));
    let wanted = f64::from(p) * weights.iter().sum::<f64>();
    let (mut sorted, mut sum, mut chunk) = (0, 0.0, 64);
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let take = chunk.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, Candidate::likeliest);
        }
        rest[..take].sort_unstable_by(Candidate::likeliest);
        for (at, candidate) in rest[..take].iter().enumerate() {
            sum += weight(candidate);
            if sum >= wanted {
                candidates.truncate(sorted + at + 1);
                return;
            }
        }
        sorted += take;
        chunk *= 4;
    }
}

/// Keeps the candidates at least `p` times as likely as the likeliest.
fn keep_min_p(candidates: &mut Vec<Candidate>, top: f32, p: f32) {
    if p > 0.0 {
        let least = top + p.ln();
        candidates.retain(|c| c.logit >= least);
    }
}

/// The SplitMix64 generator (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1) with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::gguf::{Gguf, OwnedValue, Writer};
    use proptest::prelude::*;

    fn open() -> SamplerOptions {
        SamplerOptions { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Default::default() }
    }

    /// The ids that `options` can give, by drawing often.
    fn reachable(options: SamplerOptions, logits: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut ids: Vec<u32> = (0..2000).map(|_| sampler.sample(logits)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn greedy_takes_the_first_maximum_and_no_nan() {
        let mut greedy = Sampler::new(SamplerOptions::greedy()).unwrap();
        assert_eq!(greedy.sample(&[1.0, 3.0, 3.0, f32::NAN]), 1);
        assert_eq!(greedy.sample(&[f32::NAN, f32::NEG_INFINITY, -5.0]), 2);
        assert_eq!(greedy.sample(&[f32::NAN, f32::NAN]), 0);
        for logits in [&[f32::NAN, 0.0, f32::INFINITY][..], &[f32::NEG_INFINITY, f32::NAN, 1.0]] {
            assert_eq!(reachable(open(), logits), [2]);
            assert_eq!(reachable(SamplerOptions::default(), logits), [2]);
        }
    }

    #[test]
    fn top_p_keeps_the_smallest_sufficient_set() {
        let logits = [0.1f32, 0.5, 0.25, 0.15].map(f32::ln);
        assert_eq!(reachable(SamplerOptions { top_p: 0.5, ..open() }, &logits), [1]);
        assert_eq!(reachable(SamplerOptions { top_p: 0.7, ..open() }, &logits), [1, 2]);
        assert_eq!(reachable(SamplerOptions { top_p: 0.85, ..open() }, &logits), [1, 2, 3]);
        assert_eq!(reachable(SamplerOptions { top_p: 0.95, ..open() }, &logits), [0, 1, 2, 3]);
    }

    #[test]
    fn min_p_is_relative_to_the_likeliest() {
        let logits = [0.1f32, 0.5, 0.25, 0.15].map(f32::ln);
        assert_eq!(reachable(SamplerOptions { min_p: 0.45, ..open() }, &logits), [1, 2]);
        assert_eq!(reachable(SamplerOptions { min_p: 0.25, ..open() }, &logits), [1, 2, 3]);
        assert_eq!(reachable(SamplerOptions { min_p: 1.0, ..open() }, &logits), [1]);
    }

    #[test]
    fn filters_come_before_the_temperature() {
        let logits = [0.6f32, 0.3, 0.1].map(f32::ln);
        let hot = SamplerOptions { temperature: 50.0, top_p: 0.8, ..open() };
        assert_eq!(reachable(hot, &logits), [0, 1]);
    }

    #[test]
    fn repetition_penalty_knows_signs_counts_once_and_forgets() {
        let options = SamplerOptions { repeat_penalty: 2.0, repeat_last_n: 2, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options).unwrap();
        assert_eq!(sampler.sample(&[4.0, 3.0, 2.5]), 0);
        sampler.accept(0);
        assert_eq!(sampler.sample(&[4.0, 3.0, 2.5]), 1);
        assert_eq!(sampler.sample(&[-1.0, -1.5, -9.0]), 1, "-1 becomes -2");
        sampler.accept(0);
        assert_eq!(sampler.sample(&[4.0, 1.5, 0.0]), 0, "penalized once, to 2");
        sampler.accept(1);
        sampler.accept(7_000_000);
        assert_eq!(sampler.sample(&[4.0, 3.0, 2.5]), 0, "out of the window");
    }

    #[test]
    fn frequencies_match_the_softmax() {
        let logits = [1.0f32, 0.0, -1.0, 2.0, 0.5, -0.5, 1.5, -2.0];
        for temperature in [0.5f32, 1.0, 2.0] {
            let mut sampler = Sampler::new(SamplerOptions { temperature, seed: 7, ..open() }).unwrap();
            let mut counts = [0u32; 8];
            let draws = 40_000;
            for _ in 0..draws {
                counts[sampler.sample(&logits) as usize] += 1;
            }
            let weights = logits.map(|l| f64::from(l / temperature).exp());
            let sum: f64 = weights.iter().sum();
            let chi_square: f64 = (0..8)
                .map(|i| {
                    let expected = weights[i] / sum * f64::from(draws);
                    (f64::from(counts[i]) - expected).powi(2) / expected
                })
                .sum();
            assert!(chi_square < 24.3, "χ² = {chi_square} with 7 degrees of freedom (p = 0.001)");
        }
    }

    #[test]
    fn a_seed_fixes_the_tokens() {
        let logits: Vec<f32> = (0..500).map(|i| ((i * 37) % 101) as f32 / 20.0).collect();
        let draw = |seed| {
            let mut sampler = Sampler::new(SamplerOptions { seed, ..Default::default() }).unwrap();
            (0..8).map(|_| sampler.sample(&logits)).collect::<Vec<u32>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut rng = SplitMix64(1234567);
        assert_eq!([rng.next(), rng.next()], [6457827717110365317, 3203168211198807973]);
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = |change: fn(&mut SamplerOptions)| {
            let mut options = SamplerOptions::default();
            change(&mut options);
            Sampler::new(options).unwrap_err().to_string()
        };
        assert_eq!(bad(|o| o.temperature = -1.0), "temperature is -1, expected a number from 0 up");
        assert_eq!(bad(|o| o.temperature = f32::NAN), "temperature is NaN, expected a number from 0 up");
        assert_eq!(bad(|o| o.top_p = 0.0), "top_p is 0, expected more than 0 and at most 1");
        assert_eq!(bad(|o| o.top_p = 1.5), "top_p is 1.5, expected more than 0 and at most 1");
        assert_eq!(bad(|o| o.min_p = f32::NAN), "min_p is NaN, expected 0 to 1");
        assert_eq!(bad(|o| o.repeat_penalty = 0.0), "repeat_penalty is 0, expected a number above 0");
    }

    fn recommended(keys: &[(&str, OwnedValue)]) -> Result<SamplerOptions> {
        let mut writer = Writer::new();
        for (name, value) in keys {
            writer.key(*name, value.clone());
        }
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();
        SamplerOptions::recommended(Gguf::from_bytes(Bytes::from(&file[..]), "test").unwrap().keys())
    }

    #[test]
    fn files_recommend_some_and_leave_the_rest_open() {
        assert_eq!(recommended(&[]).unwrap(), SamplerOptions::default());
        let some = recommended(&[
            ("general.sampling.temp", 0.25_f32.into()),
            ("general.sampling.top_k", (-1_i32).into()),
            ("general.sampling.penalty_repeat", 1.5_f32.into()),
            ("general.sampling.penalty_last_n", 20_i32.into()),
        ]);
        let expected = SamplerOptions {
            temperature: 0.25,
            top_k: 0,
            repeat_penalty: 1.5,
            repeat_last_n: 20,
            ..SamplerOptions::default()
        };
        assert_eq!(some.unwrap(), expected);
    }

    #[test]
    fn recommendations_that_make_no_sense_are_refused() {
        for (key, value, named) in [
            ("general.sampling.temp", OwnedValue::from(-1.0_f32), "temperature is -1"),
            ("general.sampling.top_p", 2.0_f32.into(), "top_p is 2"),
            ("general.sampling.top_k", (-7_i32).into(), "general.sampling.top_k"),
            ("general.sampling.min_p", "much".into(), "general.sampling.min_p"),
        ] {
            let error = recommended(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    proptest! {
        #[test]
        fn top_k_of_one_is_greedy(logits in prop::collection::vec(-9f32..9.0, 1..200), seed: u64) {
            let mut one = Sampler::new(SamplerOptions { top_k: 1, seed, ..open() }).unwrap();
            prop_assert_eq!(one.sample(&logits), argmax(&logits));
        }

        #[test]
        fn select_top_equals_sorting(logits in prop::collection::vec((-20i8..20).prop_map(f32::from), 1..400), k in 1usize..80) {
            let mut all: Vec<Candidate> = (0..).zip(&logits).map(|(id, &logit)| Candidate { logit, id }).collect();
            all.sort_by(Candidate::likeliest);
            all.truncate(k);
            let mut out = Vec::new();
            select_top(&logits, k, &mut out);
            out.sort_by(Candidate::likeliest);
            prop_assert_eq!(out, all);
        }

        #[test]
        fn top_p_equals_sorting(logits in prop::collection::vec(-4f32..4.0, 1..700), p in 0.01f32..0.99) {
            let top = logits[argmax(&logits) as usize];
            let mut all: Vec<Candidate> = (0..).zip(&logits).map(|(id, &logit)| Candidate { logit, id }).collect();
            let mut out = all.clone();
            keep_top_p(&mut out, &mut Vec::new(), top, p);
            all.sort_by(Candidate::likeliest);
            prop_assert_eq!(&out[..], &all[..out.len()]);
            let mass = |c: &[Candidate]| c.iter().map(|c| f64::from(c.logit - top).exp()).sum::<f64>();
            let wanted = f64::from(p) * mass(&all);
            prop_assert!(mass(&out) >= wanted * (1.0 - 1e-9));
            prop_assert!(mass(&out[..out.len() - 1]) < wanted * (1.0 + 1e-9));
        }

        #[test]
        fn never_panics(logits in prop::collection::vec(any::<f32>(), 1..300), k in 0usize..50, p in 0.01f32..=1.0, m in 0f32..=1.0, t in 0f32..3.0) {
            let options = SamplerOptions { temperature: t, top_k: k, top_p: p, min_p: m, repeat_penalty: 1.1, ..open() };
            let mut sampler = Sampler::new(options).unwrap();
            for _ in 0..3 {
                let id = sampler.sample(&logits);
                prop_assert!((id as usize) < logits.len());
                sampler.accept(id);
            }
        }
    }
}
