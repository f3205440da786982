//! Operations that only move elements: slices, concatenation, padding.

use super::{Lowering, Numbers, Value, numbers, view::View};
use crate::{
    error::{Error, Result},
    nets::convnet::program::{Axis, Op, Sampling, Shape},
    onnx::guard::guarded,
};
use tract_core::{
    internal::*,
    ops::{
        array::{Gather, Pad, PadMode, Slice, StridedSlice},
        cnn::Conv,
    },
};

/// How many single slices a gather may become.
const MAX_PIECES: usize = 64;

/// Every `step`-th of an axis, `len` in all.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub axis: usize,
    pub from: usize,
    pub len: usize,
    pub step: usize,
}

impl Lowering<'_> {
    pub(super) fn slice_of(&mut self, op: &Slice, x: View) -> Result<View> {
        match (op.start.to_usize(), op.end.to_usize()) {
            (Ok(from), Ok(end)) if from < end && end <= x.dim(op.axis) => {
                self.slice(x, Part { axis: op.axis, from, len: end - from, step: 1 })
            }
            _ => Err(Error::unsupported(format!("takes {} to {} of {}", op.start, op.end, x.dim(op.axis)))),
        }
    }

    pub(super) fn strided_slice(&mut self, node: &TypedNode, mut x: View) -> Result<View> {
        let Some(op) = node.op_as::<StridedSlice>() else { return Ok(x) };
        if op.begin_mask != 0 || op.end_mask != 0 || op.shrink_axis_mask != 0 {
            return Err(Error::unsupported("slices with masks"));
        }
        let (begins, ends) = (self.integers(node.inputs[1])?, self.integers(node.inputs[2])?);
        let optional = |input: Option<usize>| input.map(|i| self.integers(node.inputs[i])).transpose();
        let axes = optional(op.optional_axes_input)?.unwrap_or_else(|| (0..begins.len() as i64).collect());
        let steps = optional(op.optional_steps_input)?.unwrap_or_else(|| vec![1; begins.len()]);
        if ends.len() != begins.len() || axes.len() != begins.len() || steps.len() != begins.len() {
            return Err(Error::unsupported("has as many starts, ends, axes and steps as it pleases"));
        }
        for (i, axis) in axes.into_iter().enumerate() {
            let rank = x.axes.len() as i64;
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(usize::MAX);
            if axis >= x.axes.len() || steps[i] < 1 {
                return Err(Error::unsupported(format!("slices axis {axis} by {}", steps[i])));
            }
            let size = x.dim(axis) as i64;
            let bound = |n: i64| (if n < 0 { n.saturating_add(size) } else { n }).clamp(0, size);
            let (from, end) = (bound(begins[i]), bound(ends[i]));
            if from >= end {
                return Err(Error::unsupported(format!("takes nothing: {from} to {end} of {size}")));
            }
            let len = ((end - from) as u64).div_ceil(steps[i] as u64) as usize;
            x = self.slice(x, Part { axis, from: from as usize, len, step: steps[i] as usize })?;
        }
        Ok(x)
    }

    pub(super) fn gather(&mut self, op: &Gather, node: &TypedNode, x: &View) -> Result<View> {
        let size = x.dim(op.axis) as i64;
        let positions = self.integers(node.inputs[1])?;
        let wrapped = positions.iter().map(|&i| usize::try_from(if i < 0 { i + size } else { i }).ok());
        let Some(positions) = wrapped.collect::<Option<Vec<_>>>().filter(|p| p.iter().all(|&i| (i as i64) < size))
        else {
            return Err(Error::unsupported(format!("gathers outside of its {size} elements")));
        };
        let gathered = self.gather_along(x, op.axis, &positions)?;
        let mut dims = gathered.dims();
        let shape =
            self.model.outlet_fact(node.inputs[1]).map_err(|e| Error::unsupported(e.to_string()))?.shape.to_tvec();
        let shape: Vec<usize> = shape.iter().filter_map(|dim| dim.to_usize().ok()).collect();
        dims.splice(op.axis..=op.axis, shape);
        self.reshape(gathered, &dims)
    }

    fn gather_along(&mut self, x: &View, axis: usize, positions: &[usize]) -> Result<View> {
        let step = positions.windows(2).map(|pair| pair[1].checked_sub(pair[0]).filter(|&step| step > 0));
        let steps: Option<Vec<_>> = step.collect();
        if let Some(steps) = steps.filter(|steps| steps.windows(2).all(|pair| pair[0] == pair[1])) {
            let step = steps.first().copied().unwrap_or(1);
            let from = *positions.first().ok_or_else(|| Error::unsupported("gathers nothing"))?;
            return self.slice(x.clone(), Part { axis, from, len: positions.len(), step });
        }
        if positions.len() > MAX_PIECES {
            return Err(Error::unsupported(format!("gathers {} elements in no regular order", positions.len())));
        }
        let piece = |&from: &usize| self.slice(x.clone(), Part { axis, from, len: 1, step: 1 });
        let pieces = positions.iter().map(piece).collect::<Result<Vec<_>>>()?;
        self.join(pieces, axis)
    }

    /// Part of an axis.
    pub(super) fn slice(&mut self, x: View, part: Part) -> Result<View> {
        let mut x = x.joined();
        if part.from == 0 && part.len == x.dim(part.axis) {
            return Ok(x);
        }
        if x.axes[part.axis].len() != 1 {
            let order = x.axis_order();
            let value = self.builder.order(&x, &x.atoms_of(&order), self.builder.shapes[x.value])?;
            x = View::new(value, &x.dims(), &order);
        }
        let atom = x.axes[part.axis][0];
        x.value = self.slice_atom(&x, atom, part)?;
        x.resize(atom, part.len);
        Ok(x)
    }

    fn slice_atom(&mut self, x: &View, atom: usize, Part { from, len, step, .. }: Part) -> Result<usize> {
        let size = x.atoms[atom];
        let product = |atoms: &[usize]| atoms.iter().product::<usize>();
        let (before, after) = (product(&x.atoms[..atom]), product(&x.atoms[atom + 1..]));
        let shape = self.builder.shapes[x.value];
        let dims = [(Axis::H, 1, shape.h), (Axis::W, shape.h, shape.w), (Axis::C, shape.pixels(), shape.c)];
        for (axis, outer, dim) in dims {
            // A whole dimension of the map, its slowest part, or its fastest part.
            let (starts, whole) = (before == outer, size * after == shape.len() / outer);
            let within = before.is_multiple_of(outer) && before / outer * size == dim;
            if starts && whole && size <= dim && dim.is_multiple_of(size) && (step == 1 || size == dim) {
                let rest = dim / size;
                return self.builder.push(Op::Slice { x: x.value, axis, from: from * rest, len: len * rest, step });
            }
            if within && len == 1 && after * outer * dim == shape.len() {
                return self.builder.push(Op::Slice { x: x.value, axis, from, len: dim / size, step: size });
            }
        }
        let x = self.builder.reshape(x.value, Shape::new(before, size, after))?;
        self.builder.push(Op::Slice { x, axis: Axis::W, from, len, step })
    }

    pub(super) fn concat(&mut self, node: &TypedNode) -> Result<View> {
        let axis = match node.op_as::<tract_core::ops::array::TypedConcat>() {
            Some(op) => op.axis,
            None => return Err(Error::unsupported("no concatenation")),
        };
        let views = node.inputs.iter().map(|&x| self.map(x)).collect::<Result<Vec<_>>>()?;
        self.join(views, axis)
    }

    /// Tensors side by side, in the order in which the largest lies.
    fn join(&mut self, views: Vec<View>, axis: usize) -> Result<View> {
        let constants: Vec<usize> = (1..=self.builder.ops.len())
            .filter(|&value| matches!(self.builder.ops[value - 1], Op::Constant { .. }))
            .collect();
        let size = |view: &&View| {
            (!constants.contains(&view.value), view.axes[axis].len(), view.dims().iter().product::<usize>())
        };
        let Some(largest) = views.iter().max_by_key(size) else { return Err(Error::unsupported("joins nothing")) };
        let mut order = largest.axis_order();
        if !order.contains(&axis) {
            order.push(axis);
        }
        let at = order.iter().position(|&a| a == axis).unwrap_or(0);
        let (groups, along): ([&[usize]; 3], Axis) = match (order.len(), at) {
            (1, _) => ([&[], &[], &order[..]], Axis::C),
            (2, 0) => ([&[], &order[..1], &order[1..]], Axis::W),
            (2, _) => ([&[], &order[..1], &order[1..]], Axis::C),
            (3, 0) => ([&order[..1], &order[1..2], &order[2..]], Axis::H),
            (3, 1) => ([&order[..1], &order[1..2], &order[2..]], Axis::W),
            (n, at) if at == n - 1 => ([&order[..1], &order[1..at], &order[at..]], Axis::C),
            (_, at) => ([&order[..at], &order[at..=at], &order[at + 1..]], Axis::W),
        };
        let mut dims = largest.dims();
        dims[axis] = views.iter().map(|view| view.dim(axis)).sum();
        let xs = views.iter().map(|view| self.builder.arrange(view, groups)).collect::<Result<Vec<_>>>()?;
        let value = if let [x] = xs[..] { x } else { self.builder.push(Op::Concat { xs, axis: along })? };
        Ok(View::new(value, &dims, &order))
    }

    /// Zeros around a tensor, where no convolution takes them upon itself.
    pub(super) fn pad(&mut self, op: &Pad, x: &View) -> Result<View> {
        let PadMode::Constant(fill) = &op.mode else {
            return Err(Error::unsupported("pads with other than a constant"));
        };
        let fill = numbers(fill)?.values.first().copied().unwrap_or(0.0);
        let mut x = x.clone();
        for (axis, &(before, after)) in op.pads.iter().enumerate().filter(|(_, pads)| **pads != (0, 0)) {
            let mut pieces = Vec::new();
            for (i, len) in [(0, before), (1, after)] {
                if i == 1 {
                    pieces.push(x.clone());
                }
                if len > 0 {
                    pieces.push(self.filled(&x, axis, len, fill)?);
                }
            }
            x = self.join(pieces, axis)?;
        }
        Ok(x)
    }

    /// A tensor like `x` with `len` elements along an axis, all of them `fill`.
    fn filled(&mut self, x: &View, axis: usize, len: usize, fill: f32) -> Result<View> {
        let mut dims = x.dims();
        dims[axis] = len;
        let elements = dims.iter().product::<usize>();
        let value = self.builder.constant(Shape::new(1, 1, elements).flat(), vec![fill; elements])?;
        Ok(View::new(value, &dims, &(0..dims.len()).collect::<Vec<_>>()))
    }

    /// What a convolution pads its input with, if a node before it does so with zeros, and only along height and width.
    pub(super) fn padded(&self, node: &TypedNode) -> Option<(OutletId, Vec<(usize, usize)>)> {
        let conv = node.op_as::<Conv>()?;
        let before = self.model.node(node.inputs[0].node);
        let pad = before.op_as::<Pad>()?;
        let PadMode::Constant(fill) = &pad.mode else { return None };
        let zero = numbers(fill).is_ok_and(|n| n.values.iter().all(|&x| x == 0.0));
        let explicit = !matches!(
            conv.pool_spec.padding,
            tract_core::ops::cnn::PaddingSpec::SameUpper | tract_core::ops::cnn::PaddingSpec::SameLower
        );
        let fact = self.model.outlet_fact(node.inputs[0]).ok()?;
        let shape = guarded(|| conv.pool_spec.data_format.shape(fact.shape.to_tvec())).ok()?;
        let spatial = shape.h_axis()..shape.h_axis() + shape.hw_rank();
        let outside = pad.pads.iter().enumerate().any(|(axis, pads)| !spatial.contains(&axis) && *pads != (0, 0));
        (zero && explicit && !outside).then(|| (before.inputs[0], pad.pads[spatial].to_vec()))
    }

    /// A tensor repeated along its axes of 1.
    pub(super) fn broadcast(&mut self, mut x: View, dims: &[usize]) -> Result<View> {
        let own = x.dims();
        if own.len() != dims.len() || own.iter().zip(dims).any(|(&a, &b)| a != b && a != 1) {
            return Err(Error::unsupported(format!("repeats {own:?} as {dims:?}")));
        }
        for (axis, &len) in dims.iter().enumerate().filter(|&(axis, &len)| own[axis] != len) {
            x = self.repeat(x, axis, len)?;
        }
        Ok(x)
    }

    /// A tensor repeated along an axis of 1. The new elements lie behind those of the axis before it, so that an axis and
    /// its repetitions are easily joined; the channels of a map come last.
    fn repeat(&mut self, mut x: View, axis: usize, len: usize) -> Result<View> {
        let last = |&a: &usize| (x.axes.len() > 3 && a == 1, a);
        let before = (0..x.axes.len()).filter(|a| last(a) < last(&axis) && !x.axes[*a].is_empty()).max_by_key(last);
        let atom = before.and_then(|a| x.axes[a].last()).map_or(0, |&atom| atom + 1);
        let outer: usize = x.atoms[..atom].iter().product();
        let shape = self.builder.shapes[x.value];
        // Pixels resized to the nearest: each row or column comes several times.
        let (shape, size) = if outer == shape.h {
            (shape, [shape.h * len, shape.w])
        } else if outer == shape.pixels() {
            (shape, [shape.h, shape.w * len])
        } else {
            (Shape::new(outer, 1, shape.len() / outer), [outer, len])
        };
        let value = self.builder.reshape(x.value, shape)?;
        x.value = self.builder.push(Op::Resize { x: value, size, sampling: Sampling::Nearest })?;
        x.insert(axis, atom, len);
        Ok(x)
    }

    /// A tensor that may be constant, with axes added in front until it has as many as `rank`.
    pub(super) fn operand(&self, outlet: OutletId) -> Result<Operand> {
        Ok(match self.value(outlet)? {
            Value::Map(view) => Operand::Map(view),
            Value::Constant(tensor) => Operand::Numbers(numbers(&tensor)?),
        })
    }
}

/// One side of an operation on two tensors.
pub(super) enum Operand {
    Map(View),
    Numbers(Numbers),
}

impl Shape {
    /// The same elements without more channels than a map may have.
    pub(super) fn flat(self) -> Self {
        Self::new(1, self.len(), 1)
    }
}
