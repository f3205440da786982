//! Attention in f32 on the CPU: texts in parallel, one head after the other, probabilities computed again in the
//! backward pass rather than kept.

use super::Attention;
use super::product::{Left, Padded, add_product};
use crate::loss::vector::exp;
use crate::nn::{numbers, tensor, with_numbers};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::Simd;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A thread's buffers, each `[rows of the text][…]`.
#[derive(Default)]
struct Scratch {
    /// Queries, rotated and scaled.
    q: Padded,
    k: Padded,
    v: Padded,
    /// Keys, and then values, transposed.
    turned: Padded,
    /// Scores, and then probabilities.
    p: Padded,
    out: Padded,
    /// Gradients.
    of_out: Padded,
    of_q: Padded,
    of_k: Padded,
    of_v: Padded,
    of_p: Padded,
}

pub(super) fn attend(attention: Attention, q: &Tensor, kv: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = Op { attention, to_self: kv.is_none() };
    let nothing;
    let bias = match bias {
        Some(bias) => bias,
        None => {
            nothing = Tensor::zeros((), q.dtype(), q.device())?;
            &nothing
        }
    };
    q.apply_op3(kv.unwrap_or(q), bias, op)
}

/// Inputs: queries (or all), keys and values (or all again), biases (or nothing).
struct Op {
    attention: Attention,
    to_self: bool,
}

/// Columns of one text's rows.
struct Columns {
    stride: usize,
    first: usize,
}

/// One text's rows of everything.
struct Text<'a> {
    q: &'a [f32],
    kv: &'a [f32],
    bias: &'a [f32],
    /// Rows of queries and of keys.
    rows: (usize, usize),
    /// The first query's row among all.
    first: usize,
}

impl Op {
    fn q_width(&self) -> usize {
        let Attention { heads, kv_heads, head_dim, .. } = self.attention;
        if self.to_self { (heads + 2 * kv_heads) * head_dim } else { heads * head_dim }
    }

    fn kv_width(&self) -> usize {
        if self.to_self { self.q_width() } else { 2 * self.attention.kv_heads * self.attention.head_dim }
    }

    /// Where a head's queries are, and keys and values.
    fn columns(&self, head: usize) -> [Columns; 3] {
        let Attention { heads, kv_heads, head_dim, .. } = self.attention;
        let kv_head = head / (heads / kv_heads);
        let key = if self.to_self { heads } else { 0 } + kv_head;
        [(self.q_width(), head), (self.kv_width(), key), (self.kv_width(), key + kv_heads)]
            .map(|(stride, head)| Columns { stride, first: head * head_dim })
    }

    fn texts<'a>(&'a self, q: &'a [f32], kv: &'a [f32], bias: &'a [f32]) -> impl Iterator<Item = Text<'a>> {
        let (q_width, kv_width) = (self.q_width(), self.kv_width());
        let rows = |all: &'a [f32], range: Range<usize>, width| &all[range.start * width..range.end * width];
        self.attention.queries.ranges().zip(self.attention.keys.ranges()).map(move |(queries, keys)| Text {
            rows: (queries.len(), keys.len()),
            first: queries.start,
            q: rows(q, queries, q_width),
            kv: rows(kv, keys, kv_width),
            bias,
        })
    }

    /// Puts a head's columns into `to`, rotated if they have positions, times `scale`.
    #[inline(always)]
    fn load(&self, to: &mut Padded, from: &[f32], rows: usize, columns: &Columns, rotate: bool, scale: f32) {
        let dims = self.attention.head_dim;
        to.clear(rows, dims);
        let stride = to.stride();
        for (row, out) in to.flat_mut().chunks_exact_mut(stride).take(rows).enumerate() {
            let from = &from[row * columns.stride + columns.first..][..dims];
            match &self.attention.rotary {
                Some(rotary) if rotate => {
                    let (cos, sin) = rotary.at(row);
                    for (pair, (out, from)) in out.chunks_exact_mut(2).zip(from.chunks_exact(2)).enumerate() {
                        out[0] = scale * (from[0] * cos[pair] - from[1] * sin[pair]);
                        out[1] = scale * (from[1] * cos[pair] + from[0] * sin[pair]);
                    }
                }
                _ => {
                    for (out, from) in out.iter_mut().zip(from) {
                        *out = scale * from;
                    }
                }
            }
        }
    }

