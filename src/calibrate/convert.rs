//! Makes the network in bytes, once everything is decided.

use super::gains::Gains;
use super::layout::Layout;
use super::ranges::integers;
use crate::error::Result;
use crate::nets::convnet::program::{Activation, Op, Program, Quant};
use crate::nets::convnet::weights::{Draft, Filter, FilterShape, Weights};
use std::collections::{BTreeMap, BTreeSet};

/// What was decided.
#[derive(Clone)]
pub(super) struct Choices {
    /// Convolutions that stay in f32, by position.
    pub(super) kept: BTreeSet<usize>,
    /// What each channel of each value is multiplied with.
    pub(super) gains: Gains,
    /// How each value is stored.
    pub(super) quants: Vec<Option<Quant>>,
    /// The biases, by position; those of the f32 network where there are none.
    pub(super) biases: BTreeMap<usize, Vec<f32>>,
}

/// The network that follows from the choices.
pub(super) fn convert(draft: &Draft, layout: &Layout, choices: &Choices) -> Result<Draft> {
    let program = &draft.program;
    let mut ops = Vec::new();
    let mut quants = vec![None];
    let mut values = vec![0];
    let mut filters = BTreeMap::new();
    let stored = |x: usize| layout.is_bytes(x).then_some(choices.quants[x]).flatten();
    for (i, op) in program.ops().iter().enumerate() {
        let mut op = op.clone();
        op.map_inputs(|x| values[x]);
        if let (Op::Conv { x: from, .. }, Op::Conv { x, name, .. }) = (&program.ops()[i], &mut op) {
            let kept = choices.kept.contains(&i);
            if kept && quants[*x].is_some() {
                ops.push(Op::Convert { x: *x });
                quants.push(None);
                *x = ops.len();
            }
            let shape = FilterShape::of(&program.ops()[i], program.shapes()[*from].c).expect("a convolution");
            let bias = choices.biases.get(&i);
            let filter = filter(&draft.filters[name], bias, &program.ops()[i], shape, kept, choices, (*from, i + 1));
            filters.insert(name.clone(), filter);
        }
        ops.push(op);
        quants.push(stored(i + 1));
        values.push(ops.len());
    }
    let outputs = program.outputs().iter().map(|&x| values[x]).collect();
    let program = Program::new(program.shapes()[0], ops, quants, outputs)?;
    Ok(Draft { program, filters, constants: draft.constants.clone() })
}

/// A convolution's weights with the gains in them: those of its input divided out, those of its output as a part of the
/// weights where the activation lets them through, and by themselves where it does not.
fn filter(
    filter: &Filter,
    bias: Option<&Vec<f32>>,
    op: &Op,
    shape: FilterShape,
    kept: bool,
    choices: &Choices,
    (from, to): (usize, usize),
) -> Filter {
    let Op::Conv { then, .. } = op else { unreachable!("a convolution") };
    let mut weights = effective(filter, shape, &choices.gains[from]);
    let mut bias = bias.unwrap_or(&filter.bias).clone();
    let mut gain = choices.gains[to].clone();
    if gain.iter().all(|&gain| gain == 1.0) {
        gain.clear();
    }
    if !gain.is_empty() && matches!(then, Activation::None | Activation::Relu | Activation::LeakyRelu(_)) {
        for ((weights, bias), gain) in weights.chunks_exact_mut(shape.per_channel()).zip(&mut bias).zip(&gain) {
            weights.iter_mut().for_each(|w| *w *= gain);
            *bias *= gain;
        }
        gain.clear();
    }
    let weights = if kept {
        Weights::F32(weights)
    } else {
        let (mut values, mut scales) = (Vec::with_capacity(shape.len()), Vec::with_capacity(shape.channels()));
        for weights in weights.chunks_exact(shape.per_channel()) {
            let (integers, scale) = integers(weights);
            values.extend(integers);
            scales.push(scale);
        }
        Weights::I8 { values, scales }
    };
    Filter { weights, bias, gain }
}

/// The weights that see the input with its gains.
fn effective(filter: &Filter, shape: FilterShape, gains: &[f32]) -> Vec<f32> {
    let (Weights::F32(weights) | Weights::F16(weights)) = &filter.weights else {
        unreachable!("networks are converted once")
    };
    let mut weights = weights.clone();
    for (output, weights) in weights.chunks_exact_mut(shape.per_channel()).enumerate() {
        let gains = &gains[output / shape.outputs * shape.inputs..][..shape.inputs];
        for tap in weights.chunks_exact_mut(shape.inputs) {
            tap.iter_mut().zip(gains).for_each(|(w, gain)| *w /= gain);
        }
    }
    weights
}
