//! Convolution and products, pools, reductions, softmax.

use super::{Lowering, Numbers, moves::Operand, view::View};
use crate::{
    error::{Error, Result},
    nets::convnet::{
        program::{Activation, Op, Pooling, Shape, Window},
        weights::{Filter, Weights},
    },
    onnx::read::dims,
};
use tract_core::{
    internal::*,
    ops::{
        cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool},
        einsum::EinSum,
        nn::{DataFormat, Reduce, Reducer, Softmax, SoftmaxKind},
    },
};

/// The axes of a picture in a tensor; one of a single spatial axis has no height.
struct Axes {
    height: Option<usize>,
    width: usize,
    channels: usize,
}

impl Axes {
    fn of(format: DataFormat, rank: usize, spatial: usize) -> Result<Self> {
        let first = rank.checked_sub(spatial + 1).filter(|&batch| batch <= 1);
        let (Some(first), 1 | 2) = (first, spatial) else {
            return Err(Error::unsupported(format!("moves over {spatial} of {rank} axes, expected height and width")));
        };
        let last = matches!(format, DataFormat::NHWC | DataFormat::HWC);
        let (channels, width) = if last { (rank - 1, rank - 2) } else { (first, rank - 1) };
        Ok(Self { height: (spatial == 2).then(|| width - 1), width, channels })
    }

    fn order(&self) -> Vec<usize> {
        self.height.into_iter().chain([self.width, self.channels]).collect()
    }
}