    /// Adds `from`, rotated back if its columns have positions, to a head's columns of `to`.
    #[inline(always)]
    fn store(&self, to: &mut [f32], from: &Padded, rows: usize, columns: &Columns, rotate: bool, scale: f32) {
        let dims = self.attention.head_dim;
        for (row, from) in from.flat().chunks_exact(from.stride()).take(rows).enumerate() {
            let to = &mut to[row * columns.stride + columns.first..][..dims];
            match &self.attention.rotary {
                Some(rotary) if rotate => {
                    let (cos, sin) = rotary.at(row);
                    for (pair, (to, from)) in to.chunks_exact_mut(2).zip(from.chunks_exact(2)).enumerate() {
                        to[0] += scale * (from[0] * cos[pair] + from[1] * sin[pair]);
                        to[1] += scale * (from[1] * cos[pair] - from[0] * sin[pair]);
                    }
                }
                _ => {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += scale * from;
                    }
                }
            }
        }
    }

    /// Loads a head and computes its probabilities, without dropout.
    #[inline(always)]
    fn probabilities<S: Simd>(&self, simd: S, text: &Text<'_>, head: usize, scratch: &mut Scratch) {
        let Attention { heads, head_dim, scale, causal, .. } = self.attention;
        let (n, m) = text.rows;
        let Scratch { q, k, v, turned, p, .. } = scratch;
        let [of_q, of_k, of_v] = self.columns(head);
        self.load(q, text.q, n, &of_q, true, scale);
        self.load(k, text.kv, m, &of_k, true, 1.0);
        self.load(v, text.kv, m, &of_v, false, 1.0);
        turned.transpose(k, m, head_dim);
        p.clear(n, m);
        add_product(simd, p, n, head_dim, Left { data: q.flat(), row: q.stride(), column: 1 }, turned);
        let stride = p.stride();
        for (i, row) in p.flat_mut().chunks_exact_mut(stride).take(n).enumerate() {
            let seen = if causal { i + 1 } else { m };
            if let Some(buckets) = &self.attention.buckets {
                for (j, score) in row[..seen].iter_mut().enumerate() {
                    *score += text.bias[buckets.of(i, j) * heads + head];
                }
            }
            row[seen..].fill(f32::NEG_INFINITY);
            softmax(row);
        }
    }

    /// Drops probabilities, or gradients of them. A number's place is counted by query, head and key.
    #[inline(always)]
    fn drop(&self, text: &Text<'_>, head: usize, p: &mut Padded) {
        let Some(drop) = self.attention.drop else { return };
        let (heads, longest, stride) = (self.attention.heads, self.attention.keys.longest(), p.stride());
        for (i, row) in p.flat_mut().chunks_exact_mut(stride).enumerate() {
            let first = ((text.first + i) * heads + head) * longest;
            for (j, p) in row.iter_mut().enumerate() {
                *p *= drop.factor(first + j);
            }
        }
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, text: &Text<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let Attention { heads, head_dim, .. } = self.attention;
        let (n, m) = text.rows;
        if n == 0 || m == 0 {
            return;
        }
        for head in 0..heads {
            self.probabilities(simd, text, head, scratch);
            let Scratch { v, p, out: sums, .. } = scratch;
            self.drop(text, head, p);
            sums.clear(n, head_dim);
            add_product(simd, sums, n, m, Left { data: p.flat(), row: p.stride(), column: 1 }, v);
            let columns = Columns { stride: heads * head_dim, first: head * head_dim };
            self.store(out, sums, n, &columns, false, 1.0);
        }
    }

    /// Adds gradients to the zeros in `of_q`, and in `of_kv` if those are not the same, and gives those of the biases.
    #[inline(always)]
    fn backward<S: Simd>(
        &self,
        simd: S,
        text: &Text<'_>,
        of_out: &[f32],
        gradients: [&mut [f32]; 2],
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let Attention { heads, kv_heads, head_dim, scale, .. } = self.attention;
        let (n, m) = text.rows;
        let [of_queries, of_keys] = gradients;
        let mut of_bias = vec![0.0; text.bias.len()];
        if n == 0 || m == 0 {
            return of_bias;
        }
        let group = heads / kv_heads;
        for head in 0..heads {
            self.probabilities(simd, text, head, scratch);
            let Scratch { q, k, v, turned, p, of_out: of_sums, of_q, of_k, of_v, of_p, .. } = &mut *scratch;
            let columns = Columns { stride: heads * head_dim, first: head * head_dim };
            self.load(of_sums, of_out, n, &columns, false, 1.0);

            // ∂P = ∂O Vᵀ, ∂S = P (∂P − Σ P ∂P)
            turned.transpose(v, m, head_dim);
            of_p.clear(n, m);
            add_product(
                simd,
                of_p,
                n,
                head_dim,
                Left { data: of_sums.flat(), row: of_sums.stride(), column: 1 },
                turned,
            );
            self.drop(text, head, of_p);
            let stride = p.stride();
            let rows = of_p.flat_mut().chunks_exact_mut(stride).zip(p.flat().chunks_exact(stride)).take(n);
            for (i, (of_p, p)) in rows.enumerate() {
                let along: f32 = of_p.iter().zip(p).map(|(of_p, p)| of_p * p).sum();
                for (of_p, p) in of_p.iter_mut().zip(p) {
                    *of_p = p * (*of_p - along);
                }
                if let Some(buckets) = &self.attention.buckets {
                    for (j, of_score) in of_p[..m].iter().enumerate() {
                        of_bias[buckets.of(i, j) * heads + head] += of_score;
                    }
                }
            }

            // ∂Q = ∂S K, ∂K = ∂Sᵀ Q, ∂V = Pᵀ ∂O
            of_q.clear(n, head_dim);
            add_product(simd, of_q, n, m, Left { data: of_p.flat(), row: stride, column: 1 }, k);
            if head % group == 0 {
                of_k.clear(m, head_dim);
                of_v.clear(m, head_dim);
            }
            add_product(simd, of_k, m, n, Left { data: of_p.flat(), row: 1, column: stride }, q);
            self.drop(text, head, p);
            add_product(simd, of_v, m, n, Left { data: p.flat(), row: 1, column: stride }, of_sums);

            let [q_columns, k_columns, v_columns] = self.columns(head);
            self.store(of_queries, of_q, n, &q_columns, true, scale);
            if head % group == group - 1 {
                let to = if self.to_self { &mut *of_queries } else { &mut *of_keys };
                self.store(to, of_k, m, &k_columns, true, 1.0);
                self.store(to, of_v, m, &v_columns, false, 1.0);
            }
        }
        of_bias
    }
}

