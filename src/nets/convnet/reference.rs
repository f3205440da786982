//! What each operation means, as plainly as it can be written: the oracle for the kernels.
//!
//! Everything is computed in f32. A value that is stored in bytes is rounded to what its bytes stand for.

use super::ConvNet;
use super::program::*;
use super::weights::FilterShape;

/// Runs the program on a picture and returns all values, the input's first.
pub fn run(net: &ConvNet, input: &[f32]) -> Vec<Vec<f32>> {
    let program = net.program();
    let mut values = vec![rounded(input.to_vec(), program.quants()[0])];
    for (i, op) in program.ops().iter().enumerate() {
        let value = apply(net, i, op, &values);
        values.push(rounded(value, program.quants()[i + 1]));
    }
    values
}

/// What is left of a value that is stored in bytes.
fn rounded(mut value: Vec<f32>, quant: Option<Quant>) -> Vec<f32> {
    if let Some(Quant { scale, zero }) = quant {
        for x in &mut value {
            let byte = (*x / scale + f32::from(zero)).round_ties_even().clamp(0.0, 255.0);
            *x = scale * (byte - f32::from(zero));
        }
    }
    value
}

fn apply(net: &ConvNet, i: usize, op: &Op, values: &[Vec<f32>]) -> Vec<f32> {
    let shapes = net.program().shapes();
    let to = shapes[i + 1];
    let map = |x: &usize| Map { shape: shapes[*x], data: &values[*x] };
    match op {
        Op::Conv { x, window, then, .. } => conv(net, i, map(x), window, *then, to),
        Op::Pool { x, pooling, window } => each(to, |y, x_at, c| pool(map(x), *pooling, window, [y, x_at], c)),
        Op::Activate { x, then } => values[*x].iter().map(|&v| activate(*then, v)).collect(),
        Op::Combine { x, y, with, then } => each(to, |h, w, c| {
            let (a, b) = (map(x).at(h, w, c), map(y).repeated(h, w, c));
            activate(*then, combine(*with, a, b))
        }),
        Op::Constant { name, .. } => net.constants()[name].clone(),
        Op::Concat { xs, axis } => each(to, |h, w, c| {
            let mut at = [h, w, c];
            for x in xs {
                let (map, i) = (map(x), *axis as usize);
                let len = <[usize; 3]>::from(map.shape)[i];
                if at[i] < len {
                    return map.at(at[0], at[1], at[2]);
                }
                at[i] -= len;
            }
            unreachable!("the shapes were checked")
        }),
        Op::Slice { x, axis, from, step, .. } => each(to, |h, w, c| {
            let mut at = [h, w, c];
            at[*axis as usize] = from + at[*axis as usize] * step;
            map(x).at(at[0], at[1], at[2])
        }),
        Op::Shuffle { x, groups } => each(to, |h, w, c| map(x).at(h, w, c % groups * (to.c / groups) + c / groups)),
        Op::Resize { x, sampling, .. } => each(to, |h, w, c| resize(map(x), *sampling, to, [h, w], c)),
        Op::Reshape { x, .. } | Op::Convert { x } => values[*x].clone(),
        Op::Transpose { x, order } => each(to, |h, w, c| {
            let mut at = [0; 3];
            order.iter().zip([h, w, c]).for_each(|(axis, i)| at[*axis as usize] = i);
            map(x).at(at[0], at[1], at[2])
        }),
        Op::Softmax { x } => values[*x].chunks_exact(to.c).flat_map(softmax).collect(),
    }
}

#[derive(Clone, Copy)]
struct Map<'a> {
    shape: Shape,
    data: &'a [f32],
}

