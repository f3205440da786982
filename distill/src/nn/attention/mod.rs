//! Softmax attention (Vaswani et al. 2017) over packed texts, with grouped queries (Ainslie et al. 2023), rotary
//! positions (Su et al. 2021), and additive biases by relative position (Raffel et al. 2020).
//!
//! `fused.rs` is the form for f32 on the CPU, `product.rs` its small matrix products, `composed.rs` the one for the rest.

mod composed;
mod fused;
mod product;

pub(super) use composed::Padding;

use super::{Dropout, Segments};
use candle_core::{Device, Result, Tensor, bail};
use std::sync::{Arc, OnceLock};

/// What attention does beside its inputs.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// Whether a position sees only itself and those before it.
    pub causal: bool,
    /// How queries and keys are rotated.
    pub rotary: Option<Arc<Rotary>>,
    /// Which bias each distance has.
    pub buckets: Option<Arc<Buckets>>,
    /// Which of the probabilities are dropped.
    pub drop: Option<Dropout>,
    /// The texts that ask.
    pub queries: Arc<Segments>,
    /// The texts that are looked at, as many.
    pub keys: Arc<Segments>,
}

impl Attention {
    /// Attention of texts to themselves: `[n, (heads + 2 kv_heads) × head_dim]`, queries, keys and values side by side,
    /// to `[n, heads × head_dim]`. `bias` is `[buckets, heads]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn to_self(self, qkv: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let width = (self.heads + 2 * self.kv_heads) * self.head_dim;
        self.check(qkv, width, qkv, width, bias)?;
        match bias.map_or(super::fused(&[qkv]), |bias| super::fused(&[qkv, bias])) {
            true => fused::attend(self, qkv, None, bias),
            false => {
                let queries = self.heads * self.head_dim;
                composed::attend(&self, &qkv.narrow(1, 0, queries)?, &qkv.narrow(1, queries, width - queries)?, bias)
            }
        }
    }

    /// Attention to other texts: queries `[n, heads × head_dim]`, and keys and values side by side,
    /// `[m, 2 kv_heads × head_dim]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn to_other(self, queries: &Tensor, keys_values: &Tensor) -> Result<Tensor> {
        self.check(queries, self.heads * self.head_dim, keys_values, 2 * self.kv_heads * self.head_dim, None)?;
        match super::fused(&[queries, keys_values]) {
            true => fused::attend(self, queries, Some(keys_values), None),
            false => composed::attend(&self, queries, keys_values, None),
        }
    }

    fn check(&self, q: &Tensor, q_width: usize, kv: &Tensor, kv_width: usize, bias: Option<&Tensor>) -> Result<()> {
        let expected = [(self.queries.rows(), q_width), (self.keys.rows(), kv_width)];
        if [q.dims2()?, kv.dims2()?] != expected || self.queries.len() != self.keys.len() {
            bail!("attention of {:?} to {:?}, expected {expected:?}", q.shape(), kv.shape());
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) || bias.is_some() != self.buckets.is_some() {
            bail!("attention of {} heads to {}, or biases without buckets", self.heads, self.kv_heads);
        }
        if let (Some(bias), Some(buckets)) = (bias, &self.buckets)
            && (bias.dims2()? != (buckets.count, self.heads)
                || self.queries.longest().max(self.keys.longest()) > buckets.longest)
        {
            bail!("biases of {:?}, expected [{}, {}]", bias.shape(), buckets.count, self.heads);
        }
        Ok(())
    }
}

/// Angles of rotary positions: neighbouring pairs of a head's numbers are rotated, as in files of the architecture
/// `llama`.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[positions][head_dim / 2]`
    cos: Vec<f32>,
    sin: Vec<f32>,
    pairs: usize,
    /// The same on the device of those who use it.
    tables: OnceLock<composed::Tables>,
}

impl Rotary {
    /// Angles `position × base^(−2i / head_dim)` for pair i.
    pub fn new(positions: usize, head_dim: usize, base: f64) -> Self {
        let pairs = head_dim / 2;
        let angle =
            |i: usize| ((i / pairs) as f32 * base.powf(-2.0 * (i % pairs) as f64 / head_dim as f64) as f32).sin_cos();
        let (sin, cos) = (0..positions * pairs).map(angle).unzip();
        Self { cos, sin, pairs, tables: OnceLock::new() }
    }

    /// Cosines and sines of a position's pairs.
    #[inline(always)]
    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.pairs..(position + 1) * self.pairs;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// T5's buckets of relative positions: one for each short distance, and one for ever longer ranges of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    /// By key − query + longest − 1.
    by_distance: Vec<u32>,
    longest: usize,
    count: usize,
}

impl Buckets {
    /// `count` buckets up to `max_distance`, of which half are for what comes after the query if `both_ways`, for texts
    /// of up to `longest` rows.
    pub fn new(count: usize, max_distance: usize, both_ways: bool, longest: usize) -> Self {
        let bucket = |relative: isize| {
            let (side, count) = if both_ways { (count / 2, count / 2) } else { (0, count) };
            let first = if both_ways && relative > 0 { side } else { 0 };
            let distance = if both_ways { relative.unsigned_abs() } else { relative.min(0).unsigned_abs() };
            let exact = count / 2;
            if distance < exact {
                return first + distance;
            }
            let log = (distance as f32 / exact as f32).ln() / (max_distance as f32 / exact as f32).ln();
            first + (exact + (log * (count - exact) as f32) as usize).min(count - 1)
        };
        let reach = longest as isize;
        let by_distance = (1 - reach..reach).map(|relative| bucket(relative) as u32).collect();
        Self { by_distance, longest, count }
    }

    /// `[2 n, buckets]` with a 1 in the bucket of key − query, counted from 0 up to n − 1 and then from −n on, of texts of up
    /// to n rows.
    fn one_hot(&self, n: usize, device: &Device) -> Result<Tensor> {
        let mut ones = vec![0.0_f32; 2 * n * self.count];
        for (row, ones) in ones.chunks_exact_mut(self.count).enumerate() {
            // No query has a key n rows before it.
            let (query, key) = if row < n { (0, row) } else { ((2 * n - row).min(n - 1), 0) };
            ones[self.of(query, key)] = 1.0;
        }
        Tensor::from_vec(ones, (2 * n, self.count), device)
    }

    /// The bucket of a key for a query.
    #[inline(always)]
    fn of(&self, query: usize, key: usize) -> usize {
        self.by_distance[key + self.longest - 1 - query] as usize
    }
}

#[cfg(test)]
mod tests;
