//! The network of a detector as a flat list of typed operations.
//!
//! Every operation makes one value, a map of `height × width × channels` numbers with the channels side by side (NHWC
//! without N). Value 0 is the picture, and the operation at position `i` makes value `i + 1` out of earlier ones. In a
//! file each operation is a JSON object in the array of strings `convnet.program`, so that `pupil inspect` and people can
//! read it.
//!
//! Values are f32 or, where the file gives them a [`Quant`], unsigned bytes.

use super::plan::Plan;
use crate::error::{Error, Result};
pub use crate::kernels::{Activation, Arithmetic};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest side of a value, the most channels, and the most elements: far above any detector, and low enough that
/// sizes and offsets cannot overflow.
const MAX_SIDE: usize = 1 << 20;
const MAX_CHANNELS: usize = 1 << 16;
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;
/// Pixels from the first that a convolution's window meets to the last.
const MAX_REACH: u64 = 1 << 12;
/// Elements of the rows under a window, which depthwise convolutions keep for each thread.
const MAX_BAND: u128 = 1 << 24;
/// Bytes of all maps that are needed at the same time.
const MAX_MEMORY: u64 = 1 << 30;
/// The most operations.
const MAX_OPS: usize = 1 << 14;

/// The shape of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[usize; 3]", into = "[usize; 3]")]
pub struct Shape {
    /// Height.
    pub h: usize,
    /// Width.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// A map of `h × w × c`.
    pub const fn new(h: usize, w: usize, c: usize) -> Self {
        Self { h, w, c }
    }

    /// Number of pixels.
    pub const fn pixels(self) -> usize {
        self.h * self.w
    }

    /// Number of elements.
    pub const fn len(self) -> usize {
        self.h * self.w * self.c
    }

    /// Whether there are no elements; never so in a checked program.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn axis(self, axis: Axis) -> usize {
        match axis {
            Axis::H => self.h,
            Axis::W => self.w,
            Axis::C => self.c,
        }
    }

    fn with(mut self, axis: Axis, len: usize) -> Self {
        *match axis {
            Axis::H => &mut self.h,
            Axis::W => &mut self.w,
            Axis::C => &mut self.c,
        } = len;
        self
    }

    pub(super) fn checked(self) -> Result<Self> {
        let sides = [self.h, self.w].into_iter().all(|n| (1..=MAX_SIDE).contains(&n));
        let elements = || self.h.checked_mul(self.w)?.checked_mul(self.c).filter(|&n| n <= MAX_ELEMENTS);
        if sides && (1..=MAX_CHANNELS).contains(&self.c) && elements().is_some() {
            return Ok(self);
        }
        Err(Error::format(format!(
            "makes a map of {self}, expected sides of 1 to {MAX_SIDE}, 1 to {MAX_CHANNELS} channels, and at most {MAX_ELEMENTS} elements"
        )))
    }
}

impl From<[usize; 3]> for Shape {
    fn from([h, w, c]: [usize; 3]) -> Self {
        Self { h, w, c }
    }
}

impl From<Shape> for [usize; 3] {
    fn from(Shape { h, w, c }: Shape) -> Self {
        [h, w, c]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// A dimension of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Axis {
    H,
    W,
    C,
}

/// What a pool takes of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The largest element; pixels outside of the map do not count.
    Max,
    /// The mean of the elements inside of the map.
    Mean,
    /// The mean over the whole window, pixels outside of the map being 0.
    PaddedMean,
}

/// How a resized map is sampled: where its pixel `i` lies in the source, with `r` = source size / target size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The pixel at `⌊i r⌋`.
    Nearest,
    /// The pixel nearest to `(i + ½) r − ½`, the lower one of two.
    NearestCentre,
    /// Linear between the pixels around `(i + ½) r − ½`.
    Bilinear,
    /// Linear between the pixels around `i r`.
    BilinearAsymmetric,
    /// Linear between the pixels around `i (source − 1) / (target − 1)`.
    BilinearCorners,
}

/// Between which two pixels of the source a pixel lies, and how near to the higher one: 0 is at the lower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taps {
    /// The lower pixel.
    pub low: usize,
    /// The higher pixel, or the same at the map's end.
    pub high: usize,
    /// The share of the higher pixel.
    pub weight: f32,
}

