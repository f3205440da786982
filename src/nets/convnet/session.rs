//! One stream of pictures through a network.

use super::layer::Layer;
use super::plan::Plan;
use super::program::{Op, Program, Quant, Shape};
use super::{ConvNet, maps};
use crate::error::Result;
use crate::kernels::{Buffer, Kernels, MapKernels, Out, Rows, Taps};
use crate::threads::Team;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Elements behind each buffer that kernels may read, but make nothing of.
const SLACK: usize = 64;

/// The most tasks of an operation.
const MAX_TASKS: usize = 64;

/// What running a network needs besides the network: memory for its values, which is allocated once, and threads.
pub struct Session {
    net: Arc<ConvNet>,
    plan: Plan,
    /// One for each operation that is a convolution.
    layers: Vec<Option<Layer>>,
    memory: Memory,
    workers: Workers,
    outputs: Vec<Vec<f32>>,
}

/// The buffers that values lie in.
struct Memory {
    floats: Vec<Buffer<f32>>,
    bytes: Vec<Buffer<u8>>,
}

/// The threads, and what each of them needs.
pub(super) struct Workers {
    pub(super) kernels: &'static MapKernels,
    team: Team,
    scratch: Vec<Mutex<Scratch>>,
}

/// What one worker needs while it runs a task.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) taps: Taps,
    pub(super) floats: Rows<f32>,
    pub(super) bytes: Rows<u8>,
    pub(super) sums: Buffer<f32>,
    pub(super) lines: [Vec<f32>; 4],
    pub(super) row: Vec<u8>,
}

/// A value as operations read it.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub(super) shape: Shape,
    /// Elements from one pixel to the next.
    pub(super) pixel: usize,
    pub(super) data: Data<'a>,
}

/// A map's elements, from the first one on; what lies behind the last is to be ignored.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    F32(&'a [f32]),
    U8(&'a [u8], Quant),
}

/// Where an operation writes its result.
pub(super) struct Target<'a> {
    pub(super) shape: Shape,
    /// Elements from one pixel to the next.
    pub(super) pixel: usize,
    /// From the first element on; what lies behind the last belongs to others.
    pub(super) out: Out<'a>,
}

impl Session {
    /// Plans the memory and starts `threads` threads, the calling one included.
    ///
    /// # Errors
    /// `Input` if `PUPIL_ISA` names kernels that this CPU cannot run.
    pub fn new(net: Arc<ConvNet>, threads: usize) -> Result<Self> {
        Ok(Self::with_kernels(net, Kernels::get()?.maps(), threads))
    }

    pub(super) fn with_kernels(net: Arc<ConvNet>, kernels: &'static MapKernels, threads: usize) -> Self {
        let program = net.program();
        let plan = Plan::new(program);
        let layers = (0..program.ops().len()).map(|i| Layer::new(&net, i, &plan.places, kernels)).collect();
        let mut memory = Memory {
            floats: plan.floats.iter().map(|n| Buffer::new(n + SLACK)).collect(),
            bytes: plan.bytes.iter().map(|n| Buffer::new(n + SLACK)).collect(),
        };
        // Constants have places of their own, which nothing overwrites.
        for (op, place) in program.ops().iter().zip(&plan.places[1..]) {
            if let Op::Constant { name, .. } = op {
                let constant = &net.constants()[name];
                memory.floats[place.buffer][place.offset..][..constant.len()].copy_from_slice(constant);
            }
        }
        let outputs = program.outputs().iter().map(|&x| vec![0.0; program.shapes()[x].len()]).collect();
        Self { plan, layers, memory, workers: Workers::new(kernels, threads), outputs, net }
    }

    /// The network.
    pub fn net(&self) -> &Arc<ConvNet> {
        &self.net
    }

    /// The network, out of the session that runs it; `None` if another session runs it as well.
    pub fn into_net(self) -> Option<ConvNet> {
        Arc::into_inner(self.net)
    }

    /// Where the picture goes, `[height][width][channels]`, normalised. A run overwrites it.
    pub fn input(&mut self) -> &mut [f32] {
        &mut self.memory.floats[self.plan.places[0].buffer][..self.net.program().shapes()[0].len()]
    }

    /// The result at this position of the program's outputs, `[height][width][channels]`.
    pub fn output(&self, i: usize) -> &[f32] {
        &self.outputs[i]
    }

    /// Runs the network on what is in [`input`](Self::input).
    pub fn run(&mut self) {
        for i in 0..self.layers.len() {
            self.step(i);
        }
        let program = self.net.program();
        for (i, &x) in program.outputs().iter().enumerate() {
            self.memory.map(program, &self.plan, x).copy_to(self.workers.kernels, &mut self.outputs[i]);
        }
    }

    /// As [`run`](Self::run), and tells how long each operation took, one after the other.
    pub fn profile(&mut self, mut tell: impl FnMut(Duration)) {
        for i in 0..self.layers.len() {
            let start = Instant::now();
            self.step(i);
            tell(start.elapsed());
        }
    }

    /// As [`run`](Self::run), and shows every value, with its number, as soon as it is there.
    pub fn observe(&mut self, mut visit: impl FnMut(usize, &[f32])) {
        let mut value = Vec::new();
        for x in 0..self.net.program().shapes().len() {
            if x > 0 {
                self.step(x - 1);
            }
            value.resize(self.net.program().shapes()[x].len(), 0.0);
            self.memory.map(self.net.program(), &self.plan, x).copy_to(self.workers.kernels, &mut value);
            visit(x, &value);
            for (output, &at) in self.outputs.iter_mut().zip(self.net.program().outputs()) {
                if at == x {
                    output.copy_from_slice(&value);
                }
            }
        }
    }

