//! Matrix products, shared out over the team: weights from where they are mapped, activations in tiles.

use crate::error::Result;
use crate::kernels::{Kernels, Panel, Tile};
use crate::nets::attention;
use crate::tensor::Tensor;
use crate::threads::Team;
use std::sync::{Mutex, MutexGuard};

/// With fewer tokens than this, each is multiplied by itself; from here on unpacking the weights pays.
const MIN_PANEL_TOKENS: usize = 4;

/// Bytes of weights in a task while decoding: enough to be worth claiming, and few enough that the thread that takes the
/// last one does not keep the others waiting (10 µs at the speed of memory).
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
    panels: [Panel; 2],
    results: [Vec<f32>; 2],
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
        let scratch = &mut *shared.scratch(worker);
        let [panel, _] = &mut scratch.panels;
        let [result, _] = &mut scratch.results;
        product(shared.kernels, parts[part], rows, x, panel, result, |t, values| {
            let out = block.row(t);
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
        let scratch = &mut *shared.scratch(worker);
        let [gate_panel, up_panel] = &mut scratch.panels;
        let [result, _] = &mut scratch.results;
        let rows = block.cols();
        product(shared.kernels, gate, rows.clone(), x, gate_panel, result, |t, values| {
            block.row(t).copy_from_slice(values);
        });
        product(shared.kernels, up, rows, x, up_panel, result, |t, values| match function {
            Gate::Silu => shared.kernels.swiglu(block.row(t), values),
            Gate::Gelu => shared.kernels.geglu(block.row(t), values),
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
        let step = if x.width > 1 {
            kernels.panel_rows
        } else if threads == 1 && x.tokens == 1 {
            part.rows()
        } else {
            // Small enough, too, that several tokens find the weights in the cache.
            let task_bytes = (bytes / (threads * 6)).clamp(TASK_BYTES.start, TASK_BYTES.end);
            (task_bytes / part.row_bytes()).next_multiple_of(4)
        };
        for row in (0..part.rows()).step_by(step.max(1)) {
            cuts.push(first + (row + step).min(part.rows()));
            owners.push((i, first));
        }
        first += part.rows();
    }
    (cuts, owners)
}

/// The product of some rows of `weights` with all tokens; `finish(t, values)` gets each token's.
fn product(
    kernels: &Kernels,
    weights: &Tensor,
    rows: std::ops::Range<usize>,
    x: &Activations,
    panel: &mut Panel,
    result: &mut Vec<f32>,
    mut finish: impl FnMut(usize, &[f32]),
) {
    let (n, bytes) = (rows.len(), weights.row_data(rows));
    if x.width == 1 {
        result.resize(n, 0.0);
        for (t, tile) in x.tiles().iter().enumerate() {
            kernels.gemv(weights.dtype(), bytes, tile, result);
            finish(t, result);
        }
        return;
    }
    kernels.unpack(weights.dtype(), bytes, weights.cols(), panel);
    result.resize(x.width * kernels.panel_rows, 0.0);
    for (i, tile) in x.tiles().iter().enumerate() {
        kernels.gemm(weights.dtype(), panel, tile, result);
        for (t, values) in (i * x.width..x.tokens).zip(result.chunks_exact(kernels.panel_rows)) {
            finish(t, &values[..n]);
        }
    }
}
