//! Every operation on every instruction set against the reference, in f32 and in bytes.

use super::program::*;
use super::weights::{Draft, Filter, FilterShape, Weights};
use super::*;
use crate::bytes::Bytes;
use crate::gguf::Writer;
use crate::kernels::Kernels;
use std::sync::Arc;

/// A small generator (xorshift), so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in -1..1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

fn window(kernel: [usize; 2], stride: usize, dilation: usize, pads: [usize; 4]) -> Window {
    Window { kernel, stride: [stride; 2], dilation: [dilation; 2], pads }
}

fn conv(x: usize, channels: usize, groups: usize, window: Window, then: Activation) -> Op {
    Op::Conv { x, name: String::new(), channels, groups, window, then }
}

/// A network with random weights. With `bytes`, every value is stored in bytes but the picture, constants, and results.
fn net(input: Shape, mut ops: Vec<Op>, bytes: bool) -> Arc<ConvNet> {
    let mut random = Random(42);
    for (i, op) in ops.iter_mut().enumerate() {
        if let Op::Conv { name, .. } = op {
            *name = format!("conv{i}");
        }
    }
    let last = ops.len();
    let float = Program::new(input, ops.clone(), vec![], vec![last]).unwrap();
    let quants = (0..=last).map(|x| {
        let float = !bytes || x == 0 || x == last || matches!(ops[x - 1], Op::Constant { .. });
        (!float).then_some(Quant { scale: 0.011 + 0.001 * (x % 3) as f32, zero: 90 + 13 * (x % 5) as u8 })
    });
    let quants: Vec<_> = quants.collect();
    let (mut filters, mut constants): (BTreeMap<_, Filter>, BTreeMap<_, _>) = Default::default();
    for op in &ops {
        match op {
            Op::Conv { x, name, .. } => {
                let shape = FilterShape::of(op, float.shapes()[*x].c).unwrap();
                let fan_in = (shape.per_channel() as f32).sqrt();
                let weights = if quants[*x].is_some() {
                    let values = (0..shape.len()).map(|_| (random.float() * 127.0) as i8).collect();
                    let scales = (0..shape.channels()).map(|_| (1.0 + random.float() / 2.0) / 127.0 / fan_in).collect();
                    Weights::I8 { values, scales }
                } else {
                    Weights::F32(random.floats(shape.len()).into_iter().map(|w| w / fan_in).collect())
                };
                // Every other one has gains.
                let gain = if filters.len() % 2 == 1 { random.floats(shape.channels()) } else { Vec::new() };
                filters.insert(name.clone(), Filter { weights, bias: random.floats(shape.channels()), gain });
            }
            Op::Constant { name, shape } => {
                constants.insert(name.clone(), random.floats(shape.len()));
            }
            _ => {}
        }
    }
    let program = Program::new(input, ops, quants, vec![last]).unwrap();
    let mut writer = Writer::new();
    Draft { program, filters, constants }.write(&mut writer);
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    Arc::new(ConvNet::load(&Gguf::from_bytes(Bytes::from(&file[..]), "test").unwrap()).unwrap())
}

/// Compares all values with the reference's, in f32 and in bytes.
#[track_caller]
fn check(input: Shape, ops: Vec<Op>) {
    check_floats(input, ops.clone());
    // What comes first makes bytes of the picture.
    let mut all = ops;
    all.insert(0, Op::Convert { x: 0 });
    all[1..].iter_mut().for_each(|op| op.map_inputs(|x| x + 1));
    all.push(Op::Convert { x: all.len() });
    check_net(net(input, all, true));
}

/// Compares all values with the reference's, in f32.
#[track_caller]
fn check_floats(input: Shape, ops: Vec<Op>) {
    check_net(net(input, ops, false));
}

/// Compares all values with the reference's, on every instruction set, with one thread and with three.
#[track_caller]
fn check_net(net: Arc<ConvNet>) {
    let input = net.program().shapes()[0];
    let picture = Random(7).floats(input.len());
    let expected = reference::run(&net, &picture);
    for kernels in Kernels::available() {
        for threads in [1, 3] {
            let mut session = Session::with_kernels(net.clone(), kernels.maps(), threads);
            session.input().copy_from_slice(&picture);
            session.observe(|x, value| compare(&net, kernels, x, value, &expected[x]));
            session.input().copy_from_slice(&picture);
            session.run();
            let last = expected.len() - 1;
            compare(&net, kernels, last, session.output(0), &expected[last]);
        }
    }
}

