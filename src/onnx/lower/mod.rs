//! Lowering: an ONNX graph becomes a [program](crate::nets::convnet::program).
//!
//! | file | what |
//! |---|---|
//! | [`view`] | where a tensor's elements lie, so that transposing and reshaping cost nothing |
//! | [`build`] | the program under construction |
//! | [`moves`] | slices, concatenation, padding |
//! | [`arithmetic`] | operations on two tensors, and constants |
//! | [`layers`] | convolution, pools, softmax, resize |
//! | [`focus`] | convolutions of a map's slices read the map itself |
//! | [`simplify`] | operations are folded and fused, and what nobody reads is dropped |

mod arithmetic;
mod build;
mod focus;
mod layers;
mod moves;
mod resize;
mod simplify;
mod view;

use super::{
    MAX_CONSTANT,
    guard::guarded,
    read::{Graph, dims},
};
use crate::{
    error::{Error, Result},
    nets::convnet::{
        program::{Activation, Program, Shape},
        weights::Draft,
    },
};
use build::{Builder, gathered};
use std::collections::HashMap;
use tract_core::{
    internal::*,
    ops::{
        array::{Gather, MultiBroadcastTo, Pad, Slice, StridedSlice, TypedConcat},
        binary::TypedBinOp,
        cast::Cast,
        change_axes::AxisOp,
        cnn::{Conv, MaxPool, SumPool},
        einsum::EinSum,
        element_wise::ElementWiseOp,
        identity::Identity,
        konst::Const,
        nn::{LeakyRelu, Reduce, Softmax},
        source::TypedSource,
    },
};
use tract_onnx_opl::resize::Resize;
use view::View;

/// A graph as a network of ours.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The network.
    pub draft: Draft,
    /// What its outputs are in the graph, in the graph's order.
    pub outputs: Vec<Output>,
}

/// An output of a graph, and how it lies in the program's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The name in the graph.
    pub name: String,
    /// The dimensions in the graph.
    pub dims: Vec<usize>,
    /// Which of the graph's dimensions comes first, second, … in the row of numbers that the program makes.
    pub order: Vec<usize>,
    /// The program's map: places first, channels last.
    pub shape: Shape,
}

impl Output {
    /// The output as it lies by itself: a picture's map has its channels last, and of two dimensions the longer one are
    /// the places.
    pub(super) fn natural(name: String, dims: Vec<usize>) -> Self {
        let order = match dims[..] {
            [_, a, b] if a < b => vec![0, 2, 1],
            [_, h, w, c] if h == w && w != c => vec![0, 1, 2, 3],
            [_, _, _, _] => vec![0, 2, 3, 1],
            _ => (0..dims.len()).collect(),
        };
        Self::ordered(name, dims, order)
    }

    fn ordered(name: String, dims: Vec<usize>, order: Vec<usize>) -> Self {
        let sizes: Vec<_> = order.iter().map(|&axis| dims[axis]).collect();
        let shape = match sizes[..] {
            [] => Shape::new(1, 1, 1),
            [c] => Shape::new(1, 1, c),
            [w, c] => Shape::new(1, w, c),
            // A batch of one comes first.
            [ref before @ .., h, w, c] if before.iter().all(|&n| n == 1) => Shape::new(h, w, c),
            [ref before @ .., w, c] => Shape::new(1, before.iter().product::<usize>() * w, c),
        };
        Self { name, dims, order, shape }
    }

    /// Moves numbers from the graph's order to that of the program.
    pub fn to_program(&self, values: &[f32]) -> Vec<f32> {
        gathered(values, &self.dims, &self.order)
    }
}

