//! Whole forward passes on random weights in real shapes: 128 tokens of prompt, and one token after them.

#![allow(missing_docs)] // criterion's macros

mod random;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pupil::nets::decoder::{Decoder, Logits};
use pupil::nets::kv::CacheType;
use pupil::tensor::DType;
use random::{QWEN, SMOL, model};

const PROMPT: usize = 128;

fn passes(c: &mut Criterion) {
    let shapes = [("SmolLM2-135M", SMOL), ("Qwen2.5-0.5B", QWEN)];
    for ((name, shape), dtype) in shapes.iter().flat_map(|shape| [(shape, DType::Q8_0), (shape, DType::Q4_0)]) {
        let file = model(shape, dtype);
        let decoder = Decoder::load(&file).unwrap();
        let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| i * 37 % 1000).collect();
        for threads in [1, 2] {
            let mut group = c.benchmark_group(format!("{name} {dtype} {threads} threads"));
            group.sample_size(10);
            let mut session = decoder.session(512, CacheType::F16, threads).unwrap();
            group.throughput(Throughput::Elements(PROMPT as u64));
            group.bench_function("prefill", |b| {
                b.iter(|| {
                    session.cache.truncate(0);
                    decoder.forward(&mut session, &prompt, Logits::Last).unwrap();
                });
            });
            group.throughput(Throughput::Elements(1));
            group.bench_function("decode", |b| {
                b.iter(|| {
                    session.cache.truncate(PROMPT);
                    decoder.forward(&mut session, &[1], Logits::Last).unwrap();
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
