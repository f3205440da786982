//! What a network does not need is folded, fused or dropped. Each rule looks at one operation and those that it reads.

use crate::{
    error::Result,
    nets::convnet::{
        program::{Activation, Arithmetic, Op, Program, Sampling, Shape},
        weights::{Draft, Filter, FilterShape, Weights},
    },
};
use std::collections::{BTreeMap, HashMap};

/// How near two numbers are that stand for the same, e.g. 1/6 and 0.16666667.
const SAME: f32 = 1e-5;

/// The network with activations recognised and fused into what makes their input, and arithmetic with constants folded
/// into convolutions.
pub fn simplify(draft: Draft) -> Result<Draft> {
    let Draft { program, filters, constants } = draft;
    let readers = Vec::new();
    let (ops, shapes) = (program.ops().to_vec(), program.shapes().to_vec());
    let mut pass = Pass { ops, shapes, outputs: program.outputs().to_vec(), filters, constants, readers };
    // The second set takes apart what the first one recognises.
    for rules in [
        &[Pass::moves, Pass::scalars, Pass::activations][..],
        &[Pass::moves, Pass::scalars, Pass::fuse, Pass::fold, Pass::focus],
    ] {
        while pass.run(rules)? {}
    }
    pass.finish()
}

pub(super) struct Pass {
    ops: Vec<Op>,
    pub(super) shapes: Vec<Shape>,
    outputs: Vec<usize>,
    pub(super) filters: BTreeMap<String, Filter>,
    constants: BTreeMap<String, Vec<f32>>,
    /// How often each value is read.
    readers: Vec<usize>,
}

/// What a rule does with an operation.
pub(super) enum Change {
    /// Another operation stands in its place.
    Become(Op),
    /// Another value is the same.
    Alias(usize),
}

type Rule = fn(&mut Pass, &Op) -> Option<Change>;

impl Pass {
    /// Applies the rules once to every operation; whether anything changed.
    fn run(&mut self, rules: &[Rule]) -> Result<bool> {
        let mut changed = self.share();
        self.sweep()?;
        let mut alias: Vec<usize> = (0..self.shapes.len()).collect();
        for i in 0..self.ops.len() {
            let mut op = self.ops[i].clone();
            op.map_inputs(|x| alias[x]);
            self.ops[i] = op.clone();
            match rules.iter().find_map(|rule| rule(self, &op)) {
                Some(Change::Become(op)) => {
                    self.ops[i] = op;
                    changed = true;
                }
                Some(Change::Alias(x)) => {
                    alias[i + 1] = x;
                    self.readers[x] += self.readers[i + 1];
                    changed = true;
                }
                None => {}
            }
        }
        self.outputs.iter_mut().for_each(|x| *x = alias[*x]);
        self.sweep()?;
        Ok(changed)
    }

    /// Lets equal operations be one; whether there were any.
    fn share(&mut self) -> bool {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut alias: Vec<usize> = (0..self.shapes.len()).collect();
        let mut changed = false;
        for i in 0..self.ops.len() {
            self.ops[i].map_inputs(|x| alias[x]);
            let first = *seen.entry(format!("{:?}", self.ops[i])).or_insert(i + 1);
            alias[i + 1] = first;
            changed |= first != i + 1;
        }
        self.outputs.iter_mut().for_each(|x| *x = alias[*x]);
        changed
    }

    /// Drops what nobody reads, and counts readers and shapes anew.
    fn sweep(&mut self) -> Result<()> {
        let mut readers = vec![0; self.ops.len() + 1];
        self.outputs.iter().for_each(|&x| readers[x] += 1);
        for i in (0..self.ops.len()).rev().map(|i| i + 1) {
            if readers[i] > 0 {
                self.ops[i - 1].inputs().into_iter().for_each(|x| readers[x] += 1);
            }
        }
        let mut number = vec![0; readers.len()];
        let (mut ops, mut shapes, mut kept) = (Vec::new(), vec![self.shapes[0]], vec![readers[0]]);
        for (i, mut op) in std::mem::take(&mut self.ops).into_iter().enumerate() {
            if readers[i + 1] == 0 {
                continue;
            }
            op.map_inputs(|x| number[x]);
            shapes.push(op.infer(|x| Ok(shapes[x]))?);
            ops.push(op);
            kept.push(readers[i + 1]);
            number[i + 1] = ops.len();
        }
        self.outputs.iter_mut().for_each(|x| *x = number[*x]);
        (self.ops, self.shapes, self.readers) = (ops, shapes, kept);
        Ok(())
    }