/// Turns a graph into a network.
///
/// # Errors
/// `Unsupported` with a message that names the node, its operation and why, if it cannot be done.
pub fn lower(graph: &Graph) -> Result<Lowered> {
    let input = graph.input();
    let shape = Shape::new(input.height, input.width, input.channels);
    let mut lowering = Lowering { model: &graph.model, builder: Builder::new(shape), values: HashMap::new() };
    lowering.values.insert(graph.model.inputs[0], Value::Map(picture(input)));
    for id in lowering.needed()? {
        let node = graph.model.node(id);
        lowering.node(node).map_err(|e| e.at(format_args!("node `{}` ({})", node.name, node.op.name())))?;
    }
    let mut outputs = Vec::new();
    let mut values = Vec::new();
    for (name, &outlet) in graph.outputs.iter().zip(&graph.model.outputs) {
        let (output, value) = lowering.output(name, outlet).map_err(|e| e.at(format_args!("output `{name}`")))?;
        outputs.push(output);
        values.push(value);
    }
    let Builder { shapes, ops, filters, constants } = lowering.builder;
    let program = Program::new(shapes[0], ops, vec![], values)?;
    Ok(Lowered { draft: simplify::simplify(Draft { program, filters, constants })?, outputs })
}

/// The picture, which is value 0 with its channels side by side.
fn picture(input: super::Input) -> View {
    let order = if input.channels_last { [0, 1, 2, 3] } else { [0, 2, 3, 1] };
    View::new(0, &input.dims(), &order)
}

/// A tensor of the graph.
#[derive(Clone)]
enum Value {
    Map(View),
    Constant(Arc<Tensor>),
}

/// A constant's numbers.
struct Numbers {
    dims: Vec<usize>,
    values: Vec<f32>,
}

struct Lowering<'a> {
    model: &'a TypedModel,
    builder: Builder,
    values: HashMap<OutletId, Value>,
}

