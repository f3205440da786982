//! Reading an ONNX file: its protocol buffer is prepared (one f32 picture of a known size goes in, and box suppression is
//! cut off), and tract infers all shapes and folds constants.

use crate::error::{Error, Result};
use std::{
    collections::HashSet,
    fs::File,
    io::{Cursor, Read},
    path::Path,
};
use tract_core::internal::DimLike;
use tract_onnx::{
    data_resolver::ModelDataResolver,
    pb::{
        GraphProto, ModelProto, TensorShapeProto, TypeProto, ValueInfoProto,
        tensor_shape_proto::{Dimension, dimension::Value as Dim},
        type_proto::{self, Value as Type},
    },
    prelude::*,
};

use super::{guard::guarded, hostile};

/// The longest file that is read.
const MAX_FILE: u64 = 512 << 20;
/// The longest side of a picture.
const MAX_SIDE: usize = 1 << 14;
/// The protocol buffer's number for f32.
const FLOAT: i32 = 1;

/// A graph as tract understood it: constants folded, every shape known.
pub struct Graph {
    pub(crate) model: TypedModel,
    pub(crate) input: Input,
    /// The outputs' names.
    pub(crate) outputs: Vec<String>,
    /// What follows after its outputs in the file, if the graph was cut.
    pub(crate) cut: Option<Suppression>,
}

/// Box suppression at a graph's end, which was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suppression {
    /// Whether it takes boxes as their centres and sizes. Corners may come in any order, as it is all one to it.
    pub centres: bool,
}

/// The picture that a graph takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Height.
    pub height: usize,
    /// Width.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Whether the graph has the channels of a pixel side by side (NHWC).
    pub channels_last: bool,
}

impl Input {
    /// The dimensions as the graph has them.
    pub fn dims(&self) -> [usize; 4] {
        let Self { height, width, channels, channels_last } = *self;
        if channels_last { [1, height, width, channels] } else { [1, channels, height, width] }
    }
}

/// The bytes of an ONNX file.
///
/// # Errors
/// `Io` if it cannot be read, and `Input` if it is too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let io = |e: std::io::Error| Error::io(path, &e);
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::input(format!("{}: larger than {} MiB", path.display(), MAX_FILE >> 20)));
    }
    Ok(bytes)
}

impl Graph {
    /// The graph in `bytes`, for pictures of `size` (height and width) where the graph itself leaves that open.
    ///
    /// # Errors
    /// `Format` if this is no sound graph, `Unsupported` if it takes anything but one f32 picture, and `Input` if it needs
    /// a size or has another.
    pub fn read(bytes: &[u8], size: Option<[usize; 2]>) -> Result<Self> {
        let foreign = |e: &dyn std::fmt::Display| Error::format(format!("not an ONNX file: {e}"));
        hostile::count(bytes).map_err(|e| foreign(&e))?;
        let mut proto = guarded(|| onnx().proto_model_for_read(&mut Cursor::new(bytes))).map_err(|e| foreign(&e))?;
        let graph = proto.graph.as_mut().ok_or_else(|| Error::format("not an ONNX file: it holds no graph"))?;
        if graph.node.is_empty() {
            return Err(Error::format("not an ONNX file: its graph is empty"));
        }
        hostile::check(graph)?;
        graph.value_info.clear();
        let input = fix_input(graph, size)?;
        let cut = cut_suppression(graph)?;
        let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
        let model = analyse(&proto)?;
        Ok(Self { model, input, outputs, cut })
    }

    /// What the graph takes.
    pub fn input(&self) -> Input {
        self.input
    }

    /// Names and dimensions of the outputs.
    pub fn outputs(&self) -> Result<Vec<(String, Vec<usize>)>> {
        let dims = self.model.outputs.iter().map(|&outlet| dims(&self.model, outlet));
        self.outputs.iter().zip(dims).map(|(name, dims)| Ok((name.clone(), dims?))).collect()
    }

    /// The box suppression that was cut off, if any: the outputs are the boxes and scores that went into it.
    pub fn cut(&self) -> Option<Suppression> {
        self.cut
    }
}

/// The dimensions of a value of the graph, each of which must be a number.
pub(super) fn dims(model: &TypedModel, outlet: OutletId) -> Result<Vec<usize>> {
    let fact = guarded(|| model.outlet_fact(outlet).cloned()).map_err(Error::format)?;
    let dims = fact.shape.iter().map(|dim| dim.to_usize().ok()).collect::<Option<Vec<_>>>();
    dims.ok_or_else(|| {
        let name = &model.node(outlet.node).name;
        Error::unsupported(format!("node `{name}` has the dimensions {:?}, expected numbers", fact.shape))
    })
}

/// The one picture that goes in, and its dimensions made numbers.
fn fix_input(graph: &mut GraphProto, size: Option<[usize; 2]>) -> Result<Input> {
    let weights: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<_> = (0..graph.input.len()).filter(|&i| !weights.contains(&*graph.input[i].name)).collect();
    let [i] = inputs[..] else {
        let names: Vec<_> = inputs.iter().map(|&i| graph.input[i].name.as_str()).collect();
        return Err(Error::unsupported(format!("the graph has the inputs {names:?}, expected one picture")));
    };
    let ValueInfoProto { name, r#type, .. } = &mut graph.input[i];
    let Some(TypeProto { value: Some(Type::TensorType(tensor)), .. }) = r#type else {
        return Err(Error::format(format!("the input `{name}` has no type")));
    };
    if tensor.elem_type != FLOAT {
        let ty = type_name(tensor.elem_type);
        return Err(Error::unsupported(format!("the input `{name}` is {ty}, expected float32")));
    }
    let input = choose_size(name, tensor, size)?;
    let dim = |n: usize| Dimension { value: Some(Dim::DimValue(n as i64)), ..Default::default() };
    tensor.shape = Some(TensorShapeProto { dim: input.dims().map(dim).into() });
    Ok(input)
}