fn compare(net: &ConvNet, kernels: &Kernels, x: usize, value: &[f32], expected: &[f32]) {
    // Sums in another order may round to the next byte, and what follows from that to the one after it.
    let step = net.program().quants().iter().flatten().map(|q| q.scale).fold(0.0, f32::max);
    for (i, (a, b)) in value.iter().zip(expected).enumerate() {
        let limit = 2e-5 * b.abs().max(1.0) + 2.01 * step;
        assert!((a - b).abs() <= limit, "{}, value {x}, element {i}: {a}, expected {b}", kernels.isa);
    }
    let exact = value.iter().zip(expected).filter(|(a, b)| (*a - *b).abs() < 1e-4).count();
    assert!(exact * 50 >= value.len() * 49, "{}, value {x}: {exact} of {} are right", kernels.isa, value.len());
}

#[test]
fn dense_convolutions() {
    let relu = Activation::Relu;
    for (h, w, c, channels, window, then) in [
        (7, 9, 3, 24, window([3, 3], 2, 1, [1, 1, 1, 1]), relu),
        (7, 9, 3, 8, window([6, 6], 2, 1, [2, 2, 2, 2]), Activation::LeakyRelu(0.1)),
        (5, 5, 16, 32, window([1, 1], 1, 1, [0; 4]), Activation::None),
        (5, 6, 58, 58, window([1, 1], 1, 1, [0; 4]), Activation::Silu),
        (13, 13, 20, 33, window([3, 3], 1, 1, [1, 1, 1, 1]), Activation::HardSwish),
        (9, 8, 12, 16, window([3, 3], 1, 2, [2, 2, 2, 2]), Activation::Clip(0.0, 0.5)),
        (9, 8, 5, 7, window([2, 3], 3, 1, [0, 2, 1, 0]), Activation::HardSigmoid(0.2, 0.5)),
        (4, 30, 4, 80, window([1, 5], 1, 1, [0, 2, 0, 2]), Activation::Sigmoid),
        (1, 1, 40, 10, window([1, 1], 1, 1, [0; 4]), Activation::Tanh),
        (3, 3, 8, 17, window([5, 5], 1, 1, [4, 4, 4, 4]), Activation::LeakyRelu(2.0)),
    ] {
        check(Shape::new(h, w, c), vec![conv(0, channels, 1, window, then)]);
    }
}

#[test]
fn convolutions_in_groups() {
    for (c, channels, groups) in [(12, 24, 3), (8, 4, 4), (6, 12, 6), (40, 72, 2)] {
        check(
            Shape::new(6, 7, c),
            vec![conv(0, channels, groups, window([3, 3], 1, 1, [1, 1, 1, 1]), Activation::Relu)],
        );
    }
}

#[test]
fn depthwise_convolutions() {
    let then = Activation::LeakyRelu(0.1);
    for (h, w, c, window) in [
        (7, 9, 16, window([3, 3], 1, 1, [1, 1, 1, 1])),
        (8, 11, 58, window([3, 3], 2, 1, [1, 1, 1, 1])),
        (12, 13, 20, window([5, 5], 1, 1, [2, 2, 2, 2])),
        (13, 12, 33, window([5, 5], 2, 1, [2, 2, 2, 2])),
        (13, 12, 3, window([7, 7], 1, 1, [3, 3, 3, 3])),
        (13, 12, 5, window([3, 3], 3, 1, [0, 0, 0, 0])),
        (13, 16, 5, window([3, 3], 4, 1, [0, 1, 0, 0])),
        (13, 12, 9, window([3, 3], 1, 2, [2, 2, 2, 2])),
        (13, 12, 9, window([3, 3], 2, 3, [3, 3, 3, 3])),
        (2, 2, 18, window([5, 5], 1, 1, [2, 2, 2, 2])),
        (6, 1, 18, window([1, 3], 1, 1, [0, 1, 0, 1])),
        (3, 3, 18, window([3, 3], 2, 1, [0, 0, 1, 1])),
    ] {
        check(Shape::new(h, w, c), vec![conv(0, c, c, window, then)]);
    }
    check(Shape::new(6, 6, 20), vec![conv(0, 20, 20, window([3, 3], 1, 1, [1, 1, 1, 1]), Activation::Silu)]);
}