impl Lowering<'_> {
    pub(super) fn conv(&mut self, op: &Conv, node: &TypedNode) -> Result<View> {
        if op.q_params.is_some() {
            return Err(Error::unsupported("its weights are quantized, expected f32"));
        }
        let padding = self.padded(node);
        let x = self.map(padding.as_ref().map_or(node.inputs[0], |(x, _)| *x))?;
        let to = dims(self.model, node.id.into())?;
        let axes = Axes::of(op.pool_spec.data_format, x.axes.len(), op.pool_spec.rank())?;
        let from = axes.height.map_or(1, |axis| x.dim(axis));
        let mut window = window(&op.pool_spec, [from, x.dim(axes.width)])?;
        for (i, (before, after)) in padding.iter().flat_map(|(_, pads)| pads.iter().rev()).enumerate() {
            window.pads[1 - i] += before;
            window.pads[3 - i] += after;
        }
        let channels = to[axes.channels];
        let filter = self.filter_of(op, node, channels)?;
        let plain = window == Window::new([1, 1]) && op.group == 1;
        if plain {
            return self.pointwise(&x, &[axes.channels], filter, |order| View::new(0, &to, order));
        }
        let value = self.arrange(&x, &axes)?;
        let name = self.builder.filter(filter);
        let op = Op::Conv { x: value, name, channels, groups: op.group, window, then: Activation::None };
        Ok(View::new(self.builder.push(op)?, &to, &axes.order()))
    }

    /// A product over `inner`, the other axes staying as they lie; `made` is the result for an order of these and
    /// the new one, which is called `inner` too.
    fn pointwise(
        &mut self,
        x: &View,
        inner: &[usize],
        filter: Filter,
        made: impl FnOnce(&[usize]) -> View,
    ) -> Result<View> {
        let mut outer = x.axis_order();
        outer.retain(|axis| !inner.contains(axis));
        let value = match outer[..] {
            [h, w] => self.builder.arrange(x, [&[h], &[w], inner])?,
            _ => self.builder.arrange(x, [&[], &outer, inner])?,
        };
        let channels = filter.bias.len();
        let name = self.builder.filter(filter);
        let window = Window::new([1, 1]);
        let op = Op::Conv { x: value, name, channels, groups: 1, window, then: Activation::None };
        outer.extend(inner);
        let value = self.builder.push(op)?;
        Ok(View { value, ..made(&outer) })
    }

    fn arrange(&mut self, x: &View, axes: &Axes) -> Result<usize> {
        let height = axes.height.as_slice();
        self.builder.arrange(x, [height, &[axes.width], &[axes.channels]])
    }

    fn filter_of(&self, op: &Conv, node: &TypedNode, channels: usize) -> Result<Filter> {
        let Numbers { dims, values } = self.numbers(node.inputs[1])?;
        let spatial = op.pool_spec.rank();
        if dims.len() != spatial + 2 || op.group == 0 {
            return Err(Error::unsupported(format!("has weights of {dims:?}")));
        }
        let axes: Vec<usize> = match op.kernel_fmt {
            KernelFormat::OIHW => [0].into_iter().chain(2..dims.len()).chain([1]).collect(),
            KernelFormat::OHWI => (0..dims.len()).collect(),
            KernelFormat::HWIO if op.group == 1 => [dims.len() - 1].into_iter().chain(0..dims.len() - 1).collect(),
            KernelFormat::HWIO => return Err(Error::unsupported("has grouped weights of HWIO")),
        };
        let weights = super::gathered(&values, &dims, &axes);
        if dims[axes[0]] != channels || weights.is_empty() {
            return Err(Error::unsupported(format!("has weights of {dims:?} for {channels} channels")));
        }
        let bias = match node.inputs.get(2) {
            None => vec![0.0; channels],
            Some(&bias) => match self.numbers(bias)?.values {
                one if one.len() == 1 => vec![one[0]; channels],
                all if all.len() == channels => all,
                other => return Err(Error::unsupported(format!("has {} biases for {channels} channels", other.len()))),
            },
        };
        Ok(Filter { weights: Weights::F32(weights), bias, gain: Vec::new() })
    }

    pub(super) fn max_pool(&mut self, op: &MaxPool, node: &TypedNode, x: &View) -> Result<View> {
        self.pool(&op.pool_spec, Pooling::Max, node, x)
    }

    pub(super) fn mean_pool(&mut self, op: &SumPool, node: &TypedNode, x: &View) -> Result<View> {
        if !op.normalize {
            return Err(Error::unsupported("sums without a mean"));
        }
        let pooling = if op.count_include_pad { Pooling::PaddedMean } else { Pooling::Mean };
        self.pool(&op.pool_spec, pooling, node, x)
    }

    fn pool(&mut self, spec: &PoolSpec, mut pooling: Pooling, node: &TypedNode, x: &View) -> Result<View> {
        let to = dims(self.model, node.id.into())?;
        let axes = Axes::of(spec.data_format, x.axes.len(), spec.rank())?;
        let size = [axes.height.map_or(1, |axis| x.dim(axis)), x.dim(axes.width)];
        let made = [axes.height.map_or(1, |axis| to[axis]), to[axes.width]];
        if made.contains(&0) {
            return Err(Error::unsupported(format!("makes {made:?} places of {size:?}")));
        }
        let declared = window(spec, size)?;
        let mut window = declared;
        for i in 0..2 {
            let reach = (made[i] - 1) * window.stride[i] + (window.kernel[i] - 1) * window.dilation[i] + 1;
            window.pads[i + 2] = reach.saturating_sub(size[i] + window.pads[i]);
        }
        let mut value = self.arrange(x, &axes)?;
        if pooling == Pooling::PaddedMean && declared.pads == [0; 4] {
            pooling = Pooling::Mean;
        }
        // What only rounding up adds does not count: the zeros that do are put around the map.
        if pooling == Pooling::PaddedMean && (0..2).any(|i| window.pads[i + 2] > declared.pads[i + 2]) {
            value = self.zeros_around(value, declared.pads)?;
            window.pads = [0; 4];
            for i in 0..2 {
                let padded = size[i] + declared.pads[i] + declared.pads[i + 2];
                let reach = (made[i] - 1) * window.stride[i] + (window.kernel[i] - 1) * window.dilation[i] + 1;
                window.pads[i + 2] = reach.saturating_sub(padded);
            }
            pooling = Pooling::Mean;
        }
        let value = self.builder.push(Op::Pool { x: value, pooling, window })?;
        let shape = self.builder.shapes[value];
        if [shape.h, shape.w] != made {
            return Err(Error::unsupported(format!("makes {made:?} places of {size:?}")));
        }
        Ok(View::new(value, &to, &axes.order()))
    }

    fn zeros_around(&mut self, x: usize, [top, left, bottom, right]: [usize; 4]) -> Result<usize> {
        let Shape { h, w, c } = self.builder.shapes[x];
        let view = View::new(x, &[h, w, c], &[0, 1, 2]);
        let fill = tract_core::internal::rctensor0(0f32);
        let pads = vec![(top, bottom), (left, right), (0, 0)];
        let mode = tract_core::ops::array::PadMode::Constant(fill);
        let padded = self.pad(&tract_core::ops::array::Pad { pads, mode }, &view)?;
        self.builder.arrange(&padded, [&[0], &[1], &[2]])
    }

    /// The mean or the largest along axes, which then are 1.
    pub(super) fn reduce(&mut self, op: &Reduce, x: &View) -> Result<View> {
        let pooling = match op.reducer {
            Reducer::Max => Pooling::Max,
            Reducer::Sum => Pooling::Mean,
            other => return Err(Error::unsupported(format!("no operation of a convnet reduces by {other:?}"))),
        };
        let mut rest = x.axis_order();
        rest.retain(|axis| !op.axes.contains(axis));
        let count: usize = op.axes.iter().map(|&axis| x.dim(axis)).product();
        let mut dims = x.dims();
        op.axes.iter().for_each(|&axis| dims[axis] = 1);
        let mut lying = x.axis_order();
        lying.retain(|axis| op.axes.contains(axis));
        let value = match lying[..] {
            [h, w] => self.builder.arrange(x, [&[h], &[w], &rest])?,
            _ => self.builder.arrange(x, [&[], &lying, &rest])?,
        };
        let Shape { h, w, .. } = self.builder.shapes[value];
        let value = self.builder.push(Op::Pool { x: value, pooling, window: Window::new([h, w]) })?;
        let view = View::new(value, &dims, &rest);
        if pooling == Pooling::Mean { self.scaled(view, count as f32) } else { Ok(view) }
    }

    pub(super) fn softmax(&mut self, op: &Softmax, x: &View) -> Result<View> {
        if op.kind != SoftmaxKind::Softmax {
            return Err(Error::unsupported("no operation of a convnet is the logarithm of a softmax"));
        }
        let mut outer = x.axis_order();
        outer.retain(|axis| !op.axes.contains(axis));
        let value = match outer[..] {
            [h, w] => self.builder.arrange(x, [&[h], &[w], &op.axes])?,
            _ => self.builder.arrange(x, [&[], &outer, &op.axes])?,
        };
        let value = self.builder.push(Op::Softmax { x: value })?;
        outer.extend(&op.axes);
        Ok(View::new(value, &x.dims(), &outer))
    }

    /// A product of a computed tensor and constant weights: a convolution of one pixel.
    pub(super) fn einsum(&mut self, op: &EinSum, inputs: &[OutletId]) -> Result<View> {
        let refused = || Error::unsupported(format!("multiplies as {}, expected places by weights", op.axes));
        let [a, b] = inputs[..] else { return Err(refused()) };
        let (side, x, weights) = match (self.operand(a)?, self.operand(b)?) {
            (Operand::Map(x), Operand::Numbers(w)) => (0, x, w),
            (Operand::Numbers(w), Operand::Map(x)) => (1, x, w),
            _ => return Err(Error::unsupported("multiplies two computed matrices")),
        };
        // Axis of the map, of the weights, and of the result, for each letter.
        let one = |axes: &[usize]| axes.first().copied();
        let letters = op.axes.iter_all_axes();
        let letters = letters.map(|axis| (one(&axis.inputs[side]), one(&axis.inputs[1 - side]), one(&axis.outputs[0])));
        let letters: Vec<_> = letters.collect();
        let (mut inner, mut rows, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        let mut placed = Vec::new(); // the map's axes and where they come out
        for &(in_x, in_w, out) in &letters {
            match (in_x, in_w.filter(|&axis| weights.dims[axis] > 1 || in_x.is_none()), out) {
                (Some(axis), None, Some(out)) => placed.push((axis, out)),
                (Some(axis), Some(w), None) => {
                    inner.push(axis);
                    rows.push(w);
                }
                (Some(axis), None, None) if x.dim(axis) == 1 => {}
                (None, Some(w), Some(out)) => columns.push((w, out)),
                (None, Some(w), None) if weights.dims[w] == 1 => {}
                _ => return Err(refused()),
            }
        }
        let outputs: usize = columns.iter().map(|&(w, _)| weights.dims[w]).product();
        let order: Vec<_> = columns.iter().map(|&(w, _)| w).chain(rows).collect();
        let mut rest: Vec<usize> = (0..weights.dims.len()).filter(|axis| !order.contains(axis)).collect();
        rest.extend(order);
        let filter = super::gathered(&weights.values, &weights.dims, &rest);
        let filter = Filter { weights: Weights::F32(filter), bias: vec![0.0; outputs], gain: Vec::new() };
        let rank = placed.len() + columns.len();
        let mut to = vec![1; rank];
        let bounds =
            placed.iter().map(|&(_, out)| out).chain(columns.iter().map(|&(_, out)| out)).all(|out| out < rank);
        if !bounds || outputs == 0 {
            return Err(refused());
        }
        placed.iter().for_each(|&(axis, out)| to[out] = x.dim(axis));
        columns.iter().for_each(|&(w, out)| to[out] = weights.dims[w]);
        self.pointwise(&x, &inner, filter, |order| {
            let kept = order.iter().filter_map(|axis| placed.iter().find(|(a, _)| a == axis)).map(|&(_, out)| out);
            View::new(0, &to, &kept.chain(columns.iter().map(|&(_, out)| out)).collect::<Vec<_>>())
        })
    }
}

