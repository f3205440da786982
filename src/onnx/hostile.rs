//! What is refused before tract sees it, because it would ask for memory without bound.

use super::{MAX_CONSTANT, guard::guarded};
use crate::{
    error::{Error, Result},
    nets::convnet::program::MAX_ELEMENTS,
};
use std::collections::BTreeSet;
use tract_core::internal::{OutletId, TDim, TVec, TractResult};
use tract_onnx::{
    pb::{GraphProto, NodeProto, TensorProto},
    tract_hir::infer::{Factoid, InferenceFact, InferenceModel},
};

/// The most nodes.
const MAX_NODES: usize = 1 << 16;
/// The most nodes, attributes, tensors, names and the like, each of which takes up to two hundred times its place in the
/// file.
const MAX_PARTS: usize = 1 << 20;

/// The messages of a file whose parts are counted.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
}

impl Message {
    /// What a part with this number is, if its own parts count, too.
    fn part(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) => Some(Self::Attribute),
            _ => None,
        }
    }
}

/// Refuses a file of too many parts before they are read. What is no protocol buffer is left to its reader.
pub fn count(file: &[u8]) -> Result<()> {
    let (mut parts, mut open) = (0, vec![(Message::Model, file)]);
    while let Some((message, mut rest)) = open.pop() {
        while let Some((number, bytes)) = next_part(&mut rest) {
            parts += 1;
            if parts > MAX_PARTS {
                return Err(Error::format(format!("more than {MAX_PARTS} nodes, tensors and names")));
            }
            open.extend(message.part(number).map(|message| (message, bytes)));
        }
    }
    Ok(())
}

/// The number and the bytes of the next part that has a length, and what follows it.
fn next_part<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    loop {
        let key = varint(rest)?;
        let len = match key & 7 {
            0 => varint(rest).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (bytes, after) = rest.split_at_checked(len)?;
        *rest = after;
        if key & 7 == 2 {
            return Some((key >> 3, bytes));
        }
    }
}

/// Seven bits a byte, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let len = 1 + rest.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let (bytes, after) = rest.split_at(len);
    *rest = after;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
}

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
    graph.node.iter().try_for_each(check_node)
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

/// Refuses nodes whose size is none that follows from their inputs' shapes, where it is too large or cannot be told.
fn check_node(node: &NodeProto) -> Result<()> {
    let shape = node.attribute.iter().find(|attribute| attribute.name == "shape").map(|shape| &shape.ints[..]);
    match node.op_type.as_str() {
        "ConstantLike" | "EyeLike" | "RandomNormal" | "RandomUniform" => {
            let sizes = shape.unwrap_or_default().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX));
            check_size(&node.name, &node.op_type, sizes.collect(), MAX_CONSTANT)
        }
        "BlackmanWindow" | "HammingWindow" | "HannWindow" | "MelWeightMatrix" => {
            let (name, op) = (&node.name, &node.op_type);
            Err(Error::unsupported(format!("node `{name}` ({op}) is about sounds, expected a graph for pictures")))
        }
        _ => Ok(()),
    }
}

fn check_size(name: &str, op: &str, sizes: Vec<usize>, most: usize) -> Result<()> {
    let elements = sizes.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
    if elements.is_some_and(|n| n <= most) {
        return Ok(());
    }
    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
    let sizes = sizes.join("x");
    Err(Error::format(format!("node `{name}` ({op}) makes {sizes} elements, expected at most {most}")))
}

/// Infers shapes as tract's own analysis does, one node after the other, and refuses what is too large: tract computes
/// whatever is constant, and looks at its size afterwards.
pub fn infer(model: &mut InferenceModel) -> Result<()> {
    let mut open: BTreeSet<usize> = (0..model.nodes().len()).collect();
    while let Some(id) = open.pop_first() {
        check_constant(model, id)?;
        let changed = guarded(|| analyse(model, id)).map_err(|e| {
            let (name, op) = (&model.node(id).name, model.node(id).op.name());
            Error::unsupported(format!("tract does not understand the graph: node `{name}` ({op}): {e}"))
        })?;
        for outlet in changed {
            let node = model.node(outlet.node);
            let output = &node.outputs[outlet.slot];
            check_size(&node.name, &node.op.name(), sizes(&output.fact).unwrap_or_default(), MAX_ELEMENTS)?;
            let readers = output.successors.iter().map(|reader| reader.node);
            open.extend(readers.chain([outlet.node]).filter(|&other| other != id));
        }
    }
    Ok(())
}

