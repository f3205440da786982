//! Convolutions: what the kernels want to know, made ready once.

use super::ConvNet;
use super::plan::Place;
use super::program::{Activation, Op};
use super::session::{Data, Map, Target, Workers};
use super::weights::{FilterShape, LoadedWeights};
use crate::kernels::{BLOCK, Dense, Depthwise, Element, Filter, Finish, MapKernels, Quads, Step, Sweep};
use crate::tensor::Tensor;

/// One convolution.
pub(super) struct Layer {
    sweep: Sweep,
    shape: FilterShape,
    weights: Weights,
    /// One for each output channel, each group filled up to whole blocks.
    bias: Vec<f32>,
    /// Empty, or as the bias.
    gain: Vec<f32>,
    then: Activation,
}

enum Weights {
    /// `outside` stands for pixels outside of the map.
    Dense {
        steps: Steps,
        outside: Vec<f32>,
    },
    DenseBytes {
        steps: Steps,
        sums: Sums,
        outside: Vec<u8>,
    },
    Depthwise {
        weights: Vec<f32>,
    },
    DepthwiseBytes {
        quads: Quads,
        sums: Sums,
        zero: u8,
    },
}

/// Weights in place, or in memory.
enum Steps {
    Mapped(Tensor),
    Owned(Vec<Step>),
}

/// From sums of integers to numbers; both as [`Layer::bias`].
struct Sums {
    start: Vec<i32>,
    scale: Vec<f32>,
}

impl Steps {
    fn get(&self) -> &[Step] {
        match self {
            Self::Mapped(tensor) => tensor.data().as_chunks().0.as_chunks().0,
            Self::Owned(steps) => steps,
        }
    }
}

impl Layer {
    /// The operation at position `i`, if it is a convolution.
    pub(super) fn new(net: &ConvNet, i: usize, places: &[Place], kernels: &MapKernels) -> Option<Self> {
        let program = net.program();
        let Op::Conv { x, window, then, .. } = &program.ops()[i] else { return None };
        let (from, to) = (program.shapes()[*x], program.shapes()[i + 1]);
        let sweep = Sweep {
            size: [from.h, from.w],
            pixel: places[*x].pixel,
            out_width: to.w,
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            pads: [window.pads[0], window.pads[1]],
        };
        let filter = net.filter(i);
        let shape = filter.shape;
        let zero = program.quants()[*x].map(|q| q.zero);
        let weights = match (&filter.weight, shape.is_depthwise()) {
            (LoadedWeights::I8 { values, scales }, depthwise) => {
                let (quant, zero) = (program.quants()[*x].expect("bytes by bytes"), zero.expect("bytes by bytes"));
                let integers = filter.integers();
                let offset = i32::from(zero) - if kernels.flips { 128 } else { 0 };
                let channels = integers.chunks_exact(shape.per_channel());
                let start =
                    channels.map(|w| -offset * w.iter().map(|&w| i32::from(w)).sum::<i32>()).collect::<Vec<_>>();
                let scale: Vec<f32> = scales.iter().map(|scale| scale * quant.scale).collect();
                let sums = Sums { start: in_blocks(shape, &start), scale: in_blocks(shape, &scale) };
                if depthwise {
                    let bytes: Vec<i8> = values.data().iter().map(|&x| x as i8).collect();
                    Weights::DepthwiseBytes { quads: Quads::new(&sweep, shape.groups, &bytes), sums, zero }
                } else {
                    let outside = vec![zero; window.kernel[1] * shape.inputs.next_multiple_of(4)];
                    Weights::DenseBytes { steps: Steps::Mapped(values.clone()), sums, outside }
                }
            }
            (_, true) => {
                let padded = shape.groups.next_multiple_of(BLOCK);
                let mut weights = vec![0.0; shape.taps * padded];
                let rows = weights.chunks_exact_mut(padded);
                rows.zip(filter.floats().chunks_exact(shape.groups))
                    .for_each(|(to, from)| to[..from.len()].copy_from_slice(from));
                Weights::Depthwise { weights }
            }
            (LoadedWeights::F32(tensor), false) => Weights::Dense {
                steps: Steps::Mapped(tensor.clone()),
                outside: vec![0.0; window.kernel[1] * shape.inputs],
            },
            (LoadedWeights::Wide(wide), false) => {
                let bytes: Vec<[u8; 4]> = wide.iter().map(|x| x.to_le_bytes()).collect();
                Weights::Dense {
                    steps: Steps::Owned(bytes.as_chunks().0.to_vec()),
                    outside: vec![0.0; window.kernel[1] * shape.inputs],
                }
            }
        };
        Some(Self {
            sweep,
            shape,
            weights,
            bias: in_blocks(shape, &filter.bias),
            gain: in_blocks(shape, &filter.gain),
            then: *then,
        })
    }