#[test]
fn pools_and_resizes() {
    let shape = Shape::new(7, 6, 18);
    for pooling in [Pooling::Max, Pooling::Mean, Pooling::PaddedMean] {
        for window in [
            window([3, 3], 2, 1, [1, 1, 1, 1]),
            window([2, 2], 2, 1, [0, 0, 1, 0]),
            window([5, 5], 1, 1, [2, 2, 2, 2]),
            window([7, 6], 1, 1, [0; 4]),
        ] {
            check(shape, vec![Op::Pool { x: 0, pooling, window }]);
        }
    }
    for sampling in [
        Sampling::Nearest,
        Sampling::NearestCentre,
        Sampling::Bilinear,
        Sampling::BilinearAsymmetric,
        Sampling::BilinearCorners,
    ] {
        for size in [[14, 12], [13, 5], [1, 1], [7, 6]] {
            check(shape, vec![Op::Resize { x: 0, size, sampling }]);
        }
    }
}

#[test]
fn arithmetic_repeats_dimensions_of_one() {
    let shape = Shape::new(5, 6, 10);
    for (i, with) in
        [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Max, Arithmetic::Min].into_iter().enumerate()
    {
        for other in [[5, 6, 10], [1, 1, 1], [1, 1, 10], [5, 6, 1], [1, 6, 10], [5, 1, 1]] {
            let other = Op::Constant { name: format!("constant{i}"), shape: Shape::from(other) };
            check(shape, vec![other, Op::Combine { x: 0, y: 1, with, then: Activation::Relu }]);
        }
    }
}

#[test]
fn moves() {
    let shape = Shape::new(4, 6, 12);
    let three = [Axis::H, Axis::W, Axis::C];
    for axis in three {
        check(shape, vec![Op::Slice { x: 0, axis, from: 1, len: 2, step: 1 }]);
        check(shape, vec![Op::Slice { x: 0, axis, from: 1, len: 2, step: 2 }]);
        check(shape, vec![Op::Activate { x: 0, then: Activation::Relu }, Op::Concat { xs: vec![0, 1, 0], axis }]);
    }
    for groups in [1, 2, 3, 12] {
        check(shape, vec![Op::Shuffle { x: 0, groups }]);
    }
    for to in [[1, 24, 12], [8, 6, 6], [1, 1, 288], [24, 4, 3]] {
        check(shape, vec![Op::Reshape { x: 0, shape: Shape::from(to) }]);
    }
    for order in [[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]] {
        check(shape, vec![Op::Transpose { x: 0, order: order.map(|i: usize| three[i]) }]);
    }
    check(shape, vec![Op::Softmax { x: 0 }]);
}

/// The unit of a shuffle net, a feature pyramid and a head, so that maps are computed into each other's places.
#[test]
fn a_network_with_everything() {
    let one = window([1, 1], 1, 1, [0; 4]);
    let three = window([3, 3], 1, 1, [1, 1, 1, 1]);
    let down = window([3, 3], 2, 1, [1, 1, 1, 1]);
    let leaky = Activation::LeakyRelu(0.1);
    check(
        Shape::new(16, 20, 3),
        vec![
            conv(0, 24, 1, down, leaky),                                                       // 1
            Op::Slice { x: 1, axis: Axis::C, from: 0, len: 12, step: 1 },                      // 2
            Op::Slice { x: 1, axis: Axis::C, from: 12, len: 12, step: 1 },                     // 3
            conv(3, 12, 1, one, leaky),                                                        // 4
            conv(4, 12, 12, three, Activation::None),                                          // 5
            conv(5, 12, 1, one, leaky),                                                        // 6
            Op::Concat { xs: vec![2, 6], axis: Axis::C },                                      // 7
            Op::Shuffle { x: 7, groups: 2 },                                                   // 8
            conv(8, 20, 1, down, leaky),                                                       // 9
            Op::Resize { x: 9, size: [8, 10], sampling: Sampling::Bilinear },                  // 10
            Op::Concat { xs: vec![8, 10], axis: Axis::C },                                     // 11
            conv(11, 20, 1, one, Activation::Silu),                                            // 12
            conv(12, 20, 20, three, Activation::Silu),                                         // 13
            Op::Combine { x: 13, y: 12, with: Arithmetic::Add, then: Activation::None },       // 14
            Op::Pool { x: 14, pooling: Pooling::Mean, window: window([8, 10], 1, 1, [0; 4]) }, // 15
            conv(15, 20, 1, one, Activation::HardSigmoid(0.2, 0.5)),                           // 16
            Op::Combine { x: 14, y: 16, with: Arithmetic::Mul, then: Activation::None },       // 17
            conv(17, 6, 1, one, Activation::Sigmoid),                                          // 18
            conv(9, 6, 1, one, Activation::Sigmoid),                                           // 19
            Op::Reshape { x: 18, shape: Shape::new(1, 80, 6) },                                // 20
            Op::Reshape { x: 19, shape: Shape::new(1, 20, 6) },                                // 21
            Op::Concat { xs: vec![20, 21], axis: Axis::W },                                    // 22
        ],
    );
}