/// Infers what can be known of a node's inputs and outputs, and returns those of which more is known now.
fn analyse(model: &mut InferenceModel, id: usize) -> TractResult<Vec<OutletId>> {
    let (inputs, outputs) = model.node_facts(id)?;
    let [inputs, outputs] = [inputs, outputs].map(|facts| facts.into_iter().cloned().collect::<TVec<_>>());
    let node = model.node_mut(id);
    let outlets = (0..outputs.len()).map(|slot| OutletId::new(id, slot));
    let outlets: Vec<_> = node.inputs.iter().copied().chain(outlets).collect();
    let (inputs, outputs, _) = node.op.infer(inputs.iter().collect(), outputs.iter().collect(), TVec::new())?;
    let mut changed = Vec::new();
    for (outlet, fact) in outlets.into_iter().zip(inputs.into_iter().chain(outputs)) {
        let before = model.outlet_fact(outlet)?;
        let fact = before.unify(&fact)?;
        if fact != *before {
            model.set_outlet_fact(outlet, fact)?;
            changed.push(outlet);
        }
    }
    Ok(changed)
}

/// Refuses a node of constants, which tract is about to compute, if that would be too large.
fn check_constant(model: &InferenceModel, id: usize) -> Result<()> {
    let node = model.node(id);
    let (name, op) = (&node.name, node.op.name());
    let understood = guarded(|| {
        let (inputs, outputs) = model.node_facts(id)?;
        if inputs.is_empty() || !inputs.iter().all(|fact| fact.value.is_concrete()) {
            return Ok(None);
        }
        // The length of a range is a matter of its numbers, which tract's rules take for whole ones.
        if op == "Range" {
            let numbers = inputs.iter().filter_map(|fact| fact.value.concretize());
            let numbers = numbers.map(|tensor| tensor.cast_to_scalar::<f64>()).collect::<TractResult<Vec<_>>>()?;
            let [start, end, step] = numbers[..] else { return Ok(None) };
            let len = ((end - start) / step).ceil();
            return Ok(Some(vec![Some(vec![if len.is_nan() { usize::MAX } else { len as usize }])]));
        }
        let (_, made, _) = node.op.clone().infer_facts(inputs, outputs, Default::default())?;
        TractResult::Ok(Some(made.iter().map(sizes).collect()))
    });
    // What is wrong with it is said when it is analysed.
    let Ok(Some(made)) = understood else { return Ok(()) };
    for sizes in made {
        match sizes {
            Some(sizes) => check_size(name, &op, sizes, MAX_CONSTANT)?,
            // These make no more than they read.
            None if ["Compress", "NonZero"].contains(&&*op) => {}
            None => {
                let message = format!("node `{name}` ({op}) makes a constant of a size that cannot be told beforehand");
                return Err(Error::unsupported(message));
            }
        }
    }
    Ok(())
}

/// The dimensions, if all are known. A negative one is no size.
fn sizes(fact: &InferenceFact) -> Option<Vec<usize>> {
    let size = |dim: &TDim| dim.to_i64().ok().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    fact.shape.concretize()?.iter().map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message's part: its number, its length and its bytes.
    fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
        let len = bytes.len() as u32;
        let len = [0, 7, 14, 21].map(|shift| (len >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 });
        [&[number << 3 | 2], &len[..], bytes].concat()
    }

    #[test]
    fn files_of_many_parts_are_refused() {
        let many = |number: u8, n: usize| [number << 3 | 2, 0].repeat(n);
        let refused = |file: &[u8]| count(file).is_err();
        assert!(!refused(&part(7, &many(1, MAX_PARTS - 1))));
        assert!(refused(&part(7, &many(1, MAX_PARTS))));
        assert!(refused(&many(8, MAX_PARTS + 1)));
        // Attributes of a node of a graph in a node's attribute.
        let node = part(1, &many(5, MAX_PARTS));
        assert!(refused(&part(7, &part(1, &part(5, &part(6, &node))))));
        // What a tensor holds does not count.
        assert!(!refused(&part(7, &part(5, &many(9, MAX_PARTS)))));
        assert!(!refused(b"GGUF, not that") && !refused(&[0xff; 20]) && !refused(&part(7, &[0x0a])));
    }
}
