//! Bias correction: what rounding the weights adds to each channel on average is taken off its bias (Nagel et al. 2019).

use super::convert::Choices;
use super::layout::convolutions;
use super::stats::Channels;
use crate::nets::convnet::program::Op;
use crate::nets::convnet::weights::{Draft, Filter, FilterShape, Weights};

/// Moves each bias by what its own convolution's weights add to the mean of the exact input. What comes from convolutions
/// before it is corrected there: to correct it here as well would do so twice, and more often the deeper the network.
pub(super) fn correct(draft: &Draft, exact: &[Channels], made: &Draft, choices: &mut Choices) {
    let program = &draft.program;
    for i in convolutions(program) {
        let op = &program.ops()[i];
        let Op::Conv { x, name, .. } = op else { continue };
        let shape = FilterShape::of(op, program.shapes()[*x].c).expect("a convolution");
        let converted = &made.filters[name];
        let scaled: Vec<f64> = exact[*x].mean.iter().zip(&choices.gains[*x]).map(|(m, &g)| m * f64::from(g)).collect();
        let before = means(&draft.filters[name], shape, &exact[*x].mean);
        let after = means(converted, shape, &scaled);
        let gains = &choices.gains[i + 1];
        let bias = choices.biases.entry(i).or_insert_with(|| draft.filters[name].bias.clone());
        for (c, bias) in bias.iter_mut().enumerate() {
            // The converted filter is in units of its output's gain, where that is a part of it.
            let gain = if converted.gain.is_empty() { f64::from(gains[c]) } else { 1.0 };
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
