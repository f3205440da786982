//! Convolutions of the shapes that detectors have: multiply-adds per second, in f32 and in bytes, on one thread.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pupil::bytes::Bytes;
use pupil::gguf::{Gguf, Writer};
use pupil::nets::convnet::program::{Activation, Op, Program, Quant, Shape, Window};
use pupil::nets::convnet::weights::{Draft, Filter, FilterShape, Weights};
use pupil::nets::convnet::{ConvNet, Session};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A network of one convolution, whose input is converted to bytes first if it computes in bytes.
fn network(input: Shape, channels: usize, groups: usize, window: Window, then: Activation, bytes: bool) -> ConvNet {
    let name = "conv".to_string();
    let conv = Op::Conv { x: 1, name: name.clone(), channels, groups, window, then };
    let shape = FilterShape::of(&conv, input.c).expect("a convolution");
    let quant = bytes.then_some(Quant { scale: 0.02, zero: 100 });
    let program = Program::new(input, vec![Op::Convert { x: 0 }, conv], vec![None, quant, quant], vec![2]).unwrap();
    let weights = if bytes {
        Weights::I8 {
            values: (0..shape.len()).map(|i| (i * 37 % 255) as i16 - 127).map(|x| x as i8).collect(),
            scales: vec![0.001; channels],
        }
    } else {
        Weights::F32((0..shape.len()).map(|i| (i * 37 % 255) as f32 / 2550.0 - 0.05).collect())
    };
    let filters = BTreeMap::from([(name, Filter { weights, bias: vec![0.1; channels], gain: vec![] })]);
    let (mut writer, mut file) = (Writer::new(), Vec::new());
    Draft { program, filters, constants: BTreeMap::new() }.write(&mut writer);
    writer.write(&mut file).unwrap();
    ConvNet::load(&Gguf::from_bytes(Bytes::from(&file[..]), "bench").unwrap()).unwrap()
}

fn convolutions(c: &mut Criterion) {
    let square = |k: usize, stride: usize| Window { stride: [stride; 2], pads: [k / 2; 4], ..Window::new([k; 2]) };
    for (name, side, inputs, outputs, groups, window) in [
        ("3x3/2 3-16 320", 320, 3, 16, 1, square(3, 2)),
        ("1x1 16-32 160", 160, 16, 32, 1, square(1, 1)),
        ("1x1 64-64 40", 40, 64, 64, 1, square(1, 1)),
        ("dw3x3 16 160", 160, 16, 16, 16, square(3, 1)),
        ("dw3x3 64 40", 40, 64, 64, 64, square(3, 1)),
        ("3x3/2 3-24 416", 416, 3, 24, 1, square(3, 2)),
        ("1x1 58-58 52", 52, 58, 58, 1, square(1, 1)),
        ("1x1 116-116 26", 26, 116, 116, 1, square(1, 1)),
        ("1x1 232-232 13", 13, 232, 232, 1, square(1, 1)),
        ("3x3 64-64 52", 52, 64, 64, 1, square(3, 1)),
        ("dw3x3 58 52", 52, 58, 58, 58, square(3, 1)),
        ("dw3x3/2 116 52", 52, 116, 116, 116, square(3, 2)),
        ("dw5x5 96 52", 52, 96, 96, 96, square(5, 1)),
    ] {
        let mut group = c.benchmark_group(name);
        for (kind, bytes) in [("f32", false), ("bytes", true)] {
            let then = Activation::LeakyRelu(0.1);
            let net = Arc::new(network(Shape::new(side, side, inputs), outputs, groups, window, then, bytes));
            let macs = net.program().shapes()[2].pixels() * net.filter(1).shape.len();
            let mut session = Session::new(net, 1).unwrap();
            session.input().fill(0.3);
            group.throughput(Throughput::Elements(macs as u64));
            group.bench_function(BenchmarkId::from_parameter(kind), |b| b.iter(|| session.run()));
        }
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