impl Lowering<'_> {
    /// The nodes whose results count, each after those that it needs.
    fn needed(&self) -> Result<Vec<usize>> {
        let order = guarded(|| self.model.eval_order()).map_err(Error::format)?;
        let mut needed = vec![false; self.model.nodes().len()];
        self.model.outputs.iter().for_each(|outlet| needed[outlet.node] = true);
        for &id in order.iter().rev().filter(|&&id| self.model.nodes().len() > id) {
            if needed[id] {
                self.reads(self.model.node(id)).into_iter().for_each(|outlet| needed[outlet.node] = true);
            }
        }
        Ok(order.into_iter().filter(|&id| needed[id]).collect())
    }

    /// What a node needs once it is lowered: a convolution takes padding upon itself, and a choice by sign needs no
    /// comparison.
    fn reads(&self, node: &TypedNode) -> Vec<OutletId> {
        if let Some((x, slope)) = self.sloped(node) {
            return vec![x, slope];
        }
        let mut inputs = node.inputs.to_vec();
        if let Some((x, _)) = self.padded(node) {
            inputs[0] = x;
        }
        inputs
    }

    fn node(&mut self, node: &TypedNode) -> Result<()> {
        if node.op_is::<TypedSource>() {
            return Ok(());
        }
        let inputs: Option<TVec<TValue>> = node.inputs.iter().map(|x| self.constant(*x)).collect();
        if let Some(inputs) = inputs {
            return self.fold(node, inputs);
        }
        let view = self.lower(node)?;
        let dims = dims(self.model, node.id.into())?;
        if view.dims() != dims {
            return Err(Error::unsupported(format!("came out as {:?}, expected {dims:?}", view.dims())));
        }
        self.values.insert(node.id.into(), Value::Map(view.joined()));
        Ok(())
    }

    fn constant(&self, outlet: OutletId) -> Option<TValue> {
        match self.values.get(&outlet) {
            Some(Value::Constant(tensor)) => Some(tensor.clone().into_tvalue()),
            _ => None,
        }
    }

    /// Computes what depends on nothing but constants.
    fn fold(&mut self, node: &TypedNode, inputs: TVec<TValue>) -> Result<()> {
        if let Some(constant) = node.op_as::<Const>() {
            self.values.insert(node.id.into(), Value::Constant(constant.val().clone()));
            return Ok(());
        }
        for i in 0..node.outputs.len() {
            let size = dims(self.model, OutletId::new(node.id, i))?;
            let size = size.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim));
            if size.is_none_or(|n| n > MAX_CONSTANT) {
                return Err(Error::unsupported(format!("makes a constant of more than {MAX_CONSTANT} elements")));
            }
        }
        let made = guarded(|| node.op.eval(&EvalContext::out_of_plan(), inputs)).map_err(Error::unsupported)?;
        for (i, tensor) in made.into_iter().enumerate() {
            self.values.insert(OutletId::new(node.id, i), Value::Constant(tensor.into_arc_tensor()));
        }
        Ok(())
    }

    /// One node of which an input is no constant.
    fn lower(&mut self, node: &TypedNode) -> Result<View> {
        if let Some((x, slope)) = self.sloped(node) {
            return self.prelu(x, slope);
        }
        if let Some(op) = node.op_as::<TypedBinOp>() {
            return self.binary(op, node.inputs[0], node.inputs[1]);
        }
        if node.op_is::<TypedConcat>() {
            return self.concat(node);
        }
        if let Some(op) = node.op_as::<EinSum>() {
            return self.einsum(op, &node.inputs);
        }
        if let Some(op) = node.op_as::<Conv>() {
            return self.conv(op, node);
        }
        let x = self.map(node.inputs[0])?;
        let op: &dyn TypedOp = node.op.as_ref();
        if let Some(op) = op.downcast_ref::<AxisOp>() {
            self.change_axes(op, x)
        } else if let Some(op) = op.downcast_ref::<ElementWiseOp>() {
            self.element_wise(op, x)
        } else if let Some(op) = op.downcast_ref::<MaxPool>() {
            self.max_pool(op, node, &x)
        } else if let Some(op) = op.downcast_ref::<SumPool>() {
            self.mean_pool(op, node, &x)
        } else if let Some(op) = op.downcast_ref::<Reduce>() {
            self.reduce(op, &x)
        } else if let Some(op) = op.downcast_ref::<Softmax>() {
            self.softmax(op, &x)
        } else if let Some(op) = op.downcast_ref::<Resize>() {
            self.resize(op, node, &x)
        } else if let Some(op) = op.downcast_ref::<Slice>() {
            self.slice_of(op, x)
        } else if op.downcast_ref::<StridedSlice>().is_some() {
            self.strided_slice(node, x)
        } else if let Some(op) = op.downcast_ref::<Gather>() {
            self.gather(op, node, &x)
        } else if let Some(op) = op.downcast_ref::<Pad>() {
            self.pad(op, &x)
        } else if op.downcast_ref::<MultiBroadcastTo>().is_some() {
            self.broadcast(x, &dims(self.model, node.id.into())?)
        } else if let Some(Cast { to }) = op.downcast_ref::<Cast>() {
            let same = *to == f32::datum_type();
            if same { Ok(x) } else { Err(Error::unsupported(format!("converts to {to:?}, expected f32"))) }
        } else if op.downcast_ref::<Identity>().is_some() || op.name() == "Dropout" {
            Ok(x)
        } else {
            Err(Error::unsupported("no operation of a convnet does this"))
        }
    }

    fn value(&self, outlet: OutletId) -> Result<Value> {
        let missing = || {
            let name = &self.model.node(outlet.node).name;
            Error::unsupported(format!("reads output {} of node `{name}`, which is not computed", outlet.slot))
        };
        self.values.get(&outlet).cloned().ok_or_else(missing)
    }

    /// An input that is computed.
    fn map(&mut self, outlet: OutletId) -> Result<View> {
        match self.value(outlet)? {
            Value::Map(view) => Ok(view),
            Value::Constant(tensor) => {
                let Numbers { dims, values } = numbers(&tensor)?;
                let order: Vec<_> = (0..dims.len()).collect();
                let [w, c] = [dims.iter().rev().skip(1).product(), dims.last().copied().unwrap_or(1)];
                let value = self.builder.constant(Shape::new(1, w, c), values)?;
                Ok(View::new(value, &dims, &order))
            }
        }
    }

    /// An input that is a constant of f32.
    fn numbers(&self, outlet: OutletId) -> Result<Numbers> {
        match self.value(outlet)? {
            Value::Constant(tensor) => numbers(&tensor),
            Value::Map(_) => Err(Error::unsupported("its weights are computed, expected constants")),
        }
    }

    /// An input that is a constant of whole numbers.
    fn integers(&self, outlet: OutletId) -> Result<Vec<i64>> {
        let Value::Constant(tensor) = self.value(outlet)? else {
            return Err(Error::unsupported("positions are computed, expected constants"));
        };
        guarded(|| {
            let cast = tensor.cast_to::<i64>()?.into_owned();
            Ok::<_, TractError>(cast.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
        })
        .map_err(Error::unsupported)
    }

    fn change_axes(&mut self, op: &AxisOp, x: View) -> Result<View> {
        let mut dims: TVec<usize> = x.dims().into();
        guarded(|| op.change_shape_array(&mut dims, false)).map_err(Error::unsupported)?;
        match op {
            AxisOp::Move(from, to) => {
                let mut order: Vec<_> = (0..x.axes.len()).collect();
                let axis = order.remove(*from);
                order.insert(*to, axis);
                Ok(x.permuted(&order))
            }
            _ => self.reshape(x, &dims),
        }
    }

    fn reshape(&mut self, x: View, dims: &[usize]) -> Result<View> {
        if let Some(view) = x.reshaped(dims) {
            return Ok(view);
        }
        // In the tensor's own order it is one row, which can be cut at will.
        let axes: Vec<_> = (0..x.axes.len()).collect();
        let shape = self.builder.shapes[x.value];
        let value = self.builder.order(&x, &x.atoms_of(&axes), shape)?;
        Ok(View::new(value, dims, &(0..dims.len()).collect::<Vec<_>>()))
    }

    fn element_wise(&mut self, op: &ElementWiseOp, x: View) -> Result<View> {
        let name = op.0.name();
        let then = match name.as_str() {
            "Sigmoid" => Activation::Sigmoid,
            "HardSwish" => Activation::HardSwish,
            "Silu" => Activation::Silu,
            "Exp" => Activation::Exp,
            "Sqrt" => Activation::Sqrt,
            "Tanh" => Activation::Tanh,
            "LeakyRelu" => {
                let slope = op.0.downcast_ref::<LeakyRelu>().map(|op| op.alpha);
                Activation::LeakyRelu(slope.ok_or_else(|| Error::unsupported("has no slope"))?)
            }
            "Neg" => return self.scaled(x, -1.0),
            "Square" => return self.squared(x),
            "Recip" => return self.reciprocal(&x),
            other => return Err(Error::unsupported(format!("no activation of a convnet is {other}"))),
        };
        self.activate(x, then)
    }

    fn activate(&mut self, x: View, then: Activation) -> Result<View> {
        let value = self.builder.push(crate::nets::convnet::program::Op::Activate { x: x.value, then })?;
        Ok(View { value, ..x })
    }

    /// The result and its value: a map if that is how it lies, else places and channels.
    fn output(&mut self, name: &str, outlet: OutletId) -> Result<(Output, usize)> {
        let view = self.map(outlet)?;
        let dims = view.dims();
        let output = match lying(&view) {
            Some(order) => Output::ordered(name.to_owned(), dims, order),
            None => Output::natural(name.to_owned(), dims),
        };
        let value = self.builder.order(&view, &view.atoms_of(&output.order), output.shape)?;
        Ok((output, value))
    }
}

/// The order in which the axes already lie, of those that make sense.
fn lying(view: &View) -> Option<Vec<usize>> {
    let orders: &[&[usize]] = match view.axes.len() {
        3 => &[&[0, 1, 2], &[0, 2, 1]],
        4 => &[&[0, 2, 3, 1], &[0, 1, 2, 3]],
        5 => &[&[0, 2, 3, 1, 4], &[0, 1, 2, 3, 4]],
        _ => return Some((0..view.axes.len()).collect()),
    };
    let lies = |order: &&&[usize]| view.atoms_of(order).is_sorted();
    orders.iter().find(lies).map(|order| order.to_vec())
}

fn numbers(tensor: &Tensor) -> Result<Numbers> {
    let dt = tensor.datum_type();
    if !dt.is_number() {
        return Err(Error::unsupported(format!("a constant is {dt:?}, expected f32")));
    }
    let values = guarded(|| {
        let cast = tensor.cast_to::<f32>()?.into_owned();
        Ok::<_, TractError>(cast.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    });
    Ok(Numbers { dims: tensor.shape().to_vec(), values: values.map_err(Error::unsupported)? })
}