    /// The network, its tensors numbered anew.
    fn finish(mut self) -> Result<Draft> {
        let (mut filters, mut constants) = (BTreeMap::new(), BTreeMap::new());
        for op in &mut self.ops {
            match op {
                Op::Conv { name, .. } => {
                    let filter = self.filters.remove(name);
                    *name = format!("conv{}", filters.len());
                    filters.extend(filter.map(|filter| (name.clone(), filter)));
                }
                Op::Constant { name, .. } => {
                    let constant = self.constants.remove(name);
                    *name = format!("const{}", constants.len());
                    constants.extend(constant.map(|constant| (name.clone(), constant)));
                }
                _ => {}
            }
        }
        let program = Program::new(self.shapes[0], self.ops, vec![], self.outputs)?;
        Ok(Draft { program, filters, constants })
    }

    pub(super) fn op(&self, value: usize) -> Option<&Op> {
        self.ops.get(value.checked_sub(1)?)
    }

    /// The operation that makes a value, if that is read once.
    pub(super) fn sole(&self, value: usize) -> Option<&Op> {
        self.op(value).filter(|_| self.readers[value] == 1)
    }

    fn numbers(&self, value: usize) -> Option<&[f32]> {
        match self.op(value)? {
            Op::Constant { name, .. } => self.constants.get(name).map(Vec::as_slice),
            _ => None,
        }
    }

    fn scalar(&self, value: usize) -> Option<f32> {
        match self.numbers(value)? {
            [x] => Some(*x),
            _ => None,
        }
    }

    /// `z` and the number, if the operation is arithmetic of a map and a single number.
    fn with_scalar(&self, op: &Op, wanted: Arithmetic) -> Option<(usize, f32)> {
        match *op {
            Op::Combine { x, y, with, then: Activation::None } if with == wanted => Some((x, self.scalar(y)?)),
            _ => None,
        }
    }

    /// Moves of elements that move none, and moves of moves.
    fn moves(&mut self, op: &Op) -> Option<Change> {
        match *op {
            Op::Reshape { x, shape } => match self.op(x) {
                _ if self.shapes[x] == shape => Some(Change::Alias(x)),
                Some(&Op::Reshape { x, .. }) => Some(Change::Become(Op::Reshape { x, shape })),
                _ => None,
            },
            Op::Concat { ref xs, .. } if xs.len() == 1 => Some(Change::Alias(xs[0])),
            // Pixels that are repeated twice, as the axes of graphs are one after the other.
            Op::Resize { x, size, sampling: Sampling::Nearest } => match *self.sole(x)? {
                Op::Resize { x: from, sampling: Sampling::Nearest, .. } => {
                    let (from_shape, made) = (self.shapes[from], self.shapes[x]);
                    let whole = made.h.is_multiple_of(from_shape.h)
                        && made.w.is_multiple_of(from_shape.w)
                        && size[0].is_multiple_of(made.h)
                        && size[1].is_multiple_of(made.w);
                    whole.then_some(Change::Become(Op::Resize { x: from, size, sampling: Sampling::Nearest }))
                }
                _ => None,
            },
            Op::Slice { x, axis, len, .. } if <[usize; 3]>::from(self.shapes[x])[axis as usize] == len => {
                Some(Change::Alias(x))
            }
            // An activation before a move can be fused into what is before the move.
            Op::Activate { x, then } => {
                let mut moved = self.sole(x)?.clone();
                let moves = matches!(moved, Op::Reshape { .. } | Op::Transpose { .. } | Op::Shuffle { .. });
                let [source] = moved.inputs()[..] else { return None };
                if !moves || self.readers[source] != 1 {
                    return None;
                }
                moved.map_inputs(|_| x);
                self.shapes[x] = self.shapes[source];
                self.ops[x - 1] = Op::Activate { x: source, then };
                Some(Change::Become(moved))
            }
            _ => None,
        }
    }

