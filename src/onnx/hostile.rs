//! What is refused before tract sees it, because it would ask for memory without bound.

use crate::error::{Error, Result};
use std::collections::HashMap;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// The most elements of a tensor: as in [a program](crate::nets::convnet::program).
const MAX_ELEMENTS: u64 = 1 << 28;
/// How much larger a node may make a constant along a dimension.
const MAX_SCALE: f32 = 4096.0;
/// The most nodes.
const MAX_NODES: usize = 1 << 16;

/// Refuses tensors whose sizes are not those of their data, and nodes that would make huge ones.
pub fn check(graph: &GraphProto) -> Result<()> {
    if graph.node.len() > MAX_NODES {
        return Err(Error::format(format!("{} nodes, expected at most {MAX_NODES}", graph.node.len())));
    }
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = graph.initializer.iter().chain(attributes().filter_map(|attribute| attribute.t.as_ref()));
    tensors.into_iter().try_for_each(check_tensor)?;
    let subgraphs = attributes().filter_map(|attribute| attribute.g.as_ref());
    if let Some(subgraph) = subgraphs.into_iter().next() {
        return Err(Error::unsupported(format!(
            "the graph holds another one, `{}`; expected no control flow",
            subgraph.name
        )));
    }
    let constants = constants(graph);
    graph.node.iter().try_for_each(|node| check_node(node, &constants))
}

fn check_tensor(tensor: &TensorProto) -> Result<()> {
    let refused = |why: String| Err(Error::format(format!("the tensor `{}` {why}", tensor.name)));
    if tensor.external_data.iter().any(|entry| entry.key == "location") {
        return refused("lies in another file; expected all weights in the ONNX file itself".into());
    }
    let elements = tensor.dims.iter().try_fold(1_u64, |n, &dim| n.checked_mul(u64::try_from(dim).ok()?));
    let held = [
        tensor.raw_data.len() / element_bytes(tensor.data_type),
        tensor.float_data.len(),
        tensor.int32_data.len(),
        tensor.int64_data.len(),
        tensor.double_data.len(),
        tensor.uint64_data.len(),
        tensor.string_data.len(),
    ];
    let held = held.into_iter().max().unwrap_or(0) as u64;
    match elements {
        Some(n) if n == held => Ok(()),
        _ => refused(format!("has the dimensions {:?} and {held} elements", tensor.dims)),
    }
}

fn element_bytes(data_type: i32) -> usize {
    match data_type {
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        7 | 11 | 13 | 14 => 8,
        15 => 16,
        _ => 4,
    }
}

/// Small tensors of numbers, which may be sizes, by name.
fn constants(graph: &GraphProto) -> HashMap<&str, Vec<f64>> {
    let made = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
        let value = node.attribute.iter().find_map(attribute_numbers)?;
        Some((node.output.first()?.as_str(), value))
    });
    let stored = graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_str(), numbers(tensor)?)));
    stored.chain(made).collect()
}

fn attribute_numbers(attribute: &AttributeProto) -> Option<Vec<f64>> {
    match attribute.name.as_str() {
        "value" => numbers(attribute.t.as_ref()?),
        "value_ints" => Some(attribute.ints.iter().map(|&n| n as f64).collect()),
        "value_int" => Some(vec![attribute.i as f64]),
        "value_floats" => Some(attribute.floats.iter().map(|&x| f64::from(x)).collect()),
        _ => None,
    }
}

fn numbers(tensor: &TensorProto) -> Option<Vec<f64>> {
    if tensor.dims.len() > 1 || tensor.dims.first().is_some_and(|&n| n > 64) {
        return None;
    }
    let raw = &tensor.raw_data;
    Some(match tensor.data_type {
        1 if raw.is_empty() => tensor.float_data.iter().map(|&x| f64::from(x)).collect(),
        1 => raw.as_chunks().0.iter().map(|&x| f64::from(f32::from_le_bytes(x))).collect(),
        6 if raw.is_empty() => tensor.int32_data.iter().map(|&n| f64::from(n)).collect(),
        6 => raw.as_chunks().0.iter().map(|&n| f64::from(i32::from_le_bytes(n))).collect(),
        7 if raw.is_empty() => tensor.int64_data.iter().map(|&n| n as f64).collect(),
        7 => raw.as_chunks().0.iter().map(|&n| i64::from_le_bytes(n) as f64).collect(),
        _ => return None,
    })
}

/// Refuses nodes that make large tensors of small ones.
fn check_node(node: &NodeProto, constants: &HashMap<&str, Vec<f64>>) -> Result<()> {
    let input = |i: usize| node.input.get(i).and_then(|name| constants.get(name.as_str()));
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let product = |numbers: &Vec<f64>| numbers.iter().map(|n| n.abs().max(1.0)).product::<f64>();
    let scales = |numbers: &Vec<f64>| numbers.iter().all(|&n| n.abs() <= f64::from(MAX_SCALE));
    let fits = |numbers: &Vec<f64>| product(numbers) <= MAX_ELEMENTS as f64;
    let fine = match node.op_type.as_str() {
        "ConstantOfShape" => input(0).is_none_or(fits),
        "Expand" | "Tile" | "OneHot" => input(1).is_none_or(fits),
        "Upsample" | "Resize" => {
            let sizes = (1..4).all(|i| input(i).is_none_or(|numbers| fits(numbers) && (i == 3 || scales(numbers))));
            sizes && attribute("scales").is_none_or(|scale| scale.floats.iter().all(|x| x.abs() <= MAX_SCALE))
        }
        "Pad" => {
            let pads = |ints: &[i64]| ints.iter().all(|n| n.unsigned_abs() <= MAX_SCALE as u64);
            input(1).is_none_or(scales) && attribute("pads").is_none_or(|a| pads(&a.ints))
        }
        "Range" => {
            (0..3).all(|i| input(i).is_none_or(fits)) && input(2).is_none_or(|n| n.iter().all(|n| n.abs() >= 1e-3))
        }
        "EyeLike" | "RandomNormal" | "RandomUniform" => {
            attribute("shape").is_none_or(|a| fits(&a.ints.iter().map(|&n| n as f64).collect()))
        }
        _ => true,
    };
    if fine {
        return Ok(());
    }
    Err(Error::format(format!(
        "node `{}` ({}) makes a tensor of more than {MAX_ELEMENTS} elements",
        node.name, node.op_type
    )))
}