impl Sampling {
    /// Where pixel `i` of `to` lies among the `from` pixels of the source.
    pub fn taps(self, from: usize, to: usize, i: usize) -> Taps {
        let ratio = from as f32 / to as f32;
        let last = from - 1;
        let at = |pixel: usize| Taps { low: pixel.min(last), high: pixel.min(last), weight: 0.0 };
        let between = |position: f32| {
            let position = position.clamp(0.0, last as f32);
            let low = position as usize;
            Taps { low, high: (low + 1).min(last), weight: position - low as f32 }
        };
        match self {
            // In integers: a product of floats may come out just below a whole number.
            Self::Nearest => at((i as u64 * from as u64 / to as u64) as usize),
            Self::NearestCentre => at(((i as f32 + 0.5) * ratio - 1.0).ceil().max(0.0) as usize),
            Self::Bilinear => between((i as f32 + 0.5) * ratio - 0.5),
            Self::BilinearAsymmetric => between(i as f32 * ratio),
            Self::BilinearCorners if to == 1 => at(0),
            Self::BilinearCorners => between(i as f32 * last as f32 / (to - 1) as f32),
        }
    }
}

/// A window that moves over a map. Pairs are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its size.
    pub kernel: [usize; 2],
    /// How far it moves.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub stride: [usize; 2],
    /// The distance between its elements.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub dilation: [usize; 2],
    /// Pixels that are added around the map: top, left, bottom, right.
    #[serde(default, skip_serializing_if = "is_zeros")]
    pub pads: [usize; 4],
}

fn ones() -> [usize; 2] {
    [1, 1]
}

fn is_ones(x: &[usize; 2]) -> bool {
    *x == [1, 1]
}

fn is_zeros(x: &[usize; 4]) -> bool {
    *x == [0; 4]
}

fn one() -> usize {
    1
}

fn is_one(x: &usize) -> bool {
    *x == 1
}

fn is_none(x: &Activation) -> bool {
    *x == Activation::None
}

impl Window {
    /// A window of `kernel` pixels, moving by one.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: [1, 1], dilation: [1, 1], pads: [0; 4] }
    }

    /// The number of positions of the window over a map.
    fn positions(&self, x: Shape) -> Result<[usize; 2]> {
        let all = [&self.kernel[..], &self.stride, &self.dilation].concat();
        if !all.iter().all(|n| (1..=MAX_SIDE).contains(n)) || self.pads.iter().any(|&n| n > MAX_SIDE) {
            return Err(Error::format(format!("has the window {self:?}, expected numbers from 1 to {MAX_SIDE}")));
        }
        let along = |i: usize, size: usize| {
            let room = self.padded(i, size).checked_sub(self.reach(i))?;
            Some((room / self.stride[i] as u64) as usize + 1)
        };
        match (along(0, x.h), along(1, x.w)) {
            (Some(h), Some(w)) => Ok([h, w]),
            _ => Err(Error::format(format!("has a window larger than its padded map of {x}"))),
        }
    }

    /// Pixels from the first that the window meets to the last; below 2⁴¹, as its numbers are checked.
    fn reach(&self, i: usize) -> u64 {
        (self.kernel[i] - 1) as u64 * self.dilation[i] as u64 + 1
    }

    /// A map's side with what is added to it.
    fn padded(&self, i: usize, side: usize) -> u64 {
        (side + self.pads[i] + self.pads[i + 2]) as u64
    }

    /// Checks that what a convolution keeps of its map for itself is bounded.
    fn check_reach(&self, x: Shape) -> Result<()> {
        let [h, w] = [self.reach(0), self.reach(1)];
        let band = u128::from(h) * u128::from(self.padded(1, x.w)) * x.c as u128;
        if h > MAX_REACH || w > MAX_REACH || band > MAX_BAND {
            return Err(Error::unsupported(format!("has windows that reach over {h}x{w} pixels of a map of {x}")));
        }
        Ok(())
    }
}