    /// Arithmetic with single numbers: two in a row become one, and 1 or 0 none.
    fn scalars(&mut self, op: &Op) -> Option<Change> {
        for (with, neutral) in [(Arithmetic::Mul, 1.0), (Arithmetic::Add, 0.0)] {
            let Some((x, number)) = self.with_scalar(op, with) else { continue };
            // Products may be off by a rounding; a sum may be there for the sake of a tiny number, before a division.
            if number == neutral || with == Arithmetic::Mul && (number - neutral).abs() < 1e-7 {
                return Some(Change::Alias(x));
            }
            let (z, before) = self.with_scalar(self.sole(x)?, with)?;
            let number = if with == Arithmetic::Mul { number * before } else { number + before };
            let y = self.constant_before(x, number)?;
            return Some(Change::Become(Op::Combine { x: z, y, with, then: Activation::None }));
        }
        None
    }

    /// Turns the operation that makes `x`, which no longer counts, into a number.
    fn constant_before(&mut self, x: usize, number: f32) -> Option<usize> {
        let name = format!("folded{}", self.constants.len());
        self.constants.insert(name.clone(), vec![number]);
        self.shapes[x] = Shape::new(1, 1, 1);
        self.readers[x] = 1;
        self.ops[x - 1] = Op::Constant { name, shape: self.shapes[x] };
        Some(x)
    }

