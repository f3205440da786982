//! Attention out of candle's own operations, on any device: texts are padded, and what is padding is masked.

use super::{Attention, Buckets, Rotary};
use crate::nn::{
    Segments,
    by_hand::of_one,
    dropout,
    rows::{NONE, Rows},
};
use candle_core::{D, Device, Result, Tensor};
use std::sync::{Arc, OnceLock};

pub(super) fn attend(attention: &Attention, q: &Tensor, kv: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Attention { heads, kv_heads, head_dim, queries, keys, .. } = attention;
    let (n, m) = (queries.longest(), keys.longest());
    if n == 0 || m == 0 {
        return Tensor::zeros((queries.rows(), heads * head_dim), q.dtype(), q.device());
    }
    let (of_queries, of_keys) = (padding(queries, q.device())?, padding(keys, kv.device())?);
    // [rows, heads × head_dim] to [texts, heads, longest, head_dim]
    let split = |x: Tensor, segments: &Segments, heads: usize| {
        x.reshape((segments.len(), segments.longest(), heads, *head_dim))?.transpose(1, 2)?.contiguous()
    };
    let group = heads / kv_heads;
    let shared = |x: Tensor| match group {
        1 => Ok(x),
        _ => {
            let (texts, kv_heads, rows, dims) = x.dims4()?;
            let x = x.unsqueeze(2)?.expand((texts, kv_heads, group, rows, dims))?;
            x.reshape((texts, *heads, rows, dims))
        }
    };
    let mut q = split(of_queries.pad.of(&(q * f64::from(attention.scale))?)?, queries, *heads)?;
    let kv = of_keys.pad.of(kv)?;
    let half = kv_heads * head_dim;
    let mut k = split(kv.narrow(1, 0, half)?, keys, *kv_heads)?;
    let v = shared(split(kv.narrow(1, half, half)?, keys, *kv_heads)?)?;
    if let Some(rotary) = &attention.rotary {
        (q, k) = (rotate(&q, rotary)?, rotate(&k, rotary)?);
    }
    let mut scores = q.matmul(&shared(k)?.t()?)?;
    if let (Some(bias), Some(buckets)) = (bias, &attention.buckets) {
        scores = scores.broadcast_add(&by_position(bias, buckets, n)?)?;
    }
    let hidden = if attention.causal { of_keys.future(n)? } else { of_keys.beyond.clone() };
    let mut p = softmax(&scores, &hidden.to_dtype(scores.dtype())?)?;
    if let Some(drop) = attention.drop {
        // Places are counted as the fused form counts them: by query, head, key.
        let firsts: Vec<usize> = queries.ranges().map(|range| range.start).collect();
        let place = |i: usize| ((firsts[i / (heads * n * m)] + i / m % n) * heads + i / (n * m) % heads) * m + i % m;
        p = dropout::composed(&p, drop, place)?;
    }
    let out = p.matmul(&v)?.transpose(1, 2)?.contiguous()?;
    of_queries.unpad.of(&out.reshape((queries.len() * n, heads * head_dim))?)
}

/// How texts are laid side by side on a device.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Padding {
    /// `[rows, width]` to `[texts × longest, width]`
    pad: Arc<Rows>,
    unpad: Arc<Rows>,
    /// `[texts, 1, 1, longest]`: what is added to scores so that padding gets none.
    beyond: Tensor,
    /// `[texts, 1, longest, longest]`: the same, and what comes later gets none either.
    future: OnceLock<Tensor>,
}

/// Added to scores that do not count.
const HIDDEN: f32 = -1e30;

fn padding<'a>(segments: &'a Segments, device: &Device) -> Result<&'a Padding> {
    if let Some(known) = segments.padding.get() {
        return Ok(known);
    }
    let (longest, rows) = (segments.longest(), segments.rows());
    let places = segments.ranges().flat_map(|range| (0..longest).map(move |i| (i < range.len(), range.start + i)));
    let places: Vec<u32> = places.map(|(within, row)| if within { row as u32 } else { NONE }).collect();
    let back: Vec<u32> = (0..).zip(&places).filter(|&(_, &row)| row != NONE).map(|(place, _)| place).collect();
    let beyond: Vec<f32> = places.iter().map(|&row| if row == NONE { HIDDEN } else { 0.0 }).collect();
    let padding = Padding {
        pad: Rows::new(&places, rows, device)?,
        unpad: Rows::new(&back, places.len(), device)?,
        beyond: Tensor::from_vec(beyond, (segments.len(), 1, 1, longest), device)?,
        future: OnceLock::new(),
    };
    Ok(segments.padding.get_or_init(|| padding))
}