/// An operation. Numbers of values are those of earlier operations' results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Convolution, bias and activation.
    ///
    /// The tensors are `{name}.weight`, `{name}.bias` and, if the weights are `i8`, `{name}.scale`; if there is a
    /// `{name}.gain`, what comes out of the activation is multiplied with it. [`weights`](super::weights) says how they
    /// lie in the file.
    Conv {
        /// The map.
        x: usize,
        /// The first part of its tensors' names.
        name: String,
        /// Output channels.
        channels: usize,
        /// Groups of channels; as many as there are channels in a depthwise convolution.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        groups: usize,
        /// The kernel's size and movement.
        window: Window,
        /// What is applied to the result.
        #[serde(default, skip_serializing_if = "is_none")]
        then: Activation,
    },
    /// The largest element or the mean of each window.
    Pool {
        /// The map.
        x: usize,
        /// Which of them.
        pooling: Pooling,
        /// The window.
        window: Window,
    },
    /// An activation by itself.
    Activate {
        /// The map.
        x: usize,
        /// What is applied.
        then: Activation,
    },
    /// Arithmetic of two maps element by element. Where the second has a dimension of 1, it is repeated.
    Combine {
        /// The first map.
        x: usize,
        /// The second map.
        y: usize,
        /// What is done.
        with: Arithmetic,
        /// What is applied to the result.
        #[serde(default, skip_serializing_if = "is_none")]
        then: Activation,
    },
    /// A map that the file holds, as the f32 tensor of this name.
    Constant {
        /// The tensor's name.
        name: String,
        /// Its shape.
        shape: Shape,
    },
    /// Maps side by side.
    Concat {
        /// The maps.
        xs: Vec<usize>,
        /// The dimension along which they are put.
        axis: Axis,
    },
    /// Part of a map.
    Slice {
        /// The map.
        x: usize,
        /// The dimension of which a part is taken.
        axis: Axis,
        /// The first position.
        from: usize,
        /// Number of positions.
        len: usize,
        /// Every how many.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        step: usize,
    },
    /// Channel `i × (c / groups) + j` becomes channel `j × groups + i` (Zhang et al. 2018).
    Shuffle {
        /// The map.
        x: usize,
        /// Number of groups.
        groups: usize,
    },
    /// Another size.
    Resize {
        /// The map.
        x: usize,
        /// Height and width.
        size: [usize; 2],
        /// How it is sampled.
        sampling: Sampling,
    },
    /// The same elements in the same order, as another shape.
    Reshape {
        /// The map.
        x: usize,
        /// The shape.
        shape: Shape,
    },
    /// The dimensions in another order.
    Transpose {
        /// The map.
        x: usize,
        /// Which dimension comes first, second and third.
        order: [Axis; 3],
    },
    /// Softmax over the channels.
    Softmax {
        /// The map.
        x: usize,
    },
    /// The same map, stored as the file says of this value: quantizes, dequantizes or requantizes.
    Convert {
        /// The map.
        x: usize,
    },
}

impl Op {
    /// The values that it reads.
    pub fn inputs(&self) -> Vec<usize> {
        match self {
            Self::Conv { x, .. }
            | Self::Pool { x, .. }
            | Self::Activate { x, .. }
            | Self::Slice { x, .. }
            | Self::Shuffle { x, .. }
            | Self::Resize { x, .. }
            | Self::Reshape { x, .. }
            | Self::Transpose { x, .. }
            | Self::Softmax { x }
            | Self::Convert { x } => vec![*x],
            Self::Combine { x, y, .. } => vec![*x, *y],
            Self::Concat { xs, .. } => xs.clone(),
            Self::Constant { .. } => vec![],
        }
    }

    /// Replaces the values that it reads.
    pub fn map_inputs(&mut self, map: impl Fn(usize) -> usize) {
        match self {
            Self::Conv { x, .. }
            | Self::Pool { x, .. }
            | Self::Activate { x, .. }
            | Self::Slice { x, .. }
            | Self::Shuffle { x, .. }
            | Self::Resize { x, .. }
            | Self::Reshape { x, .. }
            | Self::Transpose { x, .. }
            | Self::Softmax { x }
            | Self::Convert { x } => *x = map(*x),
            Self::Combine { x, y, .. } => (*x, *y) = (map(*x), map(*y)),
            Self::Concat { xs, .. } => xs.iter_mut().for_each(|x| *x = map(*x)),
            Self::Constant { .. } => {}
        }
    }

