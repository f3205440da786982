//! Matrix products, shared out over the team: weights from where they are mapped, activations in tiles.

use crate::error::Result;
use crate::kernels::{Kernels, Panel, Tile};
use crate::nets::attention;
use crate::tensor::Tensor;
use crate::threads::Team;
use std::sync::{Mutex, MutexGuard};

/// With fewer tokens than this, each is multiplied by itself; from here on unpacking the weights pays.
const MIN_PANEL_TOKENS: usize = 4;

/// Bytes of weights in a task, for one tile of tokens (for several, less): enough to be worth claiming, and few enough that the
/// thread that takes the last one does not keep the others waiting (10 µs at the speed of memory).
const TASK_BYTES: std::ops::Range<usize> = 24 << 10..128 << 10;

/// What a forward pass computes with: the CPU's kernels, a team of threads, and scratch for each of them.
pub struct Compute {
    /// The kernels in use.
    pub kernels: &'static Kernels,
    /// The threads in use.
    pub team: Team,
    scratch: Vec<Mutex<Scratch>>,
}

/// What one worker needs while it runs a task.
#[derive(Default)]
pub(super) struct Scratch {
    panel: Panel,
    result: Vec<f32>,
    pub(super) row: Vec<f32>,
    pub(super) attention: attention::Scratch,
}

impl Compute {
    /// The fastest kernels of this CPU and a team of `threads`.
    ///
    /// # Errors
    /// `Input` if `PUPIL_ISA` names kernels that this CPU cannot run.
    pub fn new(threads: usize) -> Result<Self> {
        let team = Team::new(threads);
        let scratch = (0..team.threads()).map(|_| Mutex::default()).collect();
        Ok(Self { kernels: Kernels::get()?, team, scratch })
    }

    /// The team, and what its tasks share.
    pub(super) fn split(&mut self) -> (&mut Team, Shared<'_>) {
        (&mut self.team, Shared { kernels: self.kernels, scratch: &self.scratch })
    }
}

/// What tasks share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) kernels: &'static Kernels,
    scratch: &'a [Mutex<Scratch>],
}

impl<'a> Shared<'a> {
    /// The scratch of the worker with this number; never contended.
    pub(super) fn scratch(&self, worker: usize) -> MutexGuard<'a, Scratch> {
        self.scratch[worker].lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The activations of a batch, in tiles.
#[derive(Default)]
pub struct Activations {
    tiles: Vec<Tile>,
    tokens: usize,
    width: usize,
}

impl Activations {
    /// Sets the activations of `tokens` tokens with `cols` elements each, for products with all of `weights`.
    /// `row(scratch, t, out)` computes token t's.
    pub(super) fn set(
        &mut self,
        compute: &mut Compute,
        (tokens, cols): (usize, usize),
        weights: &[&Tensor],
        row: impl Fn(Shared<'_>, usize, &mut [f32]) + Sync,
    ) {
        let float = |w: &&Tensor| w.dtype().block_len() == 1;
        let (floats, quants) = (weights.iter().any(float), !weights.iter().all(float));
        let (team, shared) = compute.split();
        self.width = if tokens < MIN_PANEL_TOKENS { 1 } else { shared.kernels.tile_width(tokens) };
        self.tokens = tokens;
        let width = self.width;
        let count = tokens.div_ceil(width);
        if self.tiles.len() < count {
            self.tiles.resize_with(count, Tile::default);
        }
        team.each(&mut self.tiles[..count], |worker, i, tile| {
            tile.reshape(width, cols, floats, quants);
            let mut buffer = std::mem::take(&mut shared.scratch(worker).row);
            buffer.resize(cols, 0.0);
            for (c, t) in (i * width..tokens.min((i + 1) * width)).enumerate() {
                row(shared, t, &mut buffer);
                shared.kernels.fill(tile, c, &buffer);
            }
            shared.scratch(worker).row = buffer;
        });
    }

    fn tiles(&self) -> &[Tile] {
        &self.tiles[..self.tokens.div_ceil(self.width)]
    }
}

/// What happens to a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It replaces the output.
    Store,
    /// It is added to the output.
    Add,
}

/// `out[t] = parts · x[t]`, with the results of several matrices side by side in rows of `stride` elements.
pub fn multiply(compute: &mut Compute, parts: &[&Tensor], x: &Activations, out: &mut [f32], stride: usize, then: Then) {
    let (team, shared) = compute.split();
    let (cuts, owners) = cut(parts, x, shared.kernels, team.threads());
    team.blocks(out, stride, &[0, x.tokens], &cuts, |worker, _, i, mut block| {
        let (part, first) = owners[i];
        let rows = block.cols().start - first..block.cols().end - first;
        let Scratch { panel, result, .. } = &mut *shared.scratch(worker);
        product(shared.kernels, parts[part], rows, x, panel, result, |t, first, values| {
            let out = &mut block.row(t)[first..][..values.len()];
            match then {
                Then::Store => out.copy_from_slice(values),
                Then::Add => shared.kernels.add(out, values),
            }
        });
    });
}

/// What a gated feed-forward layer does to its gate (Shazeer 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `x σ(x)`: SwiGLU.
    Silu,
    /// GELU in its approximation by tanh: GEGLU.
    Gelu,
}

