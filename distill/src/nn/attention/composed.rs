//! Attention out of candle's own operations, on any device: texts are padded, and what is padding is masked.

use super::{Attention, Rotary};
use crate::nn::Segments;
use candle_core::{D, Result, Tensor};

pub(super) fn attend(attention: &Attention, q: &Tensor, kv: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Attention { heads, kv_heads, head_dim, causal, queries, keys, .. } = attention;
    let (n, m) = (queries.longest(), keys.longest());
    if n == 0 || m == 0 {
        return Tensor::zeros((queries.rows(), heads * head_dim), q.dtype(), q.device());
    }
    let group = heads / kv_heads;
    // [texts, heads, rows, head_dim]
    let split = |x: &Tensor, segments: &Segments, first: usize, heads: usize| {
        let x = pad(&x.narrow(1, first * head_dim, heads * head_dim)?, segments)?;
        x.reshape((segments.len(), segments.longest(), heads, *head_dim))?.transpose(1, 2)?.contiguous()
    };
    let shared = |x: Tensor| match group {
        1 => Ok(x),
        _ => {
            let (texts, kv_heads, rows, dims) = x.dims4()?;
            let x = x.unsqueeze(2)?.expand((texts, kv_heads, group, rows, dims))?;
            x.reshape((texts, *heads, rows, dims))
        }
    };
    let mut q = split(q, queries, 0, *heads)?;
    let mut k = shared(split(kv, keys, 0, *kv_heads)?)?;
    let v = shared(split(kv, keys, *kv_heads, *kv_heads)?)?;
    if let Some(rotary) = &attention.rotary {
        (q, k) = (rotate(&q, rotary)?, rotate(&k, rotary)?);
    }
    let mut scores = (q.matmul(&k.t()?)? * f64::from(attention.scale))?;
    if let (Some(bias), Some(buckets)) = (bias, &attention.buckets) {
        let of: Vec<u32> = (0..n * m).map(|i| buckets.of(i / m, i % m) as u32).collect();
        let bias = bias.index_select(&Tensor::new(of, bias.device())?, 0)?;
        scores = scores.broadcast_add(&bias.t()?.reshape((1, *heads, n, m))?)?;
    }
    let hidden: Vec<f32> = keys
        .ranges()
        .flat_map(|range| {
            (0..n * m).map(move |i| (i % m >= range.len() || (*causal && i % m > i / m)) as u8 as f32 * -1e30)
        })
        .collect();
    let hidden = Tensor::from_vec(hidden, (keys.len(), 1, n, m), scores.device())?.to_dtype(scores.dtype())?;
    let scores = scores.broadcast_add(&hidden)?;
    let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let mut p = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
    if let Some(drop) = attention.drop {
        // Places are counted as the fused form counts them: by query, head, key.
        let heads = *heads;
        let place = |first: usize, i: usize| ((first + i / m % n) * heads + i / (n * m)) * m + i % m;
        let factors: Vec<f32> = queries
            .ranges()
            .flat_map(|range| (0..heads * n * m).map(move |i| drop.factor(place(range.start, i))))
            .collect();
        p = (p * Tensor::from_vec(factors, (queries.len(), heads, n, m), v.device())?.to_dtype(v.dtype())?)?;
    }
    let out = p.matmul(&v)?.transpose(1, 2)?.contiguous()?;
    unpad(&out.reshape((queries.len() * n, heads * head_dim))?, queries)
}

/// `[rows, width]` to `[texts × longest, width]`; padding repeats a row of the same tensor.
fn pad(x: &Tensor, segments: &Segments) -> Result<Tensor> {
    let (longest, last) = (segments.longest(), segments.rows() - 1);
    let rows = segments.ranges().flat_map(|range| (0..longest).map(move |i| (range.start + i).min(last) as u32));
    x.contiguous()?.index_select(&Tensor::from_iter(rows, x.device())?, 0)
}

fn unpad(x: &Tensor, segments: &Segments) -> Result<Tensor> {
    let longest = segments.longest();
    let rows =
        segments.ranges().enumerate().flat_map(|(i, range)| (0..range.len()).map(move |j| (i * longest + j) as u32));
    x.index_select(&Tensor::from_iter(rows, x.device())?, 0)
}

/// Rotates neighbouring pairs of `[texts, heads, rows, head_dim]`.
fn rotate(x: &Tensor, rotary: &Rotary) -> Result<Tensor> {
    let (texts, heads, rows, dims) = x.dims4()?;
    let table = |numbers: &[f32]| {
        let table = Tensor::from_slice(&numbers[..rows * rotary.pairs], (rows, rotary.pairs), x.device())?;
        table.to_dtype(x.dtype())
    };
    let (cos, sin) = (table(&rotary.cos)?, table(&rotary.sin)?);
    let pairs = x.reshape((texts, heads, rows, dims / 2, 2))?;
    let (a, b) = (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::stack(&[first, second], 4)?.reshape((texts, heads, rows, dims))
}