    /// Activations that are written as several operations.
    fn activations(&mut self, op: &Op) -> Option<Change> {
        let activate = |x, then| Some(Change::Become(Op::Activate { x, then }));
        match *op {
            Op::Activate { x, then } => {
                let (low, high) = bounds(then)?;
                if let Some(&Op::Activate { x, then }) = self.sole(x) {
                    let (below, above) = bounds(then)?;
                    return activate(x, clip(low.max(below).min(high), high.min(above).max(low)));
                }
                if (low, high) != (0.0, 1.0) {
                    return None;
                }
                let (z, add) = self.with_scalar(self.sole(x)?, Arithmetic::Add)?;
                let scaled = self.sole(z).and_then(|op| self.with_scalar(op, Arithmetic::Mul));
                let (z, scale) = scaled.unwrap_or((z, 1.0));
                activate(z, Activation::HardSigmoid(scale, add))
            }
            Op::Combine { x, y, with: Arithmetic::Mul, then: Activation::None } => {
                if let Some(scale) = self.scalar(y) {
                    return self.scaled_activation(x, scale);
                }
                let gate = |x: usize, y: usize| match self.sole(y) {
                    Some(&Op::Activate { x: z, then: Activation::Sigmoid }) if z == x => Some(Activation::Silu),
                    Some(&Op::Activate { x: z, then: Activation::HardSigmoid(a, b) }) if z == x => {
                        (near(a, 1.0 / 6.0) && near(b, 0.5)).then_some(Activation::HardSwish)
                    }
                    _ => None,
                };
                match (gate(x, y), gate(y, x)) {
                    (Some(then), _) => activate(x, then),
                    (_, Some(then)) => activate(y, then),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// `clip(z + b, 0, h) / h` is a hard sigmoid, and `z clip(z + 3, 0, 6) / 6` a hard swish.
    fn scaled_activation(&self, x: usize, scale: f32) -> Option<Change> {
        let shifted = |value: usize| match self.sole(value)? {
            &Op::Activate { x, then } => {
                let (low, high) = bounds(then)?;
                let (z, add) = self.with_scalar(self.sole(x)?, Arithmetic::Add)?;
                (low == 0.0 && near(high * scale, 1.0)).then_some((z, add))
            }
            _ => None,
        };
        if let Some((z, add)) = shifted(x) {
            let then = Activation::HardSigmoid(scale, add * scale);
            return Some(Change::Become(Op::Activate { x: z, then }));
        }
        let Some(&Op::Combine { x: a, y: b, with: Arithmetic::Mul, then: Activation::None }) = self.sole(x) else {
            return None;
        };
        let swish = |gate: usize, x: usize| shifted(gate).is_some_and(|(z, add)| z == x && near(add, 3.0));
        let z = if swish(b, a) { a } else { Some(b).filter(|&b| swish(a, b))? };
        near(scale, 1.0 / 6.0).then_some(Change::Become(Op::Activate { x: z, then: Activation::HardSwish }))
    }

    /// An activation becomes part of the convolution or arithmetic before it.
    fn fuse(&mut self, op: &Op) -> Option<Change> {
        let &Op::Activate { x, then: fused } = op else { return None };
        self.sole(x)?;
        match &mut self.ops[x - 1] {
            Op::Conv { then, .. } | Op::Combine { then, .. } if *then == Activation::None => *then = fused,
            _ => return None,
        }
        Some(Change::Alias(x))
    }

    /// Arithmetic with a number for each channel becomes part of the convolution before or after it.
    fn fold(&mut self, op: &Op) -> Option<Change> {
        match *op {
            Op::Combine { x, y, with, then } => {
                let numbers = self.per_channel(y, self.shapes[x].c)?;
                let Some(Op::Conv { x: from, name, then: Activation::None, .. }) = self.sole(x) else { return None };
                let (mut conv, name) = (self.op(x)?.clone(), name.clone());
                let shape = FilterShape::of(&conv, self.shapes[*from].c)?;
                after(self.filters.get_mut(&name)?, shape, with, &numbers)?;
                if let Op::Conv { then: fused, .. } = &mut conv {
                    *fused = then;
                }
                self.ops[x - 1] = conv;
                Some(Change::Alias(x))
            }
            Op::Conv { x, ref name, ref window, .. } => {
                let Some(&Op::Combine { x: from, y, with, then: Activation::None }) = self.sole(x) else { return None };
                if with == Arithmetic::Add && window.pads != [0; 4] {
                    return None;
                }
                // The smaller side may be repeated, so the map itself must have the size.
                let numbers = self.per_channel(y, self.shapes[x].c)?;
                let shape = FilterShape::of(op, self.shapes[x].c)?;
                before(self.filters.get_mut(name)?, shape, with, &numbers)?;
                let mut op = op.clone();
                op.map_inputs(|_| from);
                Some(Change::Become(op))
            }
            _ => None,
        }
    }

    /// A constant as one number for each channel.
    fn per_channel(&self, value: usize, channels: usize) -> Option<Vec<f32>> {
        let shape = self.shapes[value];
        match self.numbers(value)? {
            [x] => Some(vec![*x; channels]),
            all if (shape.pixels(), shape.c) == (1, channels) => Some(all.to_vec()),
            _ => None,
        }
    }
}

/// Applies arithmetic to what a convolution makes.
fn after(filter: &mut Filter, shape: FilterShape, with: Arithmetic, numbers: &[f32]) -> Option<()> {
    let Weights::F32(weights) = &mut filter.weights else { return None };
    let channels = weights.chunks_exact_mut(shape.per_channel()).zip(&mut filter.bias).zip(numbers);
    for ((weights, bias), number) in channels {
        match with {
            Arithmetic::Add => *bias += number,
            Arithmetic::Mul => {
                *bias *= number;
                weights.iter_mut().for_each(|w| *w *= number);
            }
            _ => return None,
        }
    }
    Some(())
}

/// Applies arithmetic to what a convolution reads.
fn before(filter: &mut Filter, shape: FilterShape, with: Arithmetic, numbers: &[f32]) -> Option<()> {
    let Weights::F32(weights) = &mut filter.weights else { return None };
    if !matches!(with, Arithmetic::Add | Arithmetic::Mul) {
        return None;
    }
    for (channel, weights) in weights.chunks_exact_mut(shape.per_channel()).enumerate() {
        let group = channel / shape.outputs * shape.inputs;
        for (i, weight) in weights.iter_mut().enumerate() {
            let number = numbers[group + i % shape.inputs];
            match with {
                Arithmetic::Add => filter.bias[channel] += *weight * number,
                _ => *weight *= number,
            }
        }
    }
    Some(())
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() < SAME
}

/// Between which numbers an activation keeps its input, if it does just that.
fn bounds(activation: Activation) -> Option<(f32, f32)> {
    match activation {
        Activation::Relu => Some((0.0, f32::MAX)),
        Activation::Clip(low, high) => Some((low, high)),
        _ => None,
    }
}

fn clip(low: f32, high: f32) -> Activation {
    if (low, high) == (0.0, f32::MAX) { Activation::Relu } else { Activation::Clip(low, high) }
}