    /// Whether it only moves elements, so that its result may be stored as its inputs are.
    pub fn only_moves(&self) -> bool {
        matches!(
            self,
            Self::Concat { .. }
                | Self::Slice { .. }
                | Self::Shuffle { .. }
                | Self::Reshape { .. }
                | Self::Transpose { .. }
                | Self::Resize { sampling: Sampling::Nearest | Sampling::NearestCentre, .. }
                | Self::Pool { pooling: Pooling::Max, .. }
        )
    }

    /// The shape of the result; `shape` gives those of earlier values.
    pub(crate) fn infer(&self, shape: impl Fn(usize) -> Result<Shape>) -> Result<Shape> {
        let made = match self {
            Self::Conv { x, channels, groups, window, .. } => {
                let x = shape(*x)?;
                if *groups == 0 || !x.c.is_multiple_of(*groups) || !channels.is_multiple_of(*groups) {
                    return Err(Error::format(format!(
                        "has {groups} groups, expected a number that divides its {} and {channels} channels",
                        x.c
                    )));
                }
                let [h, w] = window.positions(x)?;
                window.check_reach(x)?;
                Shape::new(h, w, *channels)
            }
            Self::Pool { x, window, .. } => {
                let x = shape(*x)?;
                let [h, w] = window.positions(x)?;
                let outside = (0..4).any(|i| window.pads[i] > (window.kernel[i % 2] - 1) * window.dilation[i % 2]);
                if outside {
                    return Err(Error::format("pools windows that lie outside of the map"));
                }
                Shape::new(h, w, x.c)
            }
            Self::Activate { x, .. } | Self::Softmax { x } | Self::Convert { x } => shape(*x)?,
            Self::Combine { x, y, .. } => {
                let (x, y) = (shape(*x)?, shape(*y)?);
                let fits = |x: usize, y: usize| y == x || y == 1;
                if !fits(x.h, y.h) || !fits(x.w, y.w) || !fits(x.c, y.c) {
                    return Err(Error::format(format!("combines maps of {x} and {y}")));
                }
                x
            }
            Self::Constant { shape, .. } => *shape,
            Self::Concat { xs, axis } => {
                let (first, rest) = xs.split_first().ok_or_else(|| Error::format("puts no maps side by side"))?;
                let mut sum = shape(*first)?;
                for x in rest {
                    let x = shape(*x)?;
                    if x.with(*axis, 0) != sum.with(*axis, 0) {
                        return Err(Error::format(format!("puts maps of {sum} and {x} side by side")));
                    }
                    // Below 2²⁹: both were checked.
                    sum = sum.with(*axis, sum.axis(*axis) + x.axis(*axis)).checked()?;
                }
                sum
            }
            Self::Slice { x, axis, from, len, step } => {
                let x = shape(*x)?;
                let last = len.checked_sub(1).and_then(|n| n.checked_mul(*step)).and_then(|n| n.checked_add(*from));
                if *step == 0 || last.is_none_or(|last| last >= x.axis(*axis)) {
                    return Err(Error::format(format!("takes {len} from {from} by {step} of a map of {x}")));
                }
                x.with(*axis, *len)
            }
            Self::Shuffle { x, groups } => {
                let x = shape(*x)?;
                if *groups == 0 || !x.c.is_multiple_of(*groups) {
                    return Err(Error::format(format!("shuffles {} channels in {groups} groups", x.c)));
                }
                x
            }
            Self::Resize { x, size: [h, w], .. } => Shape::new(*h, *w, shape(*x)?.c),
            Self::Reshape { x, shape: to } => {
                let x = shape(*x)?;
                if to.checked()?.len() != x.len() {
                    return Err(Error::format(format!("makes a map of {x} one of {to}")));
                }
                *to
            }
            Self::Transpose { x, order } => {
                let x = shape(*x)?;
                if [Axis::H, Axis::W, Axis::C].iter().any(|axis| !order.contains(axis)) {
                    return Err(Error::format(format!("has the order {order:?}, expected each dimension once")));
                }
                Shape::from(order.map(|axis| x.axis(axis)))
            }
        };
        made.checked()
    }
}