/// `out[t] = function(gate · x[t]) × (up · x[t])`
pub fn multiply_gated(
    compute: &mut Compute,
    function: Gate,
    gate: &Tensor,
    up: &Tensor,
    x: &Activations,
    out: &mut [f32],
) {
    let (team, shared) = compute.split();
    let (cuts, _) = cut(&[gate], x, shared.kernels, team.threads());
    team.blocks(out, gate.rows(), &[0, x.tokens], &cuts, |worker, _, _, mut block| {
        let Scratch { panel, result, .. } = &mut *shared.scratch(worker);
        let rows = block.cols();
        product(shared.kernels, gate, rows.clone(), x, panel, result, |t, first, values| {
            block.row(t)[first..][..values.len()].copy_from_slice(values);
        });
        product(shared.kernels, up, rows, x, panel, result, |t, first, values| {
            let gate = &mut block.row(t)[first..][..values.len()];
            match function {
                Gate::Silu => shared.kernels.swiglu(gate, values),
                Gate::Gelu => shared.kernels.geglu(gate, values),
            }
        });
    });
}

/// Cuts the output's columns into tasks, none of which reaches over two parts. Gives the cut points and, for each task,
/// its part and that part's first column.
fn cut(parts: &[&Tensor], x: &Activations, kernels: &Kernels, threads: usize) -> (Vec<usize>, Vec<(usize, usize)>) {
    let (mut cuts, mut owners) = (vec![0], Vec::new());
    let mut first = 0;
    let bytes: usize = parts.iter().map(|part| part.data().len()).sum();
    for (i, part) in parts.iter().enumerate() {
        let step = if threads == 1 && x.tokens == 1 {
            part.rows()
        } else {
            // Small enough, too, that several tokens find the weights in the cache.
            let task_bytes = (bytes / (threads * 6)).clamp(TASK_BYTES.start, TASK_BYTES.end) / x.tiles().len();
            let together = if x.width > 1 { kernels.panel_rows } else { 4 };
            (task_bytes / part.row_bytes()).max(1).next_multiple_of(together)
        };
        for row in (0..part.rows()).step_by(step) {
            cuts.push(first + (row + step).min(part.rows()));
            owners.push((i, first));
        }
        first += part.rows();
    }
    (cuts, owners)
}

