//! Causal attention over the cache (Vaswani et al. 2017; grouped queries: Ainslie et al. 2023).
//!
//! The queries of some tokens and of all heads that share a key/value head are processed together: each block of keys
//! and values is widened once for all of them.

use crate::kernels::{KEYS, Kernels};
use crate::nets::kv::HeadCache;
use crate::nets::linear::Compute;
use crate::threads::Block;

/// Query rows that a task processes together.
const ROWS: usize = 32;

/// A worker's buffers.
#[derive(Default)]
pub(super) struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// The queries of one batch.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    /// `[tokens][stride]`, of which the first `heads × dims` elements are the queries.
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    pub(super) tokens: usize,
    /// Query heads.
    pub(super) heads: usize,
    /// Elements of a head.
    pub(super) dims: usize,
    /// The first token's position in the cache.
    pub(super) position: usize,
}

/// `out[t] = softmax(q · Kᵀ / √dims) · V` for each head, `out: [tokens][heads × dims]`. The batch's own keys and values
/// are in the cache already.
pub(super) fn attend(compute: &mut Compute, cache: &[HeadCache], queries: Queries<'_>, out: &mut [f32]) {
    let (team, shared) = compute.split();
    let group = queries.heads / cache.len();
    let step = (ROWS / group).max(1);
    let rows: Vec<usize> = (0..queries.tokens).step_by(step).chain([queries.tokens]).collect();
    let cols: Vec<usize> = (0..=cache.len()).map(|head| head * group * queries.dims).collect();
    team.blocks(out, queries.heads * queries.dims, &rows, &cols, |worker, _, head, block| {
        let scratch = &mut shared.scratch(worker).attention;
        attend_block(shared.kernels, &cache[head], queries, head * group, group, block, scratch);
    });
}

/// The widths that query rows come in: as wide as the kernels have it, then the smallest power of two that holds the
/// rest.
fn widths(mut rows: usize, widest: usize) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let width = rows.next_power_of_two().min(widest);
        (rows > 0).then(|| {
            rows = rows.saturating_sub(width);
            width
        })
    })
}

fn attend_block(
    kernels: &Kernels,
    cache: &HeadCache,
    queries: Queries<'_>,
    first_head: usize,
    group: usize,
    mut out: Block<'_>,
    scratch: &mut Scratch,
) {
    let Queries { dims, stride, position, .. } = queries;
    let tokens = out.rows();
    let rows = tokens.len() * group;
    let value_dims = cache.value_dims();
    let blocks = (position + tokens.end).div_ceil(KEYS);
    let widest = kernels.query_width;
    let padded_rows: usize = widths(rows, widest).sum();

    // Queries as [width][dims][rows of the width], scaled.
    let scale = 1.0 / (dims as f32).sqrt();
    scratch.queries.resize(padded_rows * dims, 0.0);
    let mut first = 0;
    for width in widths(rows, widest) {
        for c in 0..width.min(rows - first) {
            let (t, head) = (tokens.start + (first + c) / group, first_head + (first + c) % group);
            let query = &queries.rows[t * stride + head * dims..][..dims];
            let slots = scratch.queries[first * dims..][..width * dims].iter_mut().skip(c).step_by(width);
            slots.zip(query).for_each(|(slot, q)| *slot = q * scale);
        }
        first += width;
    }

    scratch.scores.resize(padded_rows * blocks * KEYS, 0.0);
    for b in 0..blocks {
        let keys = cache.keys(b, kernels, &mut scratch.keys);
        let mut first = 0;
        for width in widths(rows, widest) {
            let q = &scratch.queries[first * dims..][..width * dims];
            let scores = &mut scratch.scores[(first * blocks + b * width) * KEYS..][..width * KEYS];
            kernels.scores(width, q, keys, scores);
            first += width;
        }
    }

    let mut first = 0;
    for width in widths(rows, widest) {
        let scores = &mut scratch.scores[first * blocks * KEYS..][..width * blocks * KEYS];
        for c in 0..width.min(rows - first) {
            let seen = position + tokens.start + (first + c) / group + 1;
            kernels.softmax(scores, width, c, seen);
        }
        first += width;
    }

    scratch.sums.clear();
    scratch.sums.resize(padded_rows * value_dims, 0.0);
    for b in 0..blocks {
        let values = cache.values(b, kernels, &mut scratch.values);
        let mut first = 0;
        for width in widths(rows, widest) {
            let weights = &scratch.scores[(first * blocks + b * width) * KEYS..][..width * KEYS];
            kernels.mix(width, weights, values, &mut scratch.sums[first * value_dims..][..width * value_dims]);
            first += width;
        }
    }
    for (row, sums) in scratch.sums.chunks_exact(value_dims).take(rows).enumerate() {
        let head = &mut out.row(tokens.start + row / group)[row % group * dims..][..dims];
        head.copy_from_slice(&sums[..dims]);
    }
}