fn constant(shape: Shape) -> Op {
    Op::Constant { name: "constant".into(), shape }
}

#[test]
fn convolutions_of_constants() {
    // No whole vectors of channels.
    for channels in [3, 9, 33] {
        let ops = vec![
            constant(Shape::new(5, 6, channels)),
            conv(1, channels, channels, window([3, 3], 1, 1, [1; 4]), Activation::Relu),
            conv(1, 8, 1, window([1, 1], 1, 1, [0; 4]), Activation::None),
            conv(0, 8, 1, window([1, 1], 1, 1, [0; 4]), Activation::None),
            Op::Combine { x: 3, y: 4, with: Arithmetic::Add, then: Activation::None },
            Op::Concat { xs: vec![2, 5], axis: Axis::C },
        ];
        check_floats(Shape::new(5, 6, 4), ops);
    }
}

#[test]
fn parts_of_constants() {
    let ops = vec![
        constant(Shape::new(4, 6, 8)),
        Op::Slice { x: 1, axis: Axis::C, from: 3, len: 4, step: 1 },
        Op::Reshape { x: 1, shape: Shape::new(6, 4, 8) },
        Op::Slice { x: 3, axis: Axis::H, from: 1, len: 4, step: 1 },
        Op::Reshape { x: 4, shape: Shape::new(4, 4, 8) },
        Op::Slice { x: 1, axis: Axis::H, from: 1, len: 3, step: 1 },
        Op::Combine { x: 0, y: 2, with: Arithmetic::Mul, then: Activation::Relu },
    ];
    check_floats(Shape::new(4, 6, 4), ops);
}

#[test]
fn weights_that_some_cpus_multiply_wrongly_are_refused() {
    let load = |weight: i8| {
        let ops = vec![
            Op::Convert { x: 0 },
            Op::Conv {
                x: 1,
                name: "conv".into(),
                channels: 1,
                groups: 1,
                window: window([1, 1], 1, 1, [0; 4]),
                then: Activation::None,
            },
        ];
        let quants = vec![None, Some(Quant { scale: 0.01, zero: 7 }), None];
        let program = Program::new(Shape::new(2, 2, 1), ops, quants, vec![2]).unwrap();
        let weights = Weights::I8 { values: vec![weight], scales: vec![0.5] };
        let filters = [("conv".into(), Filter { weights, bias: vec![0.0], gain: vec![] })].into();
        let mut writer = Writer::new();
        Draft { program, filters, constants: BTreeMap::new() }.write(&mut writer);
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();
        ConvNet::load(&Gguf::from_bytes(Bytes::from(&file[..]), "test").unwrap()).map(drop)
    };
    assert!(load(-127).is_ok());
    let refused = load(-128).unwrap_err().to_string();
    assert_eq!(refused, "test: tensor `conv.weight` has the byte -128, expected -127 to 127");
}

#[test]
fn convolutions_of_the_same_weights_are_refused() {
    let one = |x: usize, name: &str| Op::Conv {
        x,
        name: name.into(),
        channels: 1,
        groups: 1,
        window: window([1, 1], 1, 1, [0; 4]),
        then: Activation::None,
    };
    let program = Program::new(Shape::new(2, 2, 1), vec![one(0, "first"), one(1, "other")], vec![], vec![2]).unwrap();
    let filter = Filter { weights: Weights::F32(vec![0.5]), bias: vec![0.0], gain: vec![] };
    let filters = ["first", "other"].map(|name| (name.into(), filter.clone())).into();
    let mut writer = Writer::new();
    Draft { program, filters, constants: BTreeMap::new() }.write(&mut writer);
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    let load = |file: &[u8]| ConvNet::load(&Gguf::from_bytes(Bytes::from(file), "test").unwrap()).map(drop);
    assert!(load(&file).is_ok());
    let name = br#""name":"other""#;
    let at = file.windows(name.len()).position(|bytes| bytes == name).unwrap();
    file[at..][..name.len()].copy_from_slice(br#""name":"first""#);
    let refused = load(&file).unwrap_err().to_string();
    assert_eq!(refused, "test: operation 1 is called `first` as another is, expected weights of its own");
}
