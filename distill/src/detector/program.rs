//! A detector as a program of the runtime.
//!
//! Norms become part of the convolutions before them: with s = γ / √(σ² + ε), weights are multiplied with s, and the bias
//! is β − s μ.

use super::network::{Build, Layer, Then, network};
use super::student::{Detector, moments_in};
use crate::error::Result;
use crate::export::numbers;
use crate::nn::maps::{Activation, activation::SLOPE, moments::EPSILON};
use candle_core::Tensor;
use pupil::nets::convnet::program::{Activation as Applied, Arithmetic, Axis, Op, Program, Sampling, Shape, Window};
pub use pupil::nets::convnet::weights::Draft;
use pupil::nets::convnet::weights::{Filter, Weights};
use std::collections::BTreeMap;

/// The network in f32. `weights` are others than the student's own, as [the optimiser's running
/// means](crate::optimizer::AdamW::averages); if running means of the [statistics](Detector::statistics) are among them,
/// those as well.
///
/// # Errors
/// `Input` for weights that are missing or not finite.
pub fn draft(student: &Detector, weights: Option<&BTreeMap<String, Tensor>>) -> Result<Draft> {
    let config = student.config();
    let input = Shape::new(config.height, config.width, 3);
    let mut build = Write { student, weights, ops: Vec::new(), filters: BTreeMap::new() };
    let levels = network(config, &mut build, &Value { number: 0, shape: input })?;
    let outputs = levels.outputs.iter().map(|level| level.number).collect();
    let program = Program::new(input, build.ops, Vec::new(), outputs)?;
    Ok(Draft { program, filters: build.filters, constants: BTreeMap::new() })
}

/// Writes the network down as a program.
struct Write<'a> {
    student: &'a Detector,
    weights: Option<&'a BTreeMap<String, Tensor>>,
    ops: Vec<Op>,
    filters: BTreeMap<String, Filter>,
}

/// A value of the program.
#[derive(Clone, Copy)]
struct Value {
    number: usize,
    shape: Shape,
}

impl Write<'_> {
    fn push(&mut self, op: Op, shape: Shape) -> Value {
        self.ops.push(op);
        Value { number: self.ops.len(), shape }
    }

    /// The numbers of a variable.
    fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        numbers(name, &self.student.variables()[name], self.weights)
    }

    /// What a norm multiplies each channel with, and adds after that.
    fn norm(&self, name: &str) -> Result<(Vec<f32>, Vec<f32>)> {
        let (weight, bias) =
            (self.numbers(&format!("{name}.norm.weight"))?, self.numbers(&format!("{name}.norm.bias"))?);
        let running = self.student.running(name);
        let averaged = self.weights.map(|weights| moments_in(weights, name, weight.len())).transpose()?.flatten();
        let [mean, variance] = averaged.unwrap_or_else(|| [running.mean.clone(), running.variance.clone()]);
        let factor: Vec<f32> = weight.iter().zip(variance).map(|(weight, v)| weight / (v + EPSILON).sqrt()).collect();
        let offset = bias.iter().zip(&factor).zip(mean).map(|((bias, factor), mean)| bias - factor * mean).collect();
        Ok((factor, offset))
    }

    /// Weights in the order `[output][ky][kx][input]`, and biases.
    fn filter(&self, layer: &Layer) -> Result<Filter> {
        let (name, outputs) = (&layer.name, layer.outputs);
        let mut weights = self.numbers(&format!("{name}.weight"))?;
        let of_output = weights.len() / outputs;
        if layer.depthwise {
            // Channels are side by side in training.
            weights = (0..weights.len()).map(|i| weights[i % of_output * outputs + i / of_output]).collect();
        }
        let bias = match layer.then {
            Then::Bias => self.numbers(&format!("{name}.bias"))?,
            Then::Norm(_) => {
                let (factor, offset) = self.norm(name)?;
                for (weights, factor) in weights.chunks_exact_mut(of_output).zip(factor) {
                    weights.iter_mut().for_each(|weight| *weight *= factor);
                }
                offset
            }
        };
        Ok(Filter { weights: Weights::F32(weights), bias, gain: Vec::new() })
    }
}

impl Build for Write<'_> {
    type Map = Value;

    fn conv(&mut self, xs: &[&Value], layer: Layer) -> Result<Value> {
        let filter = self.filter(&layer)?;
        let mut x = *xs[0];
        if xs.len() > 1 {
            let shape = Shape { c: xs.iter().map(|x| x.shape.c).sum(), ..x.shape };
            x = self.push(Op::Concat { xs: xs.iter().map(|x| x.number).collect(), axis: Axis::C }, shape);
        }
        let Layer { name, depthwise, outputs, window, then } = layer;
        let side = |side: usize| side.div_ceil(window.stride);
        let shape = Shape::new(side(x.shape.h), side(x.shape.w), outputs);
        let pads = [window.kernel / 2; 4];
        let window = Window { stride: [window.stride; 2], pads, ..Window::new([window.kernel; 2]) };
        let then = match then {
            Then::Bias => Applied::None,
            Then::Norm(activation) => applied(activation),
        };
        let groups = if depthwise { outputs } else { 1 };
        self.filters.insert(name.clone(), filter);
        Ok(self.push(Op::Conv { x: x.number, name, channels: outputs, groups, window, then }, shape))
    }

    fn add(&mut self, x: &Value, y: &Value) -> Result<Value> {
        let sum = Op::Combine { x: x.number, y: y.number, with: Arithmetic::Add, then: Applied::None };
        Ok(self.push(sum, x.shape))
    }

    fn upsample(&mut self, x: &Value) -> Result<Value> {
        let shape = Shape::new(2 * x.shape.h, 2 * x.shape.w, x.shape.c);
        Ok(self.push(Op::Resize { x: x.number, size: [shape.h, shape.w], sampling: Sampling::Nearest }, shape))
    }
}

fn applied(activation: Activation) -> Applied {
    match activation {
        Activation::Relu => Applied::Relu,
        Activation::LeakyRelu => Applied::LeakyRelu(SLOPE),
        Activation::HardSwish => Applied::HardSwish,
        Activation::Silu => Applied::Silu,
    }
}