/// The passes as types: a closure would not be inlined into what is compiled for the processor's vectors, and would
/// call a function for every multiply-add.
struct Forward<'a, 'b> {
    op: &'a Op,
    text: &'a Text<'b>,
    out: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl pulp::WithSimd for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.op.forward(simd, self.text, self.out, self.scratch);
    }
}

struct Backward<'a, 'b> {
    op: &'a Op,
    text: &'a Text<'b>,
    of_out: &'a [f32],
    gradients: [&'a mut [f32]; 2],
    scratch: &'a mut Scratch,
}

impl pulp::WithSimd for Backward<'_, '_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        self.op.backward(simd, self.text, self.of_out, self.gradients, self.scratch)
    }
}

/// In place; what is −∞ becomes 0, as does what follows the row in its last group.
#[inline(always)]
fn softmax(row: &mut [f32]) {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = exp(*x - max);
        sum += *x;
    }
    let inverse = 1.0 / sum;
    for x in row.iter_mut() {
        *x *= inverse;
    }
}

/// Cuts rows of `width` numbers apart.
fn split(mut all: &mut [f32], rows: impl Iterator<Item = usize>, width: usize) -> Vec<&mut [f32]> {
    rows.map(|rows| all.split_off_mut(..rows * width).expect("as many rows")).collect()
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        kv: &CpuStorage,
        kv_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, kv, bias) = (numbers(q, q_layout)?, numbers(kv, kv_layout)?, numbers(bias, bias_layout)?);
        let queries = &self.attention.queries;
        let width = self.attention.heads * self.attention.head_dim;
        let mut out = vec![0.0; queries.rows() * width];
        let outs = split(&mut out, queries.ranges().map(|range| range.len()), width);
        let texts: Vec<_> = self.texts(q, kv, bias).zip(outs).collect();
        texts.into_par_iter().for_each(|(text, out)| {
            SCRATCH
                .with_borrow_mut(|scratch| pulp::Arch::new().dispatch(Forward { op: self, text: &text, out, scratch }));
        });
        Ok((CpuStorage::F32(out), Shape::from((queries.rows(), width))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        of_out: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Attention { queries, keys, heads, head_dim, .. } = &self.attention;
        let (of_q, of_kv, of_bias) = with_numbers([q, kv, bias, of_out], |[q_all, kv_all, bias, of_out]| {
            let mut of_q = vec![0.0; q_all.len()];
            let mut of_kv = vec![0.0; if self.to_self { 0 } else { kv_all.len() }];
            let of_qs = split(&mut of_q, queries.ranges().map(|range| range.len()), self.q_width());
            let kv_width = if self.to_self { 0 } else { self.kv_width() };
            let of_kvs = split(&mut of_kv, keys.ranges().map(|range| range.len()), kv_width);
            let texts: Vec<_> = self.texts(q_all, kv_all, bias).zip(of_qs.into_iter().zip(of_kvs)).collect();
            let width = heads * head_dim;
            let backward = |(text, (of_q, of_kv)): (Text<'_>, (&mut [f32], &mut [f32]))| {
                let of_out = &of_out[text.first * width..];
                SCRATCH.with_borrow_mut(|scratch| {
                    let gradients = [of_q, of_kv];
                    pulp::Arch::new().dispatch(Backward { op: self, text: &text, of_out, gradients, scratch })
                })
            };
            let parts: Vec<_> = texts.into_par_iter().map(backward).collect();
            let mut of_bias = vec![0.0; bias.len()];
            for part in parts {
                of_bias.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            (of_q, of_kv, of_bias)
        })?;
        Ok((
            Some(tensor(of_q, q)?),
            if self.to_self { None } else { Some(tensor(of_kv, kv)?) },
            if self.attention.buckets.is_some() { Some(tensor(of_bias, bias)?) } else { None },
        ))
    }
}
