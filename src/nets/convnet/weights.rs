//! Convolution weights: how they lie in a file, so that kernels use them in place on every instruction set.
//!
//! Dense convolutions are products whose `K = kernel height × kernel width × input channels` elements are ordered
//! `[ky][kx][channel]`. Output channels come in blocks of 16, the last one padded with zeros; a convolution in groups has
//! the blocks of each group one after the other.
//!
//! | tensor            | type     | layout                                     |
//! |-------------------|----------|--------------------------------------------|
//! | dense weight      | f32, f16 | `[block][K][16]`                           |
//! | dense weight      | i8       | `[block][ky][kx][⌈channels / 4⌉][16][4]`   |
//! | depthwise weight  | any      | `[ky][kx][channel]`                        |
//! | bias, scale, gain | f32      | `[output channel]`                         |
//!
//! Vectors of 4, 8, 16 or 32 output channels all find their weights side by side in that order.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, Writer};
use crate::kernels::BLOCK;
use crate::nets::convnet::program::{Op, Program};
use crate::quant;
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// The dimensions of a convolution's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterShape {
    /// Groups.
    pub groups: usize,
    /// Output channels of each group.
    pub outputs: usize,
    /// Kernel height × kernel width.
    pub taps: usize,
    /// Input channels of each group.
    pub inputs: usize,
}

impl FilterShape {
    /// Of a convolution over a map of `channels`.
    pub fn of(op: &Op, channels: usize) -> Option<Self> {
        let Op::Conv { channels: outputs, groups, window, .. } = op else { return None };
        let taps = window.kernel[0] * window.kernel[1];
        Some(Self { groups: *groups, outputs: outputs / groups, taps, inputs: channels / groups })
    }

    /// Whether each channel has a filter of its own.
    pub fn is_depthwise(self) -> bool {
        self.groups > 1 && self.inputs == 1 && self.outputs == 1
    }

    /// Number of weights.
    pub fn len(self) -> usize {
        self.groups * self.outputs * self.taps * self.inputs
    }

    /// Whether there are none; never so for a convolution.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// All output channels.
    pub fn channels(self) -> usize {
        self.groups * self.outputs
    }

    /// The weights of one output channel.
    pub fn per_channel(self) -> usize {
        self.taps * self.inputs
    }

    /// Dimensions of the weight tensor, contiguous one first.
    fn dims(self, bytes: bool) -> Vec<usize> {
        let blocks = self.groups * self.outputs.div_ceil(BLOCK);
        match bytes {
            _ if self.is_depthwise() => vec![self.groups, self.taps],
            false => vec![BLOCK, self.taps * self.inputs, blocks],
            true => vec![4, BLOCK, self.taps * self.inputs.div_ceil(4), blocks],
        }
    }

    /// Where the weight of `(output channel, tap, input channel of its group)` lies.
    fn position(self, bytes: bool, channel: usize, tap: usize, input: usize) -> usize {
        if self.is_depthwise() {
            return tap * self.groups + channel;
        }
        let (group, output) = (channel / self.outputs, channel % self.outputs);
        let block = group * self.outputs.div_ceil(BLOCK) + output / BLOCK;
        let lane = output % BLOCK;
        if bytes {
            let quads = self.inputs.div_ceil(4);
            (((block * self.taps + tap) * quads + input / 4) * BLOCK + lane) * 4 + input % 4
        } else {
            ((block * self.taps + tap) * self.inputs + input) * BLOCK + lane
        }
    }

    /// Moves weights from the order `[output channel][ky][kx][input channel]` to that of the file.
    pub fn pack<T: Copy + Default>(self, bytes: bool, weights: &[T]) -> Vec<T> {
        assert_eq!(weights.len(), self.len());
        let mut packed = vec![T::default(); self.dims(bytes).iter().product()];
        self.each(bytes, |i, at| packed[at] = weights[i]);
        packed
    }

    /// The reverse of [`pack`](Self::pack).
    pub fn unpack<T: Copy + Default>(self, bytes: bool, packed: &[T]) -> Vec<T> {
        assert_eq!(packed.len(), self.dims(bytes).iter().product::<usize>());
        let mut weights = vec![T::default(); self.len()];
        self.each(bytes, |i, at| weights[i] = packed[at]);
        weights
    }

    fn each(self, bytes: bool, mut visit: impl FnMut(usize, usize)) {
        let mut i = 0;
        for channel in 0..self.channels() {
            for tap in 0..self.taps {
                for input in 0..self.inputs {
                    visit(i, self.position(bytes, channel, tap, input));
                    i += 1;
                }
            }
        }
    }
}

