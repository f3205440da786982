//! Bias correction: what rounding adds to each channel on average is taken off its bias (Nagel et al. 2019).

use super::convert::{Choices, Made};
use super::layout::convolutions;
use super::stats::Channels;
use crate::nets::convnet::program::Op;
use crate::nets::convnet::weights::{Draft, Filter, FilterShape, Weights};

/// Moves the biases by what the means that were seen in the converted network say about each channel. Means upstream
/// move, too, so this takes a few rounds.
pub(super) fn correct(draft: &Draft, exact: &[Channels], made: &Made, seen: &[Channels], choices: &mut Choices) {
    let program = &draft.program;
    for i in convolutions(program) {
        let op = &program.ops()[i];
        let Op::Conv { x, name, .. } = op else { continue };
        let shape = FilterShape::of(op, program.shapes()[*x].c).expect("a convolution");
        let Op::Conv { x: read, .. } = &made.draft.program.ops()[made.values[i + 1] - 1] else { continue };
        let before = means(&draft.filters[name], shape, &exact[*x].mean);
        let after = means(&made.draft.filters[name], shape, &seen[*read].mean);
        // The converted filter is in units of its output's gain, where that is a part of it.
        let whole = made.draft.filters[name].gain.is_empty();
        let gains = &choices.gains[i + 1];
        let bias = choices.biases.entry(i).or_insert_with(|| draft.filters[name].bias.clone());
        for (c, bias) in bias.iter_mut().enumerate() {
            let gain = if whole { f64::from(gains[c]) } else { 1.0 };
            *bias -= (after[c] / gain - before[c]) as f32;
        }
    }
}

/// The mean of each output channel before the activation, if every pixel saw the mean input.
fn means(filter: &Filter, shape: FilterShape, input: &[f64]) -> Vec<f64> {
    let weight = |i: usize| match &filter.weights {
        Weights::F32(weights) | Weights::F16(weights) => f64::from(weights[i]),
        Weights::I8 { values, scales } => f64::from(values[i]) * f64::from(scales[i / shape.per_channel()]),
    };
    let channels = 0..shape.channels();
    let sum = |output: usize| -> f64 {
        let inputs = &input[output / shape.outputs * shape.inputs..][..shape.inputs];
        let first = output * shape.per_channel();
        (0..shape.per_channel()).map(|k| weight(first + k) * inputs[k % shape.inputs]).sum()
    };
    channels.map(|output| sum(output) + f64::from(filter.bias[output])).collect()
}