    /// Computes the convolution of `x`.
    pub(super) fn run(&self, workers: &mut Workers, x: Map, target: Target) {
        let work = target.shape.pixels() * self.shape.len();
        match (&self.weights, x.data) {
            (Weights::Dense { steps, outside }, Data::F32(x)) => {
                self.dense(workers, steps.get(), None, outside, x, target, work, MapKernels::dense_floats);
            }
            (Weights::DenseBytes { steps, sums, outside }, Data::U8(x, _)) => {
                self.dense(workers, steps.get(), Some(sums), outside, x, target, work, MapKernels::dense_bytes);
            }
            (Weights::Depthwise { .. }, Data::F32(x)) => {
                self.depthwise(workers, x, target, work, MapKernels::depthwise_floats);
            }
            (Weights::DepthwiseBytes { .. }, Data::U8(x, _)) => {
                self.depthwise(workers, x, target, work, MapKernels::depthwise_bytes);
            }
            _ => unreachable!("types were checked when the file was opened"),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn dense<E: Element>(
        &self,
        workers: &mut Workers,
        steps: &[Step],
        sums: Option<&Sums>,
        outside: &[E],
        x: &[E],
        target: Target,
        work: usize,
        kernel: fn(&MapKernels, &mut Dense<E>),
    ) {
        let FilterShape { groups, outputs, inputs, .. } = self.shape;
        let (blocks, out_pixel) = (outputs.div_ceil(BLOCK), target.pixel);
        let unit = workers.kernels.conv_pixels;
        workers.share(target.shape.pixels(), out_pixel, unit, work, target.out, |kernels, scratch, pixels, mut out| {
            for group in 0..groups {
                let lanes = group * blocks * BLOCK..(group + 1) * blocks * BLOCK;
                let per_group = steps.len() / groups;
                kernel(
                    kernels,
                    &mut Dense {
                        sweep: &self.sweep,
                        x: &x[group * inputs..],
                        zeros: outside,
                        inputs,
                        outputs,
                        weights: &steps[group * per_group..][..per_group],
                        start: sums.map_or(&[], |sums| &sums.start[lanes.clone()]),
                        scale: sums.map_or(&[], |sums| &sums.scale[lanes.clone()]),
                        bias: &self.bias[lanes.clone()],
                        pixels: pixels.clone(),
                        finish: Finish {
                            then: self.then,
                            gain: if self.gain.is_empty() { &[] } else { &self.gain[lanes] },
                            out: out.from(group * outputs),
                            out_pixel,
                        },
                        taps: &mut scratch.taps,
                    },
                );
            }
        });
    }

    fn depthwise<E: Element>(
        &self,
        workers: &mut Workers,
        x: &[E],
        target: Target,
        work: usize,
        kernel: fn(&MapKernels, &mut Depthwise<E>),
    ) {
        let (row, out_pixel) = (target.shape.w * target.pixel, target.pixel);
        workers.share(target.shape.h, row, 1, work, target.out, |kernels, scratch, rows, out| {
            let filter = match &self.weights {
                Weights::DepthwiseBytes { quads, sums: Sums { start, scale }, zero } => {
                    Filter::U8 { quads, zero: *zero, start, scale, rows: &mut scratch.bytes }
                }
                Weights::Depthwise { weights } => Filter::F32 { weights, rows: &mut scratch.floats },
                Weights::Dense { .. } | Weights::DenseBytes { .. } => unreachable!("a depthwise convolution"),
            };
            let finish = Finish { then: self.then, gain: &self.gain, out, out_pixel };
            let (sweep, channels, bias) = (&self.sweep, self.shape.groups, &self.bias[..]);
            kernel(kernels, &mut Depthwise { sweep, x, channels, filter, bias, rows, finish, sums: &mut scratch.sums });
        });
    }
}

/// Numbers of all output channels, those of each group filled up to whole blocks.
fn in_blocks<T: Copy + Default>(shape: FilterShape, values: &[T]) -> Vec<T> {
    // A depthwise convolution is one row of channels.
    let outputs = if shape.is_depthwise() { shape.groups } else { shape.outputs };
    let mut padded = Vec::new();
    for group in values.chunks_exact(outputs) {
        padded.extend_from_slice(group);
        padded.resize(padded.len().next_multiple_of(BLOCK), T::default());
    }
    padded
}
