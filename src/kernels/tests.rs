//! Every kernel against a plain reference, on every instruction set that this CPU has.

use super::*;
use crate::quant;
use std::io::Write;

/// A small generator (xorshift), so that failures repeat.
pub(super) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in -1..1.
    fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// Random blocks of any type, with every code in use and finite scales.
fn random_blocks(dtype: DType, elements: usize, random: &mut Random) -> Vec<u8> {
    if dtype.block_len() == 1 {
        return quant::quantize(dtype, &random.floats(elements)).unwrap();
    }
    let mut bytes: Vec<u8> =
        (0..elements / dtype.block_len() * dtype.block_bytes()).map(|_| random.bits() as u8).collect();
    // The half-precision numbers of a block: 0x2c00 to 0x2fff is 0.06 to 0.12.
    let halves: &[usize] = match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &at in halves {
            block[at + 1] = 0x2c | block[at + 1] & 0x83;
        }
    }
    bytes
}

fn each_isa(test: impl Fn(&Kernels)) {
    let mut names = Vec::new();
    for kernels in Kernels::available() {
        test(kernels);
        names.push(kernels.isa);
    }
    let skipped: Vec<_> = TABLES.iter().map(|k| k.isa).filter(|isa| !names.contains(isa)).collect();
    println!("ran on {}; not on this CPU: {}", names.join(", "), skipped.join(", "));
}

/// The activations as the products see them: what a tile holds for token `c`.
fn seen(kernels: &Kernels, tile: &Tile, c: usize) -> Vec<f64> {
    if tile.quants.is_empty() {
        return tile.floats.iter().skip(c).step_by(tile.width).map(|&x| x.into()).collect();
    }
    let run = kernels.run;
    (0..tile.cols)
        .map(|k| {
            let q = tile.quants[(k / run * tile.width + c) * run + k % run] as i8;
            f64::from(q) * f64::from(tile.scales[k / 32 * tile.width + c])
        })
        .collect()
}

/// `Σ w x` in f64, and `Σ |w x|`, which bounds what rounding may do.
fn reference(weights: &[f32], x: &[f64]) -> (f64, f64) {
    weights.iter().zip(x).fold((0.0, 0.0), |(sum, abs), (&w, x)| {
        let product = f64::from(w) * x;
        (sum + product, abs + product.abs())
    })
}

fn columns(dtype: DType) -> Vec<usize> {
    match dtype.block_len() {
        1 => vec![1, 7, 16, 33, 172, 576],
        32 => vec![32, 64, 96, 576, 896],
        _ => vec![256, 512, 1536],
    }
}

fn check(what: &str, isa: &str, got: f32, (sum, abs): (f64, f64)) {
    // Rounding in f32, of the products with mins as well, whose size is that of the weights before their sum cancels.
    let bound = 4e-6 * abs + 1e-6;
    assert!((f64::from(got) - sum).abs() <= bound, "{what} on {isa}: {got}, expected {sum} ± {bound}");
}

#[test]
fn gemv_equals_the_reference() {
    each_isa(|kernels| {
        for dtype in DType::ALL {
            for cols in columns(dtype) {
                let mut random = Random::new(cols as u64);
                for rows in [1, 3, 17] {
                    let blocks = random_blocks(dtype, rows * cols, &mut random);
                    let mut weights = vec![0.0; rows * cols];
                    quant::dequantize(dtype, &blocks, &mut weights);
                    let mut tile = Tile::default();
                    let float = dtype.block_len() == 1;
                    tile.reshape(1, cols, float, !float);
                    kernels.fill(&mut tile, 0, &random.floats(cols));
                    let mut out = vec![0.0; rows];
                    kernels.gemv(dtype, &blocks, &tile, &mut out);
                    for (row, &got) in weights.chunks_exact(cols).zip(&out) {
                        let what = format!("gemv {dtype} {rows}x{cols}");
                        check(&what, kernels.isa, got, reference(row, &seen(kernels, &tile, 0)));
                    }
                }
            }
        }
    });
}