/// How a value is stored in bytes: the byte `q` stands for `scale × (q − zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quant {
    /// The step from one byte to the next.
    pub scale: f32,
    /// The byte that stands for 0.
    pub zero: u8,
}

/// A checked program.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    ops: Vec<Op>,
    shapes: Vec<Shape>,
    quants: Vec<Option<Quant>>,
    outputs: Vec<usize>,
}

impl Program {
    /// The program for pictures of `input`, checked. `quants` says how each value is stored, the input's first: f32 where
    /// it is `None`, and everywhere if it is empty.
    ///
    /// # Errors
    /// `Format`, with a message that names the operation, if the program makes no sense; `Unsupported` if its maps take more
    /// than a GiB.
    pub fn new(input: Shape, ops: Vec<Op>, mut quants: Vec<Option<Quant>>, outputs: Vec<usize>) -> Result<Self> {
        if ops.len() > MAX_OPS {
            return Err(Error::format(format!("{} operations, expected at most {MAX_OPS}", ops.len())));
        }
        let mut shapes = vec![input.checked().map_err(|e| e.at("the input"))?];
        for (i, op) in ops.iter().enumerate() {
            let shape = |x: usize| {
                let missing = || Error::format(format!("reads value {x}, expected one before {}", i + 1));
                shapes.get(x).copied().ok_or_else(missing)
            };
            let made = op.infer(shape).map_err(|e| e.at(format_args!("operation {i}")))?;
            shapes.push(made);
        }
        if quants.is_empty() {
            quants.resize(shapes.len(), None);
        }
        if quants.len() != shapes.len() {
            return Err(Error::format(format!("scales of {} values, expected {}", quants.len(), shapes.len())));
        }
        if let Some(i) = quants.iter().position(|q| q.is_some_and(|q| !q.scale.is_normal() || q.scale < 0.0)) {
            return Err(Error::format(format!("value {i} has a scale that is no positive number")));
        }
        let constant = |x: usize| x > 0 && matches!(ops[x - 1], Op::Constant { .. });
        if let Some(x) = (0..shapes.len()).find(|&x| (x == 0 || constant(x)) && quants[x].is_some()) {
            return Err(Error::format(format!(
                "value {x} is stored in bytes, expected f32 for pictures and constants"
            )));
        }
        if let Some(x) = outputs.iter().find(|&&x| x >= shapes.len()) {
            return Err(Error::format(format!("output {x}, expected one of {} values", shapes.len())));
        }
        if outputs.is_empty() {
            return Err(Error::format("no outputs, expected at least one"));
        }
        let results: u64 = outputs.iter().map(|&x| 4 * shapes[x].len() as u64).sum();
        let program = Self { ops, shapes, quants, outputs };
        let needed = results + Plan::new(&program).memory();
        if needed > MAX_MEMORY {
            let [needed, most] = [needed, MAX_MEMORY].map(|n| n >> 20);
            return Err(Error::unsupported(format!("needs {needed} MiB for its maps, expected at most {most}")));
        }
        Ok(program)
    }

    /// The operations; the one at `i` makes value `i + 1`.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The shapes of all values, the input's first.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// How all values are stored, the input's first.
    pub fn quants(&self) -> &[Option<Quant>] {
        &self.quants
    }