impl Padding {
    fn future(&self, queries: usize) -> Result<Tensor> {
        if let Some(known) = self.future.get() {
            return Ok(known.clone());
        }
        let keys = self.beyond.dim(3)?;
        let later: Vec<f32> = (0..queries * keys).map(|i| if i % keys > i / keys { HIDDEN } else { 0.0 }).collect();
        let later = Tensor::from_vec(later, (1, 1, queries, keys), self.beyond.device())?;
        let future = self.beyond.broadcast_add(&later)?;
        Ok(self.future.get_or_init(|| future).clone())
    }
}

/// Along the last dimension, after `hidden` was added. candle's own has no gradient.
fn softmax(scores: &Tensor, hidden: &Tensor) -> Result<Tensor> {
    of_one(
        scores,
        |scores| {
            let scores = scores.broadcast_add(hidden)?;
            let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
            powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
        },
        |_, p, gradient| {
            let weighted = (gradient * p)?;
            weighted.sub(&p.broadcast_mul(&weighted.sum_keepdim(D::Minus1)?)?)
        },
    )
}

/// `[buckets, heads]` to `[1, heads, n, n]`, the bias of each query and key, without an index: `[.., n, 2 n]` numbers by
/// distance, the same in all rows, become `[.., n, 2 n − 1]`, each row of which starts one number further back.
fn by_position(bias: &Tensor, buckets: &Buckets, n: usize) -> Result<Tensor> {
    let heads = bias.dim(1)?;
    let by_distance = buckets.one_hot(n, bias.device())?.to_dtype(bias.dtype())?.matmul(bias)?.t()?; // [heads, 2 n]
    let rows = by_distance.unsqueeze(1)?.expand((heads, n, 2 * n))?.reshape((heads, 2 * n * n))?;
    let skewed = rows.narrow(1, 0, n * (2 * n - 1))?.reshape((heads, n, 2 * n - 1))?;
    skewed.narrow(2, 0, n)?.unsqueeze(0)
}

/// What a head's numbers and their neighbours in pairs are multiplied with, each `[positions, head_dim]`.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    own: Tensor,
    neighbour: Tensor,
    /// Who the neighbour is.
    swapped: Tensor,
}

impl Rotary {
    fn tables(&self, device: &Device) -> Result<&Tables> {
        if let Some(known) = self.tables.get() {
            return Ok(known);
        }
        let shape = (self.cos.len() / self.pairs, 2 * self.pairs);
        let own: Vec<f32> = self.cos.iter().flat_map(|&cos| [cos, cos]).collect();
        let neighbour: Vec<f32> = self.sin.iter().flat_map(|&sin| [-sin, sin]).collect();
        let tables = Tables {
            own: Tensor::from_vec(own, shape, device)?,
            neighbour: Tensor::from_vec(neighbour, shape, device)?,
            swapped: Tensor::from_iter((0..2 * self.pairs as u32).map(|i| i ^ 1), device)?,
        };
        Ok(self.tables.get_or_init(|| tables))
    }
}

/// Rotates neighbouring pairs of `[texts, heads, rows, head_dim]`.
fn rotate(x: &Tensor, rotary: &Rotary) -> Result<Tensor> {
    let Tables { own, neighbour, swapped } = rotary.tables(x.device())?.clone();
    let table = |table: &Tensor| table.narrow(0, 0, x.dim(2)?)?.to_dtype(x.dtype());
    let (own, neighbour) = (table(&own)?, table(&neighbour)?);
    let (same_own, same_neighbour, same_swapped) = (own.clone(), neighbour.clone(), swapped.clone());
    of_one(
        x,
        |x| x.broadcast_mul(&own)? + x.index_select(&swapped, 3)?.broadcast_mul(&neighbour)?,
        move |_, _, gradient| {
            let of_neighbour = gradient.broadcast_mul(&same_neighbour)?.index_select(&same_swapped, 3)?;
            gradient.broadcast_mul(&same_own)? + of_neighbour
        },
    )
}