impl Map<'_> {
    fn at(self, h: usize, w: usize, c: usize) -> f32 {
        self.data[(h * self.shape.w + w) * self.shape.c + c]
    }

    /// With dimensions of 1 repeated.
    fn repeated(self, h: usize, w: usize, c: usize) -> f32 {
        self.at(h.min(self.shape.h - 1), w.min(self.shape.w - 1), c.min(self.shape.c - 1))
    }

    /// Pixel `tap` of the window at `position`, if it lies inside of the map.
    fn under(self, window: &Window, position: [usize; 2], tap: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize, size: usize| {
            (position[i] * window.stride[i] + tap[i] * window.dilation[i])
                .checked_sub(window.pads[i])
                .filter(|&p| p < size)
        };
        Some([along(0, self.shape.h)?, along(1, self.shape.w)?])
    }
}

fn each(shape: Shape, value: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
    let pixels = (0..shape.h).flat_map(|h| (0..shape.w).map(move |w| (h, w)));
    pixels.flat_map(|(h, w)| (0..shape.c).map(move |c| (h, w, c))).map(|(h, w, c)| value(h, w, c)).collect()
}

fn taps(window: &Window) -> impl Iterator<Item = [usize; 2]> {
    let [height, width] = window.kernel;
    (0..height).flat_map(move |ky| (0..width).map(move |kx| [ky, kx]))
}

fn conv(net: &ConvNet, i: usize, x: Map, window: &Window, then: Activation, to: Shape) -> Vec<f32> {
    let filter = net.filter(i);
    let FilterShape { outputs, taps: count, inputs, .. } = filter.shape;
    let weights = filter.to_f32();
    each(to, |h, w, c| {
        let mut sum = 0.0_f64;
        for (t, tap) in taps(window).enumerate() {
            let Some([y, x_at]) = x.under(window, [h, w], tap) else { continue };
            for k in 0..inputs {
                let weight = weights[(c * count + t) * inputs + k];
                sum += f64::from(weight) * f64::from(x.at(y, x_at, c / outputs * inputs + k));
            }
        }
        activate(then, sum as f32 + filter.bias[c]) * filter.gain.get(c).unwrap_or(&1.0)
    })
}

fn pool(x: Map, pooling: Pooling, window: &Window, position: [usize; 2], c: usize) -> f32 {
    let inside = taps(window).filter_map(|tap| x.under(window, position, tap));
    let inside: Vec<f32> = inside.map(|[h, w]| x.at(h, w, c)).collect();
    let sum: f32 = inside.iter().sum();
    match pooling {
        Pooling::Max => inside.into_iter().fold(f32::NEG_INFINITY, f32::max),
        Pooling::Mean => sum / inside.len() as f32,
        Pooling::PaddedMean => sum / (window.kernel[0] * window.kernel[1]) as f32,
    }
}

/// One element's activation.
pub fn activate(activation: Activation, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Clip(low, high) => x.max(low).min(high),
        Activation::LeakyRelu(slope) => {
            if x < 0.0 {
                slope * x
            } else {
                x
            }
        }
        Activation::Silu => x * sigmoid(x),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardSigmoid(a, b) => (a * x + b).clamp(0.0, 1.0),
        Activation::Sigmoid => sigmoid(x),
        Activation::Exp => x.exp(),
        Activation::Sqrt => x.sqrt(),
        Activation::Tanh => x.tanh(),
    }
}

fn combine(with: Arithmetic, a: f32, b: f32) -> f32 {
    match with {
        Arithmetic::Add => a + b,
        Arithmetic::Sub => a - b,
        Arithmetic::Mul => a * b,
        Arithmetic::Div => a / b,
        Arithmetic::Max => a.max(b),
        Arithmetic::Min => a.min(b),
    }
}

fn resize(x: Map, sampling: Sampling, to: Shape, [h, w]: [usize; 2], c: usize) -> f32 {
    let (rows, cols) = (sampling.taps(x.shape.h, to.h, h), sampling.taps(x.shape.w, to.w, w));
    let along = |row: usize| {
        let (a, b) = (x.at(row, cols.low, c), x.at(row, cols.high, c));
        a + (b - a) * cols.weight
    };
    let (a, b) = (along(rows.low), along(rows.high));
    a + (b - a) * rows.weight
}

fn softmax(x: &[f32]) -> Vec<f32> {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = x.iter().map(|x| (x - max).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
