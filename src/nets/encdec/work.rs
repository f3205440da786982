//! What encoder and decoder have in common: the steps of a layer, on the rows of a batch.

use crate::nets::attention::{Bias, Queries, Span, attend};
use crate::nets::encdec::{Config, FeedForward};
use crate::nets::kv::HeadCache;
use crate::nets::linear::{Activations, Compute, Gate, Then, multiply, multiply_gated};
use crate::tensor::Tensor;

/// The state of a batch between steps, one row for each token.
pub(super) struct Work {
    pub(super) compute: Compute,
    x: Activations,
    rows: usize,
    /// `[rows][embedding]`
    pub(super) hidden: Vec<f32>,
    /// `[rows][stride]`: queries, keys and values, or some of them, side by side.
    projected: Vec<f32>,
    stride: usize,
    /// `[rows][heads × head_dim]`
    attended: Vec<f32>,
    /// `[rows][feed_forward]`
    inner: Vec<f32>,
}

impl Work {
    pub(super) fn new(threads: usize) -> crate::error::Result<Self> {
        Ok(Self {
            compute: Compute::new(threads)?,
            x: Activations::default(),
            rows: 0,
            hidden: Vec::new(),
            projected: Vec::new(),
            stride: 0,
            attended: Vec::new(),
            inner: Vec::new(),
        })
    }

    /// Starts a batch of `rows` rows; fill `hidden` next.
    pub(super) fn start(&mut self, rows: usize, config: &Config) {
        self.rows = rows;
        self.hidden.resize(rows * config.embedding, 0.0);
    }

    /// Sets the activations to `norm(hidden)`, for a product with `weights`.
    fn norm(&mut self, norm: &[f32], epsilon: f32, weights: &[&Tensor]) {
        let (hidden, width) = (&self.hidden, norm.len());
        self.x.set(&mut self.compute, (self.rows, width), weights, |shared, t, out| {
            shared.kernels.rms_norm(&hidden[t * width..][..width], norm, epsilon, out);
        });
    }

    /// `projected = weights · norm(hidden)`, the results side by side.
    pub(super) fn project(&mut self, norm: &[f32], epsilon: f32, weights: &[&Tensor]) {
        self.norm(norm, epsilon, weights);
        self.multiply(weights);
    }

    /// `projected = weights · x`, for rows of `cols` elements that did not come from `hidden`.
    pub(super) fn project_rows(&mut self, x: &[f32], cols: usize, weights: &[&Tensor]) {
        self.rows = x.len() / cols;
        self.x.set(&mut self.compute, (self.rows, cols), weights, |_, t, out| {
            out.copy_from_slice(&x[t * cols..][..cols])
        });
        self.multiply(weights);
    }

    fn multiply(&mut self, weights: &[&Tensor]) {
        self.stride = weights.iter().map(|part| part.rows()).sum();
        self.projected.resize(self.rows * self.stride, 0.0);
        multiply(&mut self.compute, weights, &self.x, &mut self.projected, self.stride, Then::Store);
    }

    /// `out = weights · norm(hidden)`
    pub(super) fn logits(&mut self, norm: &[f32], epsilon: f32, weights: &Tensor, out: &mut Vec<f32>) {
        self.norm(norm, epsilon, &[weights]);
        out.resize(self.rows * weights.rows(), 0.0);
        multiply(&mut self.compute, &[weights], &self.x, out, weights.rows(), Then::Store);
    }

    /// Stores the keys and values in `projected`, which begin at element `first` of a row: row t's at `position(t)`.
    pub(super) fn remember(&mut self, cache: &mut [HeadCache], first: usize, position: impl Fn(usize) -> usize + Sync) {
        let dims = (self.stride - first) / 2 / cache.len();
        let (rows, stride, values) = (&self.projected, self.stride, first + dims * cache.len());
        let write = |head: usize, cache: &mut HeadCache| {
            for (t, row) in rows.chunks_exact(stride).enumerate() {
                cache.write(position(t), &row[first + head * dims..][..dims], &row[values + head * dims..][..dims]);
            }
        };
        if self.rows < 8 {
            cache.iter_mut().enumerate().for_each(|(head, cache)| write(head, cache));
        } else {
            self.compute.team.each(cache, |_, head, cache| write(head, cache));
        }
    }

    /// `hidden += output · attention(queries in projected)`. Scores are not scaled: the weights are trained that way.
    pub(super) fn attend(&mut self, cache: &[HeadCache], spans: &[Span<'_>], bias: Option<Bias<'_>>, output: &Tensor) {
        let width = output.cols();
        self.attended.resize(self.rows * width, 0.0);
        let (heads, dims) = (cache.len(), width / cache.len());
        let queries = Queries { rows: &self.projected, stride: self.stride, heads, dims, scale: 1.0 };
        attend(&mut self.compute, cache, queries, spans, bias, &mut self.attended);
        let attended = &self.attended;
        self.x.set(&mut self.compute, (self.rows, width), &[output], |_, t, out| {
            out.copy_from_slice(&attended[t * width..][..width]);
        });
        self.add(output);
    }

    /// `hidden += down · relu(up · norm(hidden))`, or with a gate `hidden += down · (gelu(gate · …) × up · …)`
    pub(super) fn feed_forward(&mut self, layer: &FeedForward, epsilon: f32) {
        let FeedForward { norm, gate, up, down } = layer;
        let width = up.rows();
        self.inner.resize(self.rows * width, 0.0);
        match gate {
            Some(gate) => {
                self.norm(norm, epsilon, &[gate, up]);
                multiply_gated(&mut self.compute, Gate::Gelu, gate, up, &self.x, &mut self.inner);
            }
            None => {
                self.norm(norm, epsilon, &[up]);
                multiply(&mut self.compute, &[up], &self.x, &mut self.inner, width, Then::Store);
            }
        }
        let (inner, linear) = (&self.inner, gate.is_some());
        self.x.set(&mut self.compute, (self.rows, width), &[down], |_, t, out| {
            let row = &inner[t * width..][..width];
            match linear {
                true => out.copy_from_slice(row),
                false => out.iter_mut().zip(row).for_each(|(out, x)| *out = x.max(0.0)),
            }
        });
        self.add(down);
    }

    fn add(&mut self, weights: &Tensor) {
        let width = weights.rows();
        multiply(&mut self.compute, &[weights], &self.x, &mut self.hidden, width, Then::Add);
    }
}