    /// Runs the operation at position `i`.
    fn step(&mut self, i: usize) {
        let program = self.net.program();
        if self.plan.idle[i] || matches!(program.ops()[i], Op::Constant { .. }) {
            return;
        }
        let (place, shape) = (self.plan.places[i + 1], program.shapes()[i + 1]);
        // The buffer is taken out for as long as it is written; the plan sees to it that nothing is read from it.
        if let Some(Quant { scale, zero }) = program.quants()[i + 1] {
            let mut buffer = std::mem::take(&mut self.memory.bytes[place.buffer]);
            let out = Out::U8 { bytes: &mut buffer[place.offset..], inverse: 1.0 / scale, zero: zero.into() };
            self.compute(i, Target { shape, pixel: place.pixel, out });
            self.memory.bytes[place.buffer] = buffer;
        } else {
            let mut buffer = std::mem::take(&mut self.memory.floats[place.buffer]);
            self.compute(i, Target { shape, pixel: place.pixel, out: Out::F32(&mut buffer[place.offset..]) });
            self.memory.floats[place.buffer] = buffer;
        }
    }

    fn compute(&mut self, i: usize, target: Target) {
        let Self { net, plan, layers, memory, workers, .. } = self;
        let program = net.program();
        let map = |x: &usize| memory.map(program, plan, *x);
        match &program.ops()[i] {
            Op::Conv { x, .. } => layers[i].as_ref().expect("a convolution").run(workers, map(x), target),
            Op::Pool { x, pooling, window } => maps::pool(workers, map(x), *pooling, window, target),
            Op::Activate { x, then } => maps::activate(workers, map(x), *then, target),
            Op::Combine { x, y, with, then } => maps::combine(workers, [map(x), map(y)], *with, *then, target),
            Op::Concat { xs, axis } => {
                let (places, own) = (&plan.places, plan.places[i + 1]);
                // Those in the same buffer were computed into their places.
                let same = |x: usize| places[x].buffer == own.buffer && program.quants()[x] == program.quants()[i + 1];
                let parts = xs.iter().map(|x| (program.shapes()[*x], (!same(*x)).then(|| map(x))));
                maps::concat(workers, parts, *axis, target);
            }
            Op::Slice { x, axis, from, step, .. } => maps::slice(workers, map(x), *axis, *from, *step, target),
            Op::Shuffle { x, groups } => maps::shuffle(workers, map(x), *groups, target),
            Op::Resize { x, sampling, .. } => maps::resize(workers, map(x), *sampling, target),
            Op::Reshape { x, .. } => maps::reshape(workers, map(x), target),
            Op::Transpose { x, order } => maps::transpose(workers, map(x), *order, target),
            Op::Softmax { x } => maps::softmax(workers, map(x), target),
            Op::Convert { x } => maps::copy(workers, map(x), target),
            Op::Constant { .. } => {}
        }
    }
}

impl Memory {
    fn map(&self, program: &Program, plan: &Plan, x: usize) -> Map<'_> {
        let (shape, place) = (program.shapes()[x], plan.places[x]);
        let data = match program.quants()[x] {
            None => Data::F32(&self.floats[place.buffer][place.offset..]),
            Some(quant) => Data::U8(&self.bytes[place.buffer][place.offset..], quant),
        };
        Map { shape, pixel: place.pixel, data }
    }
}

impl Workers {
    fn new(kernels: &'static MapKernels, threads: usize) -> Self {
        let team = Team::new(threads);
        let scratch = (0..team.threads()).map(|_| Mutex::default()).collect();
        Self { kernels, team, scratch }
    }

    /// Cuts the rows of a target, `row` elements each, into tasks of a multiple of `unit` rows, and runs
    /// `task(kernels, scratch, rows, out)` for each. `work` is what all rows cost, in multiply-adds or the like.
    pub(super) fn share(
        &mut self,
        rows: usize,
        row: usize,
        unit: usize,
        work: usize,
        out: Out,
        task: impl Fn(&'static MapKernels, &mut Scratch, Range<usize>, Out) + Sync,
    ) {
        /// What is worth another thread's attention.
        const TASK_WORK: usize = 1 << 15;
        let threads = self.team.threads();
        let tasks = if threads == 1 { 1 } else { (work / TASK_WORK).clamp(1, (4 * threads).min(MAX_TASKS)) };
        let step = rows.div_ceil(tasks).next_multiple_of(unit);
        let mut parts: [Option<(Range<usize>, Out)>; MAX_TASKS] = [const { None }; MAX_TASKS];
        let mut rest = out;
        let mut count = 0;
        for first in (0..rows).step_by(step) {
            let end = rows.min(first + step);
            let (part, behind) =
                if end < rows { rest.split_at((end - first) * row) } else { (rest, Out::F32(&mut [])) };
            parts[count] = Some((first..end, part));
            rest = behind;
            count += 1;
        }
        let (kernels, scratch) = (self.kernels, &self.scratch);
        self.team.each(&mut parts[..count], |worker, _, part| {
            let (rows, out) = part.take().expect("each task is run once");
            let mut scratch = scratch[worker].lock().unwrap_or_else(|e| e.into_inner());
            task(kernels, &mut scratch, rows, out);
        });
    }
}

impl Map<'_> {
    /// The whole map in f32, without gaps.
    fn copy_to(&self, kernels: &MapKernels, out: &mut [f32]) {
        for (pixel, out) in out.chunks_exact_mut(self.shape.c).enumerate() {
            let range = pixel * self.pixel..pixel * self.pixel + self.shape.c;
            match self.data {
                Data::F32(data) => out.copy_from_slice(&data[range]),
                Data::U8(data, quant) => kernels.widen_bytes(&data[range], quant.scale, quant.zero.into(), out),
            }
        }
    }
}