/// The product of some rows of `weights` with all tokens. `finish(t, first, values)` gets each token's, those of `values.len()`
/// rows from row `first` of `rows` on.
fn product(
    kernels: &Kernels,
    weights: &Tensor,
    rows: std::ops::Range<usize>,
    x: &Activations,
    panel: &mut Panel,
    result: &mut Vec<f32>,
    mut finish: impl FnMut(usize, usize, &[f32]),
) {
    let (n, bytes) = (rows.len(), weights.row_data(rows));
    if x.width == 1 {
        result.resize(n, 0.0);
        for (t, tile) in x.tiles().iter().enumerate() {
            kernels.gemv(weights.dtype(), bytes, tile, result);
            finish(t, 0, result);
        }
        return;
    }
    let panel_bytes = kernels.panel_rows * weights.row_bytes();
    result.resize(x.width * kernels.panel_rows, 0.0);
    for (p, bytes) in bytes.chunks(panel_bytes).enumerate() {
        kernels.unpack(weights.dtype(), bytes, weights.cols(), panel);
        let (first, n) = (p * kernels.panel_rows, bytes.len() / weights.row_bytes());
        for (i, tile) in x.tiles().iter().enumerate() {
            kernels.gemm(weights.dtype(), panel, tile, result);
            for (t, values) in (i * x.width..x.tokens).zip(result.chunks_exact(kernels.panel_rows)) {
                finish(t, first, &values[..n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::quant;
    use crate::tensor::DType;
    use std::sync::Arc;

    const COLS: usize = 64;

    /// Whole numbers, the largest of each 32 being 127: bytes hold them exactly.
    fn number(i: usize, seed: usize) -> f32 {
        if i.is_multiple_of(32) { 127.0 } else { ((i * 37 + seed * 101) % 255) as f32 - 127.0 }
    }

    fn matrix(dtype: DType, rows: usize, seed: usize) -> Tensor {
        let numbers: Vec<f32> = (0..rows * COLS).map(|i| number(i, seed + i / COLS)).collect();
        let bytes = quant::quantize(dtype, &numbers).unwrap();
        Tensor::new(Arc::new(Bytes::from(&bytes[..])), 0..bytes.len(), dtype, vec![COLS, rows])
    }

    fn activations(compute: &mut Compute, tokens: usize, weights: &[&Tensor]) -> Activations {
        let mut x = Activations::default();
        x.set(compute, (tokens, COLS), weights, |_, t, out| {
            out.iter_mut().enumerate().for_each(|(i, x)| *x = number(i, 7 * t));
        });
        x
    }

    /// `weights[row] · x[token]`
    fn product_of(row: usize, seed: usize, token: usize) -> f32 {
        (0..COLS).map(|i| number(row * COLS + i, seed + row) * number(i, 7 * token)).sum()
    }

    /// Rows for several tasks of several panels each, of which the last is no whole one.
    const ROWS: usize = 1003;

    #[test]
    fn every_number_of_tokens_gets_all_rows_of_all_parts() {
        for dtype in [DType::F32, DType::Q8_0] {
            let (a, b) = (matrix(dtype, ROWS, 1), matrix(dtype, 5, 2));
            for (tokens, threads) in [(1, 1), (1, 3), (3, 1), (4, 2), (5, 1), (17, 3), (70, 1)] {
                let compute = &mut Compute::new(threads).unwrap();
                let x = activations(compute, tokens, &[&a, &b]);
                let stride = ROWS + 5 + 2;
                let mut out = vec![0.0; tokens * stride];
                multiply(compute, &[&a, &b], &x, &mut out, stride, Then::Store);
                multiply(compute, &[&a], &x, &mut out, stride, Then::Add);
                for (t, out) in out.chunks_exact(stride).enumerate() {
                    for (row, &found) in out.iter().enumerate() {
                        let expected = match row {
                            ..ROWS => 2.0 * product_of(row, 1, t),
                            _ if row < ROWS + 5 => product_of(row - ROWS, 2, t),
                            _ => 0.0,
                        };
                        assert_eq!(found, expected, "{dtype:?}, row {row} of token {t} of {tokens}, {threads} threads");
                    }
                }
            }
        }
    }

    #[test]
    fn gates_open_their_own_rows() {
        let (gate, up) = (matrix(DType::Q8_0, ROWS, 3), matrix(DType::Q8_0, ROWS, 4));
        for tokens in [1, 2, 4, 19] {
            let compute = &mut Compute::new(2).unwrap();
            let x = activations(compute, tokens, &[&gate, &up]);
            let mut out = vec![0.0; tokens * ROWS];
            multiply_gated(compute, Gate::Silu, &gate, &up, &x, &mut out);
            for (i, found) in out.into_iter().enumerate() {
                let (t, row) = (i / ROWS, i % ROWS);
                let (gate, up) = (f64::from(product_of(row, 3, t)), f64::from(product_of(row, 4, t)));
                let expected = gate / (1.0 + (-gate).exp()) * up;
                let off = (f64::from(found) - expected).abs();
                assert!(off <= 1e-5 * expected.abs() + 1e-6, "row {row} of token {t}: {found}, expected {expected}");
            }
        }
    }
}