#[test]
fn gemm_equals_the_reference() {
    each_isa(|kernels| {
        let r = kernels.panel_rows;
        for (dtype, width) in DType::ALL.into_iter().flat_map(|dtype| kernels.tile_widths.map(|width| (dtype, width))) {
            for cols in columns(dtype) {
                let mut random = Random::new(cols as u64);
                for rows in [1, r - 1, r] {
                    let blocks = random_blocks(dtype, rows * cols, &mut random);
                    let mut weights = vec![0.0; rows * cols];
                    quant::dequantize(dtype, &blocks, &mut weights);
                    let mut tile = Tile::default();
                    let float = dtype.block_len() == 1;
                    tile.reshape(width, cols, float, !float);
                    for c in 0..width {
                        kernels.fill(&mut tile, c, &random.floats(cols));
                    }
                    let (mut panel, mut out) = (Panel::default(), vec![0.0; r * width]);
                    kernels.unpack(dtype, &blocks, cols, &mut panel);
                    kernels.gemm(dtype, &panel, &tile, &mut out);
                    for c in 0..width {
                        let x = seen(kernels, &tile, c);
                        for (row, &got) in weights.chunks_exact(cols).zip(&out[c * r..]) {
                            let what = format!("gemm {dtype} {rows}x{cols} by {width}");
                            check(&what, kernels.isa, got, reference(row, &x));
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn few_tokens_come_in_narrow_tiles() {
    for (tokens, width) in [(4, 4), (5, 6), (6, 6), (8, 4), (12, 6), (128, 6)] {
        assert_eq!(tile::width([6, 4], tokens), width, "{tokens}");
    }
    assert_eq!([3, 4, 6].map(|tokens| tile::width([3, 2], tokens)), [3, 2, 3]);
}

#[test]
fn activations_round_to_the_nearest_of_127_steps() {
    each_isa(|kernels| {
        let x = Random::new(5).floats(96);
        for width in [1].into_iter().chain(kernels.tile_widths) {
            let mut tile = Tile::default();
            tile.reshape(width, 96, false, true);
            kernels.fill(&mut tile, width - 1, &x);
            for (got, (i, &x)) in seen(kernels, &tile, width - 1).into_iter().zip(x.iter().enumerate()) {
                let half_step = f64::from(tile.scales[i / 32 * width + width - 1]) / 2.0;
                assert!((got - f64::from(x)).abs() <= half_step * 1.000_01, "{x} became {got}");
            }
        }
    });
}

#[test]
fn activations_without_sense_do_no_harm() {
    each_isa(|kernels| {
        for x in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 8.0, 0.0, f32::MAX] {
            let mut tile = Tile::default();
            tile.reshape(1, 32, true, true);
            kernels.fill(&mut tile, 0, &[x; 32]);
            let mut out = [0.0; 2];
            kernels.gemv(DType::Q8_0, &[1; 68], &tile, &mut out);
        }
    });
}

#[test]
fn rms_norm_equals_the_formula() {
    each_isa(|kernels| {
        for n in [1, 5, 16, 64, 100, 576] {
            let mut random = Random::new(n as u64);
            let (x, w, mut out) = (random.floats(n), random.floats(n), vec![0.0; n]);
            kernels.rms_norm(&x, &w, 1e-5, &mut out);
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
            for i in 0..n {
                let expected = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(w[i]);
                assert!((f64::from(out[i]) - expected).abs() < 2e-6, "{} of {n} on {}", i, kernels.isa);
            }
        }
    });
}

#[test]
fn swiglu_equals_the_formula() {
    each_isa(|kernels| {
        let mut gate: Vec<f32> = (-1000..=1003).map(|i| i as f32 / 10.0).collect();
        let up: Vec<f32> = (0..gate.len()).map(|i| (i % 7) as f32 - 3.0).collect();
        let before = gate.clone();
        kernels.swiglu(&mut gate, &up);
        for ((&x, &up), &got) in before.iter().zip(&up).zip(&gate) {
            let expected = f64::from(x) / (1.0 + (-f64::from(x)).exp()) * f64::from(up);
            let bound = expected.abs() * 1e-6 + 1e-30;
            assert!((f64::from(got) - expected).abs() <= bound, "silu({x}) × {up} on {}: {got}", kernels.isa);
        }
    });
}

#[test]
fn geglu_equals_the_formula() {
    each_isa(|kernels| {
        let mut gate: Vec<f32> = (-1000..=1003).map(|i| i as f32 / 50.0).collect();
        let up: Vec<f32> = (0..gate.len()).map(|i| (i % 7) as f32 - 3.0).collect();
        let before = gate.clone();
        kernels.geglu(&mut gate, &up);
        for ((&x, &up), &got) in before.iter().zip(&up).zip(&gate) {
            let x = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let expected = 0.5 * x * (1.0 + inner.tanh()) * f64::from(up);
            let bound = expected.abs() * 1e-5 + 1e-7;
            assert!((f64::from(got) - expected).abs() <= bound, "gelu({x}) × {up} on {}: {got}", kernels.isa);
        }
    });
}

#[test]
fn sum_exp_equals_the_formula() {
    each_isa(|kernels| {
        for n in [1, 15, 16, 17, 1000] {
            let x: Vec<f32> = Random::new(n as u64).floats(n).iter().map(|x| x * 20.0).collect();
            let max = x.iter().copied().fold(f32::MIN, f32::max);
            let expected: f64 = x.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
            let got = f64::from(kernels.sum_exp(&x, max));
            assert!((got - expected).abs() < expected * 1e-5, "{n} on {}: {got} against {expected}", kernels.isa);
        }
    });
}

#[test]
fn softmax_equals_the_formula_and_masks_the_rest() {
    each_isa(|kernels| {
        for width in [1, 4] {
            for len in [1, 15, 16, 17, 40, 48] {
                let mut scores: Vec<f32> = Random::new(len as u64).floats(48 * width);
                scores.iter_mut().for_each(|x| *x *= 30.0);
                let row = |all: &[f32], c: usize| -> Vec<f32> {
                    (0..48).map(|j| all[(j / KEYS * width + c) * KEYS + j % KEYS]).collect()
                };
                let before = row(&scores, width - 1);
                kernels.softmax(&mut scores, width, width - 1, len);
                let max = before[..len].iter().copied().fold(f32::MIN, f32::max);
                let sum: f64 = before[..len].iter().map(|&x| f64::from(x - max).exp()).sum();
                for (j, got) in row(&scores, width - 1).into_iter().enumerate() {
                    let expected = if j < len { f64::from(before[j] - max).exp() / sum } else { 0.0 };
                    assert!((f64::from(got) - expected).abs() < 1e-6, "{j} of {len}: {got} against {expected}");
                }
            }
        }
    });
}

#[test]
fn attention_halves_equal_the_formula() {
    each_isa(|kernels| {
        for width in [1, 2, 4, 8] {
            let (dims, mut random) = (48, Random::new(width as u64));
            let (q, k) = (random.floats(dims * width), random.floats(dims * KEYS));
            let mut out = vec![0.0; width * KEYS];
            kernels.scores(width, &q, &k, &mut out);
            for c in 0..width {
                for j in 0..KEYS {
                    let expected: f32 = (0..dims).map(|d| q[d * width + c] * k[d * KEYS + j]).sum();
                    assert!((out[c * KEYS + j] - expected).abs() < 1e-5);
                }
            }
            let v = random.floats(KEYS * dims);
            let mut mixed = vec![1.0; width * dims];
            kernels.mix(width, &out, &v, &mut mixed);
            for c in 0..width {
                for d in 0..dims {
                    let sum: f32 = (0..KEYS).map(|j| out[c * KEYS + j] * v[j * dims + d]).sum();
                    assert!((mixed[c * dims + d] - 1.0 - sum).abs() < 1e-4);
                }
            }
        }
    });
}

#[test]
fn rope_turns_pairs() {
    each_isa(|kernels| {
        let (sin, cos) = (0.6_f32.sin(), 0.6_f32.cos());
        let mut near = [1.0, 0.0, 2.0, 0.0, 9.0];
        kernels.rope(&mut near, &[cos, cos], &[sin, sin], false);
        assert_eq!(near, [cos, sin, 2.0 * cos, 2.0 * sin, 9.0]);
        let mut far = [1.0, 2.0, 0.0, 0.0, 9.0];
        kernels.rope(&mut far, &[cos, cos], &[sin, sin], true);
        assert_eq!(far, [cos, 2.0 * cos, sin, 2.0 * sin, 9.0]);
    });
}

/// `PUPIL_EXPECT_ISA=portable,neon` says what this CPU runs. `cross/test.sh` sets it, so that nothing is left out unseen.
#[test]
fn the_isas_that_were_expected_ran() {
    let ran = Kernels::available().map(|kernels| kernels.isa).collect::<Vec<_>>().join(",");
    // Not by a macro, whose output the tests' harness keeps to itself.
    writeln!(std::io::stderr(), "tests run on {ran}").unwrap();
    if let Ok(expected) = std::env::var("PUPIL_EXPECT_ISA") {
        assert_eq!(ran, expected, "the instruction sets that tests run on are not those of PUPIL_EXPECT_ISA");
    }
}

#[test]
fn an_isa_can_be_forced_but_not_invented() {
    assert_eq!(Kernels::choose(Some("portable")).unwrap().isa, "portable");
    let refused = Kernels::choose(Some("mmx")).err().unwrap().to_string();
    assert!(refused.starts_with("PUPIL_ISA=mmx: this CPU runs portable"), "{refused}");
}