    /// The values that are the results.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(x: usize, channels: usize, kernel: usize) -> Op {
        let window = Window { pads: [kernel / 2; 4], ..Window::new([kernel; 2]) };
        Op::Conv { x, name: "a".into(), channels, groups: 1, window, then: Activation::Relu }
    }

    fn program(ops: Vec<Op>) -> Result<Program> {
        let last = ops.len();
        Program::new(Shape::new(8, 6, 4), ops, vec![], vec![last])
    }

    #[test]
    fn shapes_follow_from_the_operations() {
        let down = Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], pads: [1, 1, 1, 1] };
        let program = program(vec![
            conv(0, 10, 3),
            Op::Pool { x: 1, pooling: Pooling::Max, window: down },
            Op::Slice { x: 2, axis: Axis::C, from: 1, len: 3, step: 3 },
            Op::Resize { x: 3, size: [8, 6], sampling: Sampling::Nearest },
            Op::Concat { xs: vec![1, 4], axis: Axis::C },
            Op::Reshape { x: 5, shape: Shape::new(1, 48, 13) },
            Op::Transpose { x: 6, order: [Axis::C, Axis::H, Axis::W] },
        ])
        .unwrap();
        let shapes: Vec<_> = program.shapes().iter().map(Shape::to_string).collect();
        assert_eq!(shapes, ["8x6x4", "8x6x10", "4x3x10", "4x3x3", "8x6x3", "8x6x13", "1x48x13", "13x1x48"]);
    }

    #[test]
    fn operations_are_read_as_they_are_written() {
        let op = conv(0, 10, 3);
        let text = serde_json::to_string(&op).unwrap();
        assert_eq!(
            text,
            r#"{"op":"conv","x":0,"name":"a","channels":10,"window":{"kernel":[3,3],"pads":[1,1,1,1]},"then":"relu"}"#
        );
        assert_eq!(serde_json::from_str::<Op>(&text).unwrap(), op);
        assert!(serde_json::from_str::<Op>(&text.replace("channels", "canals")).is_err());
    }

    #[test]
    fn rejects_what_makes_no_sense() {
        let refused = |op: Op| program(vec![op]).unwrap_err().to_string();
        assert_eq!(refused(conv(1, 10, 3)), "operation 0: reads value 1, expected one before 1");
        assert!(refused(conv(0, 0, 3)).contains("makes a map of 8x6x0"));
        assert!(refused(conv(0, usize::MAX, 3)).contains("makes a map of"));
        assert!(refused(Op::Slice { x: 0, axis: Axis::H, from: 1, len: 8, step: 1 }).contains("takes 8 from 1"));
        assert!(refused(Op::Slice { x: 0, axis: Axis::H, from: 1, len: 0, step: 1 }).contains("takes 0 from 1"));
        assert!(
            refused(Op::Slice { x: 0, axis: Axis::H, from: 1, len: 3, step: usize::MAX }).contains("takes 3 from 1")
        );
        assert!(refused(Op::Shuffle { x: 0, groups: 3 }).contains("shuffles 4 channels in 3 groups"));
        assert!(refused(Op::Transpose { x: 0, order: [Axis::H; 3] }).contains("each dimension once"));
        assert!(refused(Op::Concat { xs: vec![], axis: Axis::H }).contains("no maps"));
        let huge = Window::new([1 << 30, 1]);
        assert!(refused(Op::Pool { x: 0, pooling: Pooling::Max, window: huge }).contains("expected numbers"));
        let wide = Window::new([9, 1]);
        assert!(refused(Op::Pool { x: 0, pooling: Pooling::Max, window: wide }).contains("larger than"));
        assert!(refused(Op::Reshape { x: 0, shape: Shape::new(8, 6, 5) }).contains("one of 8x6x5"));
        let far = Window { dilation: [1 << 20; 2], pads: [1 << 20; 4], ..Window::new([2; 2]) };
        let far = Op::Conv { x: 0, name: "a".into(), channels: 4, groups: 4, window: far, then: Activation::None };
        assert!(refused(far).contains("reach over 1048577x1048577 pixels"));
    }

    #[test]
    fn memory_is_bounded() {
        // 16 MiB each.
        let large = |x: usize| Op::Resize { x, size: [1 << 10, 1 << 10], sampling: Sampling::Nearest };
        let chain = |outputs| Program::new(Shape::new(8, 6, 4), (0..40).map(large).collect(), vec![], outputs);
        // Values that are needed one after the other take the memory of two; results are there twice.
        assert!(chain(vec![40]).is_ok() && chain(vec![40; 50]).is_ok());
        let refused = |outputs| chain(outputs).unwrap_err().to_string();
        assert!(refused(vec![40; 70]).contains("needs 1152 MiB for its maps, expected at most 1024"));
        assert!(refused((1..=40).collect()).contains("needs 1280 MiB"));
    }
}