/// The window of a convolution or pool over a map of this height and width.
fn window(spec: &PoolSpec, size: [usize; 2]) -> Result<Window> {
    let one = spec.rank() == 1;
    let pair = |of: &dyn Fn(usize) -> usize| if one { [1, of(0)] } else { [of(0), of(1)] };
    let mut window = Window::new(pair(&|i| spec.kernel_shape[i]));
    window.stride = pair(&|i| spec.stride(i));
    window.dilation = pair(&|i| spec.dilation(i));
    let numbers = [window.kernel, window.stride, window.dilation].concat();
    if numbers.iter().any(|&n| n == 0 || n > 1 << 20) {
        return Err(Error::format(format!("has the window {window:?}")));
    }
    let first = if one { 1 } else { 0 };
    for (i, &size) in size.iter().enumerate().skip(first) {
        let axis = i - first;
        let reach = (window.kernel[i] - 1) * window.dilation[i] + 1;
        let missing = || ((size.div_ceil(window.stride[i]) - 1) * window.stride[i] + reach).saturating_sub(size);
        let (before, after) = match &spec.padding {
            PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
                (before[axis], after[axis])
            }
            PaddingSpec::Valid => (0, 0),
            PaddingSpec::SameUpper => (missing() / 2, missing().div_ceil(2)),
            PaddingSpec::SameLower => (missing().div_ceil(2), missing() / 2),
        };
        (window.pads[i], window.pads[i + 2]) = (before, after);
    }
    Ok(window)
}
