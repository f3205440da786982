//! Attention over the cache (Vaswani et al. 2017; grouped queries: Ainslie et al. 2023).
//!
//! The queries of some tokens and of all heads that share a key/value head are processed together: each block of keys
//! and values is widened once for all of them.

use crate::kernels::{KEYS, Kernels};
use crate::nets::kv::HeadCache;
use crate::nets::linear::Compute;
use crate::threads::Block;
use std::ops::Range;

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
    /// `[rows][stride]`, of which the first `heads × dims` elements are the queries.
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    /// Query heads.
    pub(super) heads: usize,
    /// Elements of a head.
    pub(super) dims: usize,
    /// What scores are multiplied by.
    pub(super) scale: f32,
}

/// Consecutive rows of queries that look at the same keys.
#[derive(Debug, Clone)]
pub(super) struct Span<'a> {
    pub(super) rows: Range<usize>,
    /// Where the keys are.
    pub(super) place: Place<'a>,
    /// The first row's position among the keys; the others follow it.
    pub(super) position: usize,
    pub(super) sight: Sight,
}

/// Blocks of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// From this one on, one after the other.
    From(usize),
    /// These.
    Blocks(&'a [usize]),
}

impl Place<'_> {
    fn block(self, i: usize) -> usize {
        match self {
            Self::From(first) => first + i,
            Self::Blocks(blocks) => blocks[i],
        }
    }
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sight {
    /// Those up to its own position.
    Past,
    /// As many as that, whatever its position.
    All(usize),
}

impl Span<'_> {
    /// How many keys the query in `row` sees.
    fn seen(&self, row: usize) -> usize {
        match self.sight {
            Sight::Past => self.position + row - self.rows.start + 1,
            Sight::All(keys) => keys,
        }
    }

    /// The span in parts small enough for a task, of queries with `group` heads to a key/value head.
    pub(super) fn parts(self, group: usize) -> impl Iterator<Item = Self> {
        let step = (ROWS / group).max(1);
        self.rows.clone().step_by(step).map(move |start| Self {
            rows: start..(start + step).min(self.rows.end),
            position: self.position + start - self.rows.start,
            ..self
        })
    }
}

/// What is added to the scores, by how far a key is after its query: relative positions.
#[derive(Clone, Copy)]
pub(super) struct Bias<'a> {
    /// `[heads][stride]`, with distance 0 at `zero`.
    pub(super) table: &'a [f32],
    pub(super) stride: usize,
    pub(super) zero: usize,
}

impl<'a> Bias<'a> {
    /// Of one head and the query at `position`: one number for each key.
    fn row(&self, head: usize, position: usize) -> &'a [f32] {
        &self.table[head * self.stride..][..self.stride][self.zero - position..]
    }
}

/// `out[t] = softmax(scale × q · Kᵀ + bias) · V` for each head, `out: [rows][heads × dims]`. The spans follow each other
/// and cover all rows; their keys and values are in the cache already.
pub(super) fn attend(
    compute: &mut Compute,
    cache: &[HeadCache],
    queries: Queries<'_>,
    spans: &[Span<'_>],
    bias: Option<Bias<'_>>,
    out: &mut [f32],
) {
    let (team, shared) = compute.split();
    let group = queries.heads / cache.len();
    let rows: Vec<usize> = std::iter::once(0).chain(spans.iter().map(|span| span.rows.end)).collect();
    let cols: Vec<usize> = (0..=cache.len()).map(|head| head * group * queries.dims).collect();
    team.blocks(out, queries.heads * queries.dims, &rows, &cols, |worker, i, head, block| {
        let scratch = &mut shared.scratch(worker).attention;
        let heads = head * group..(head + 1) * group;
        attend_block(shared.kernels, &cache[head], queries, &spans[i], heads, bias, block, scratch);
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

/// Attention of the heads `heads`, which share the key/value head `cache`, over one span.
#[allow(clippy::too_many_arguments)]
fn attend_block(
    kernels: &Kernels,
    cache: &HeadCache,
    queries: Queries<'_>,
    span: &Span<'_>,
    heads: Range<usize>,
    bias: Option<Bias<'_>>,
    mut out: Block<'_>,
    scratch: &mut Scratch,
) {
    let Queries { dims, stride, scale, .. } = queries;
    let group = heads.len();
    let rows = span.rows.len() * group;
    // Row r is a query of this token and head.
    let of = |r: usize| (span.rows.start + r / group, heads.start + r % group);
    let value_dims = cache.value_dims();
    let blocks = span.seen(span.rows.end - 1).div_ceil(KEYS);
    let widest = kernels.query_width;
    let padded_rows: usize = widths(rows, widest).sum();

    // Queries as [width][dims][rows of the width], scaled.
    scratch.queries.resize(padded_rows * dims, 0.0);
    let mut first = 0;
    for width in widths(rows, widest) {
        for c in 0..width.min(rows - first) {
            let (t, head) = of(first + c);
            let query = &queries.rows[t * stride + head * dims..][..dims];
            let slots = scratch.queries[first * dims..][..width * dims].iter_mut().skip(c).step_by(width);
            slots.zip(query).for_each(|(slot, q)| *slot = q * scale);
        }
        first += width;
    }

    scratch.scores.resize(padded_rows * blocks * KEYS, 0.0);
    for b in 0..blocks {
        let keys = cache.keys(span.place.block(b), kernels, &mut scratch.keys);
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
            let (t, head) = of(first + c);
            if let Some(bias) = bias {
                let biases = bias.row(head, span.position + t - span.rows.start);
                let scores = scores.chunks_exact_mut(width * KEYS).map(|block| &mut block[c * KEYS..][..KEYS]);
                for (scores, biases) in scores.zip(biases.chunks(KEYS)) {
                    scores.iter_mut().zip(biases).for_each(|(score, bias)| *score += bias);
                }
            }
            kernels.softmax(scores, width, c, span.seen(t));
        }
        first += width;
    }

    scratch.sums.clear();
    scratch.sums.resize(padded_rows * value_dims, 0.0);
    for b in 0..blocks {
        let values = cache.values(span.place.block(b), kernels, &mut scratch.values);
        let mut first = 0;
        for width in widths(rows, widest) {
            let weights = &scratch.scores[(first * blocks + b * width) * KEYS..][..width * KEYS];
            kernels.mix(width, weights, values, &mut scratch.sums[first * value_dims..][..width * value_dims]);
            first += width;
        }
    }
    for (row, sums) in scratch.sums.chunks_exact(value_dims).take(rows).enumerate() {
        let head = &mut out.row(of(row).0)[row % group * dims..][..dims];
        head.copy_from_slice(&sums[..dims]);
    }
}
