//! The kernels by themselves, on every instruction set that this CPU has.
//!
//! Matrix-vector products are given in true bytes of weights (the limit is memory), matrix-matrix products in
//! multiply-adds (the limit is arithmetic).

#![allow(missing_docs)] // criterion's macros

mod random;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pupil::kernels::{KEYS, Kernels, Panel, Tile};
use pupil::tensor::DType;
use random::{Random, weights};

/// Columns of the matrices: a multiple of 256, so that every type has whole blocks.
const COLS: usize = 1536;

fn tile(kernels: &Kernels, width: usize, dtype: DType) -> Tile {
    let mut tile = Tile::default();
    let float = dtype.block_len() == 1;
    tile.reshape(width, COLS, float, !float);
    for c in 0..width {
        kernels.fill(&mut tile, c, &Random(c as u64 + 1).floats(COLS));
    }
    tile
}

/// Types with weights that [`random::weights`] can make.
fn types() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|t| !matches!(t, DType::Q2K | DType::Q3K | DType::Q5K | DType::I8))
}

fn products(c: &mut Criterion) {
    for kernels in Kernels::available() {
        let mut group = c.benchmark_group(format!("gemv 576x{COLS} {}", kernels.isa));
        for dtype in types() {
            let rows = weights(dtype, COLS, 576);
            let (x, mut out) = (tile(kernels, 1, dtype), vec![0.0; 576]);
            group.throughput(Throughput::Bytes(rows.len() as u64));
            group.bench_function(dtype.name(), |b| b.iter(|| kernels.gemv(dtype, &rows, &x, &mut out)));
        }
        group.finish();

        let (r, [width, _]) = (kernels.panel_rows, kernels.tile_widths);
        let mut group = c.benchmark_group(format!("gemm {r}x{COLS}x{width} {}", kernels.isa));
        for dtype in types() {
            let rows = weights(dtype, COLS, r);
            let (x, mut out, mut panel) = (tile(kernels, width, dtype), vec![0.0; r * width], Panel::default());
            group.throughput(Throughput::Elements((r * COLS) as u64));
            group.bench_function(format!("unpack {dtype}"), |b| {
                b.iter(|| kernels.unpack(dtype, &rows, COLS, &mut panel));
            });
            kernels.unpack(dtype, &rows, COLS, &mut panel);
            group.throughput(Throughput::Elements((r * COLS * width) as u64));
            group.bench_function(dtype.name(), |b| b.iter(|| kernels.gemm(dtype, &panel, &x, &mut out)));
        }
        group.finish();
    }
}

fn between(c: &mut Criterion) {
    for kernels in Kernels::available() {
        let mut group = c.benchmark_group(format!("between {}", kernels.isa));
        let (x, w) = (Random(1).floats(COLS), Random(2).floats(COLS));
        let mut out = vec![0.0; COLS];
        group.throughput(Throughput::Elements(COLS as u64));
        group.bench_function("rms_norm", |b| b.iter(|| kernels.rms_norm(&x, &w, 1e-5, &mut out)));
        group.bench_function("swiglu", |b| b.iter(|| kernels.swiglu(&mut out, &w)));
        let mut one = tile(kernels, 1, DType::Q8_0);
        group.bench_function("quantize", |b| b.iter(|| kernels.fill(&mut one, 0, &x)));

        let (dims, width) = (64, kernels.query_width);
        let (q, k) = (Random(3).floats(dims * width), Random(4).floats(dims * KEYS));
        let (mut scores, mut sums) = (vec![0.0; width * KEYS], vec![0.0; width * dims]);
        group.throughput(Throughput::Elements((width * dims * KEYS) as u64));
        group.bench_function("attention scores", |b| b.iter(|| kernels.scores(width, &q, &k, &mut scores)));
        group.bench_function("attention mix", |b| b.iter(|| kernels.mix(width, &scores, &k, &mut sums)));
        let mut scores = Random(5).floats(512);
        group.throughput(Throughput::Elements(512));
        group.bench_function("softmax", |b| b.iter(|| kernels.softmax(&mut scores, 1, 0, 500)));
        group.finish();
    }
}

criterion_group!(benches, products, between);
criterion_main!(benches);