fn choose_size(name: &str, tensor: &type_proto::Tensor, size: Option<[usize; 2]>) -> Result<Input> {
    let dims: Vec<Option<usize>> = tensor.shape.iter().flat_map(|shape| &shape.dim).map(number).collect();
    let shown: Vec<_> = dims.iter().map(|dim| dim.map_or("?".into(), |n| n.to_string())).collect();
    let shown = shown.join("x");
    let [batch, a, b, c] = dims[..] else {
        return Err(Error::unsupported(format!("the input `{name}` is {shown}, expected a picture of 1x3xHxW")));
    };
    if batch.is_some_and(|n| n != 1) {
        return Err(Error::unsupported(format!("the input `{name}` is {shown}, expected a batch of 1")));
    }
    let few = |n: Option<usize>| matches!(n, Some(1 | 3 | 4));
    let channels_last = few(c) && !few(a);
    let (channels, height, width) = if channels_last { (c, a, b) } else { (a, b, c) };
    let Some(channels @ 1..=64) = channels else {
        return Err(Error::unsupported(format!("the input `{name}` is {shown}, expected a picture of 1x3xHxW")));
    };
    let side = |known: Option<usize>, given: Option<usize>| match (known, given) {
        (Some(n), Some(given)) if n != given => {
            Err(Error::input(format!("the input `{name}` is {shown}, which leaves no other size to choose")))
        }
        (Some(n), _) | (None, Some(n)) => Ok(n),
        (None, None) => Err(Error::input(format!(
            "the input `{name}` is {shown}; name the size of its pictures, e.g. --size 640x640"
        ))),
    };
    let (height, width) = (side(height, size.map(|s| s[0]))?, side(width, size.map(|s| s[1]))?);
    if ![height, width].iter().all(|n| (1..=MAX_SIDE).contains(n)) {
        let message = format!("the input `{name}` is {height}x{width}, expected sides of 1 to {MAX_SIDE}");
        return Err(Error::input(message));
    }
    Ok(Input { height, width, channels, channels_last })
}

fn number(dim: &Dimension) -> Option<usize> {
    match dim.value {
        Some(Dim::DimValue(n)) if n > 0 => usize::try_from(n).ok(),
        _ => None,
    }
}

fn type_name(number: i32) -> String {
    let names = ["undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool"];
    match number {
        10 => "float16".into(),
        11 => "float64".into(),
        16 => "bfloat16".into(),
        n => usize::try_from(n).ok().and_then(|n| names.get(n)).map_or(format!("of type {n}"), |name| (*name).into()),
    }
}

/// Where a graph ends in the suppression of boxes, its outputs become the boxes and scores that go into that: finding the
/// boxes is ours.
fn cut_suppression(graph: &mut GraphProto) -> Result<Option<Suppression>> {
    let mut ends: Vec<String> = Vec::new();
    let mut centres = false;
    for node in graph.node.iter().filter(|node| node.op_type == "NonMaxSuppression") {
        let [boxes, scores, ..] = &node.input[..] else {
            return Err(Error::format(format!("node `{}` (NonMaxSuppression) has no boxes and scores", node.name)));
        };
        centres |= node.attribute.iter().any(|attribute| attribute.name == "center_point_box" && attribute.i == 1);
        ends.extend([boxes, scores].into_iter().filter(|name| !ends.contains(name)).cloned().collect::<Vec<_>>());
    }
    if ends.is_empty() {
        return Ok(None);
    }
    graph.output = ends.into_iter().map(|name| ValueInfoProto { name, ..Default::default() }).collect();
    drop_unused(graph);
    Ok(Some(Suppression { centres }))
}

/// Removes the nodes that no output needs, so that tract need not understand them.
fn drop_unused(graph: &mut GraphProto) {
    let mut needed: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    // Nodes are sorted, so one pass from the end finds all.
    let mut keep = vec![false; graph.node.len()];
    for (node, keep) in graph.node.iter().zip(&mut keep).rev() {
        *keep = node.output.iter().any(|name| needed.contains(name));
        if *keep {
            needed.extend(node.input.iter().cloned());
        }
    }
    let mut keep = keep.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(true));
}

/// Tensors outside of the file are not followed: what they name may be anything.
struct Nowhere;

impl ModelDataResolver for Nowhere {
    fn read_bytes_from_path(&self, _: &mut Vec<u8>, path: &Path, _: usize, _: Option<usize>) -> TractResult<()> {
        Err(TractError::msg(format!("its weights are in another file, {}", path.display())))
    }
}

fn analyse(proto: &ModelProto) -> Result<TypedModel> {
    let foreign = |e: String| Error::unsupported(format!("tract does not understand the graph: {e}"));
    let parsed = guarded(|| {
        let mut onnx = onnx().with_ignore_output_shapes(true).with_ignore_output_types(true);
        onnx.provider = Arc::new(Nowhere);
        let parsed = onnx.parse(proto, Some("."))?;
        if let Some(name) = parsed.unresolved_inputs.first() {
            return Err(TractError::msg(format!("nothing makes the value `{name}`")));
        }
        Ok(parsed.model)
    });
    let mut model = parsed.map_err(foreign)?;
    hostile::infer(&mut model)?;
    guarded(|| model.into_typed()).map_err(foreign)
}