/// Weights of one convolution in the order `[output channel][ky][kx][input channel]`, and its bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// The weights.
    pub weights: Weights,
    /// One for each output channel.
    pub bias: Vec<f32>,
    /// What each output channel is multiplied with after the activation; empty if it is not.
    pub gain: Vec<f32>,
}

/// The weights themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// As they are.
    F32(Vec<f32>),
    /// To be stored in half precision.
    F16(Vec<f32>),
    /// Integers from −127 to 127.
    I8 {
        /// The integers.
        values: Vec<i8>,
        /// What they are multiplied with, one for each output channel.
        scales: Vec<f32>,
    },
}

/// A network outside of a file: what converters make, change and write.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The operations.
    pub program: Program,
    /// The weights of each convolution, by name.
    pub filters: BTreeMap<String, Filter>,
    /// The constants, by name.
    pub constants: BTreeMap<String, Vec<f32>>,
}

impl Draft {
    /// Adds the program and its tensors to a file.
    ///
    /// # Panics
    /// If a filter or constant of the program is missing or has another size.
    pub fn write(&self, writer: &mut Writer) {
        let program = &self.program;
        let ops = program.ops().iter().map(|op| serde_json::to_string(op).expect("operations are plain data"));
        let input = program.shapes()[0];
        writer.key("convnet.input", [input.h, input.w, input.c].map(|n| n as u32).to_vec());
        writer.key("convnet.program", ops.collect::<Vec<_>>());
        writer.key("convnet.outputs", program.outputs().iter().map(|&x| x as u32).collect::<Vec<_>>());
        if program.quants().iter().any(Option::is_some) {
            let scales = program.quants().iter().map(|q| q.map_or(0.0, |q| q.scale));
            let zeros = program.quants().iter().map(|q| q.map_or(0, |q| q.zero));
            writer.key("convnet.scales", scales.collect::<Vec<f32>>());
            writer.key("convnet.zeros", zeros.collect::<Vec<u8>>());
        }
        for op in program.ops() {
            match op {
                Op::Conv { x, name, .. } => {
                    let shape = FilterShape::of(op, program.shapes()[*x].c).expect("a convolution");
                    write_filter(writer, name, shape, &self.filters[name]);
                }
                Op::Constant { name, shape } => {
                    let constant = &self.constants[name];
                    assert_eq!(constant.len(), shape.len());
                    writer.tensor(name, DType::F32, &[shape.c, shape.w, shape.h], floats(constant));
                }
                _ => {}
            }
        }
    }
}

fn write_filter(writer: &mut Writer, name: &str, shape: FilterShape, filter: &Filter) {
    let weight = format!("{name}.weight");
    match &filter.weights {
        Weights::F32(values) => {
            writer.tensor(weight, DType::F32, &shape.dims(false), floats(&shape.pack(false, values)))
        }
        Weights::F16(values) => {
            let bytes = quant::quantize(DType::F16, &shape.pack(false, values)).expect("single elements");
            writer.tensor(weight, DType::F16, &shape.dims(false), bytes)
        }
        Weights::I8 { values, scales } => {
            assert_eq!(scales.len(), shape.channels());
            let bytes: Vec<u8> = shape.pack(true, values).into_iter().map(|x| x as u8).collect();
            writer.tensor(format!("{name}.scale"), DType::F32, &[scales.len()], floats(scales));
            writer.tensor(weight, DType::I8, &shape.dims(true), bytes)
        }
    };
    if !filter.gain.is_empty() {
        assert_eq!(filter.gain.len(), shape.channels());
        writer.tensor(format!("{name}.gain"), DType::F32, &[filter.gain.len()], floats(&filter.gain));
    }
    assert_eq!(filter.bias.len(), shape.channels());
    writer.tensor(format!("{name}.bias"), DType::F32, &[filter.bias.len()], floats(&filter.bias));
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Products of bytes that 32 bits can add up.
const MAX_SUMMANDS: usize = 1 << 16;

/// One convolution's tensors, in place where they can be.
pub struct Loaded {
    /// The dimensions.
    pub shape: FilterShape,
    /// The weights, as they lie in the file.
    pub weight: LoadedWeights,
    /// One for each output channel.
    pub bias: Vec<f32>,
    /// What each output channel is multiplied with after the activation; empty if it is not.
    pub gain: Vec<f32>,
}

/// The weights as they lie in the file.
pub enum LoadedWeights {
    /// In place.
    F32(Tensor),
    /// Widened from half precision.
    Wide(Vec<f32>),
    /// In place.
    I8 {
        /// The integers.
        values: Tensor,
        /// One for each output channel.
        scales: Vec<f32>,
    },
}

impl Loaded {
    /// Finds and checks the tensors of the convolution called `name`.
    ///
    /// # Errors
    /// `Format` if one is missing or of another type or shape.
    pub fn load(file: &Gguf, name: &str, shape: FilterShape) -> Result<Self> {
        let weight = file.tensor(&format!("{name}.weight"))?;
        let bytes = weight.dtype() == DType::I8;
        expect_dims(file, &format!("{name}.weight"), &weight, &shape.dims(bytes))?;
        let channels = |part: &str| load_floats(file, &format!("{name}.{part}"), &[shape.channels()]);
        let bias = channels("bias")?;
        let has_gain = file.find_tensor(&format!("{name}.gain")).is_some();
        let gain = if has_gain { channels("gain")? } else { Vec::new() };
        let weight = match weight.dtype() {
            DType::F32 => LoadedWeights::F32(weight),
            DType::F16 => {
                let mut wide = vec![0.0; weight.cols() * weight.rows()];
                quant::dequantize(DType::F16, weight.data(), &mut wide);
                LoadedWeights::Wide(wide)
            }
            DType::I8 => {
                let scales = channels("scale")?;
                let refused = |what: String| Error::format(format!("{}: tensor `{name}.weight` {what}", file.name()));
                // The instructions of some CPUs multiply by the absolute value, of which -128 has none in a byte.
                if weight.data().contains(&(i8::MIN as u8)) {
                    return Err(refused("has the byte -128, expected -127 to 127".into()));
                }
                if shape.per_channel() > MAX_SUMMANDS {
                    let summands = shape.per_channel();
                    return Err(refused(format!(
                        "adds up {summands} products of bytes, expected {MAX_SUMMANDS} at most"
                    )));
                }
                LoadedWeights::I8 { values: weight, scales }
            }
            other => {
                let file = file.name();
                return Err(Error::unsupported(format!(
                    "{file}: tensor `{name}.weight` is {other}, expected f32, f16 or i8"
                )));
            }
        };
        Ok(Self { shape, weight, bias, gain })
    }

    /// Whether the weights are integers.
    pub fn is_integer(&self) -> bool {
        matches!(self.weight, LoadedWeights::I8 { .. })
    }

    /// The weights as they lie in the file, if they are floats.
    pub(super) fn floats(&self) -> Vec<f32> {
        match &self.weight {
            LoadedWeights::F32(tensor) => from_bytes(tensor.data()),
            LoadedWeights::Wide(wide) => wide.clone(),
            LoadedWeights::I8 { .. } => Vec::new(),
        }
    }

    /// The weights in the order `[output channel][ky][kx][input channel]`, if they are integers.
    pub(super) fn integers(&self) -> Vec<i8> {
        let LoadedWeights::I8 { values, .. } = &self.weight else { return Vec::new() };
        self.shape.unpack(true, values.data()).into_iter().map(|x| x as i8).collect()
    }

    /// The weights as f32, in the order `[output channel][ky][kx][input channel]`.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.weight {
            LoadedWeights::F32(_) | LoadedWeights::Wide(_) => self.shape.unpack(false, &self.floats()),
            LoadedWeights::I8 { scales, .. } => {
                let mut weights: Vec<f32> = self.integers().into_iter().map(f32::from).collect();
                let channels = weights.chunks_exact_mut(self.shape.per_channel());
                channels.zip(scales).for_each(|(channel, scale)| channel.iter_mut().for_each(|x| *x *= scale));
                weights
            }
        }
    }
}

/// The f32 tensor `name` with these dimensions.
pub(super) fn load_floats(file: &Gguf, name: &str, dims: &[usize]) -> Result<Vec<f32>> {
    let tensor = file.tensor(name)?;
    expect_dims(file, name, &tensor, dims)?;
    if tensor.dtype() != DType::F32 {
        let (file, dtype) = (file.name(), tensor.dtype());
        return Err(Error::format(format!("{file}: tensor `{name}` is {dtype}, expected f32")));
    }
    Ok(from_bytes(tensor.data()))
}

fn expect_dims(file: &Gguf, name: &str, tensor: &Tensor, dims: &[usize]) -> Result<()> {
    if tensor.dims() == dims {
        return Ok(());
    }
    let (file, found) = (file.name(), tensor.dims());
    Err(Error::format(format!("{file}: tensor `{name}` has the dimensions {found:?}, expected {dims:?}")))
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}
