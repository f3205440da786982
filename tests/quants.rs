//! The block formats against other people's implementations, and against the error bounds that follow from their
//! formulas. The vectors come from `tests/vectors/quants.py`.

use pupil::{
    ErrorKind,
    quant::{dequantize, quantize},
    tensor::DType,
};

/// The relative rounding error of a half (11 bits of precision), and its absolute one below 2⁻¹⁴.
const HALF_RELATIVE: f32 = 1.0 / 2048.0;
const HALF_ABSOLUTE: f32 = 1.0 / 33_554_432.0;
/// Room for the f32 arithmetic around a bound that holds in exact numbers.
const F32_SLACK: f32 = 1.0 + 1e-5;

const WRITTEN: [DType; 10] = {
    use DType::*;
    [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q6K]
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Encode,
    Decode,
    Peer,
}

struct Record {
    dtype: DType,
    kind: Kind,
    values: Vec<f32>,
    bytes: Vec<u8>,
}

fn records() -> Vec<Record> {
    let mut file: &[u8] = include_bytes!("vectors/quants.bin");
    let mut take = |n: usize| {
        let (head, tail) = file.split_at_checked(n)?;
        file = tail;
        Some(head)
    };
    let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
    let mut records = Vec::new();
    while let Some(head) = take(16) {
        let n = word(&head[8..12]) as usize;
        records.push(Record {
            dtype: DType::from_gguf(word(&head[..4])).unwrap(),
            kind: [Kind::Encode, Kind::Decode, Kind::Peer][word(&head[4..8]) as usize],
            values: take(4 * n).unwrap().chunks(4).map(|b| f32::from_bits(word(b))).collect(),
            bytes: take(word(&head[12..]) as usize).unwrap().to_vec(),
        });
    }
    records
}

fn decoded(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize(dtype, bytes, &mut out);
    out
}

fn round_trip(dtype: DType, values: &[f32]) -> Vec<f32> {
    decoded(dtype, &quantize(dtype, values).unwrap())
}

/// Uniform numbers in [0, 1) from a 64-bit linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Approximately normal: a sum of twelve uniforms.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    fn normals(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * scale).collect()
    }
}

/// Blocks over many magnitudes and centres, with the sort of values that a search or a rounding trips over.
fn awkward_rows() -> Vec<[f32; 256]> {
    let mut random = Random(7);
    let mut rows = vec![[0.0; 256], [-0.0; 256], [0.7; 256], [-0.7; 256], [65504.0; 256], [f32::MIN_POSITIVE; 256]];
    for exponent in -45..=4 {
        let scale = 10f32.powi(exponent);
        for centre in [0.0, 3.0, -3.0] {
            rows.push(std::array::from_fn(|_| (random.normal() + centre) * scale));
        }
        rows.push(std::array::from_fn(|i| if i % 37 == 5 { -scale } else { 0.0 }));
        rows.push(std::array::from_fn(|i| if i % 2 == 0 { scale } else { -scale }));
    }
    rows
}

#[test]
fn decoding_equals_gguf_bit_for_bit() {
    let mut seen = Vec::new();
    for record in records().iter().filter(|r| r.kind == Kind::Decode) {
        let ours = decoded(record.dtype, &record.bytes);
        for (i, (ours, theirs)) in ours.iter().zip(&record.values).enumerate() {
            let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
            assert!(same, "{} element {i}: {ours} is not {theirs}", record.dtype);
        }
        seen.push(record.dtype);
    }
    // Plain bytes are no format of its.
    assert!(DType::ALL.iter().all(|t| seen.contains(t) || *t == DType::I8));
}

#[test]
fn encoding_equals_gguf_byte_for_byte() {
    let mut seen = Vec::new();
    for Record { dtype, values, bytes, .. } in records().iter().filter(|r| r.kind == Kind::Encode) {
        let ours = quantize(*dtype, values).unwrap();
        let (len, size) = (dtype.block_len(), dtype.block_bytes());
        for (i, (ours, theirs)) in ours.chunks(size).zip(bytes.chunks(size)).enumerate() {
            // A NaN may carry any payload.
            let nan = len == 1 && values[i].is_nan() && decoded(*dtype, ours)[0].is_nan();
            assert!(ours == theirs || nan, "{dtype} block {i} of {:?}", &values[i * len..(i + 1) * len]);
        }
        seen.push(*dtype);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

/// The search is as good as llama.cpp's: on the same values its error is at most 2 % larger.
#[test]
fn k_formats_are_as_good_as_llama_cpp() {
    let mut count = 0;
    for Record { dtype, values, bytes, .. } in records().iter().filter(|r| r.kind == Kind::Peer) {
        let ours = rmse(values, &round_trip(*dtype, values));
        let theirs = rmse(values, &decoded(*dtype, bytes));
        println!("{dtype}: rmse {ours:.3e}, llama.cpp {theirs:.3e}, ratio {:.4}", ours / theirs);
        assert!(ours <= 1.02 * theirs, "{dtype}: {ours} against {theirs}");
        count += 1;
    }
    assert_eq!(count, 4);
}

fn rmse(x: &[f32], y: &[f32]) -> f64 {
    let sum: f64 = x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    (sum / x.len() as f64).sqrt()
}

/// Q8_0: `d = max|x| / 127`. Rounding to a code costs d/2; rounding d to a half moves a code q by |q| ≤ 127 times the
/// error of the half.
#[test]
fn q8_0_error_is_half_a_step_and_the_rounding_of_d() {
    symmetric_bound(DType::Q8_0, 127.0, 0.5);
}

/// Q4_0: `d = max|x| / 8`, with codes −8..=7. The value opposite to the widest may be as wide, and is cut from 8 steps
/// to 7: a whole step.
#[test]
fn q4_0_error_is_one_step_and_the_rounding_of_d() {
    symmetric_bound(DType::Q4_0, 8.0, 1.0);
}

/// Q5_0: as Q4_0, with 16 steps.
#[test]
fn q5_0_error_is_one_step_and_the_rounding_of_d() {
    symmetric_bound(DType::Q5_0, 16.0, 1.0);
}

fn symmetric_bound(dtype: DType, steps: f32, worst: f32) {
    for x in awkward_rows() {
        for (x, y) in x.chunks(32).zip(round_trip(dtype, &x).chunks(32)) {
            let d = x.iter().fold(0f32, |a, b| a.max(b.abs())) / steps;
            // Where 1/d overflows, the block decodes to zeros; d is far below HALF_ABSOLUTE there.
            let bound = d * worst + steps * half_error(d);
            within(dtype, x, y, bound);
        }
    }
}

/// Q4_1: `d = (max − min) / 15`. Rounding to a code costs d/2, rounding d to a half up to 15 times its error, and
/// rounding the minimum its own.
#[test]
fn q4_1_error_is_half_a_step_and_the_rounding_of_d_and_m() {
    affine_bound(DType::Q4_1, 15.0);
}

/// Q5_1: as Q4_1, with 31 steps.
#[test]
fn q5_1_error_is_half_a_step_and_the_rounding_of_d_and_m() {
    affine_bound(DType::Q5_1, 31.0);
}

fn affine_bound(dtype: DType, steps: f32) {
    for x in awkward_rows() {
        for (x, y) in x.chunks(32).zip(round_trip(dtype, &x).chunks(32)) {
            let (min, max) = x.iter().fold((x[0], x[0]), |(a, b), x| (a.min(*x), b.max(*x)));
            let d = (max - min) / steps;
            within(dtype, x, y, d / 2.0 + steps * half_error(d) + half_error(min));
        }
    }
}

/// The most that rounding `x` to a half may change it.
fn half_error(x: f32) -> f32 {
    (x.abs() * HALF_RELATIVE).max(HALF_ABSOLUTE)
}

fn within(dtype: DType, x: &[f32], y: &[f32], bound: f32) {
    for (x, y) in x.iter().zip(y) {
        // Adding and subtracting the minimum rounds relative to the numbers, not to the step.
        let slack = x.abs().max(y.abs()) * f32::EPSILON * 2.0;
        assert!((x - y).abs() <= bound * F32_SLACK + slack, "{dtype}: {x} became {y}, allowed is ±{bound} in {:?}", x);
    }
}

/// Q4_K: the codes are the nearest ones for the scales that the block stores. So with `s = d·sc` and `m = dmin·mn` an
/// element in −m ..= 15·s − m is off by at most s/2, and one outside is at the end of the codes.
#[test]
fn q4_k_error_is_half_a_stored_step() {
    for x in awkward_rows() {
        let bytes = quantize(DType::Q4K, &x).unwrap();
        for (g, lo, hi, s) in extremes(DType::Q4K, &bytes, 32, |block, code| block[16..].fill(17 * code)) {
            nearest(&x[32 * g..][..32], &decoded(DType::Q4K, &bytes)[32 * g..], lo, hi, s / 15.0);
        }
    }
}

/// Q6_K: likewise, with 64 codes. `s` may be negative, and then the codes run downwards.
#[test]
fn q6_k_error_is_half_a_stored_step() {
    for x in awkward_rows() {
        let bytes = quantize(DType::Q6K, &x).unwrap();
        for (g, lo, hi, s) in extremes(DType::Q6K, &bytes, 16, |block, code| block[..192].fill(17 * code)) {
            nearest(&x[16 * g..][..16], &decoded(DType::Q6K, &bytes)[16 * g..], lo, hi, s / 63.0);
        }
    }
}

/// For each sub-block the least and greatest value that its stored scales can express, and the difference: found by
/// decoding a copy of the block in which `fill` has set every code to the first and to the last (0 and 15 a nibble).
fn extremes(dtype: DType, bytes: &[u8], sub: usize, fill: fn(&mut [u8], u8)) -> Vec<(usize, f32, f32, f32)> {
    let [first, last] = [0, 15].map(|code| {
        let mut block = bytes.to_vec();
        fill(&mut block, code);
        decoded(dtype, &block)
    });
    let ends = first.iter().step_by(sub).zip(last.iter().step_by(sub));
    ends.map(|(a, b)| (a.min(*b), a.max(*b))).enumerate().map(|(g, (lo, hi))| (g, lo, hi, hi - lo)).collect()
}

fn nearest(x: &[f32], y: &[f32], lo: f32, hi: f32, step: f32) {
    for (x, y) in x.iter().zip(y) {
        let slack = x.abs().max(lo.abs()).max(hi.abs()) * 1e-6;
        let beyond = (lo - x).max(x - hi).max(0.0);
        assert!((x - y).abs() <= beyond + step / 2.0 + slack, "{x} became {y}, with {lo}..={hi} by {step}");
    }
}

/// Rounding to steps of size `d` leaves an error of `d / √12` (Bennett 1948). In a block of 32 normals the range is
/// 4.14σ and the widest value 2.35σ on average; in one of 16 the widest is 2.08σ. A half has 11 bits of precision and a
/// bfloat16 has 8: at most `2⁻ᵖ / √3` of each value. These are averages over blocks, so 4 % are added.
#[test]
fn relative_errors_of_normal_weights() {
    let x = Random(1).normals(256 * 64, 0.02);
    let power = rmse(&x, &vec![0.0; x.len()]);
    for (dtype, step) in [
        (DType::F32, 0.0),
        (DType::F16, 2.0 / 2048.0),
        (DType::BF16, 2.0 / 256.0),
        (DType::Q8_0, 2.35 / 127.0),
        (DType::Q6K, 2.08 / 32.0),
        (DType::Q5_1, 4.14 / 31.0),
        (DType::Q5_0, 2.35 / 16.0),
        (DType::Q4K, 4.14 / 15.0),
        (DType::Q4_1, 4.14 / 15.0),
        (DType::Q4_0, 2.35 / 8.0),
    ] {
        let (relative, expected) = (rmse(&x, &round_trip(dtype, &x)) / power, step / 12f64.sqrt());
        println!("{dtype}: relative rmse {relative:.5}, expected at most {expected:.5}");
        assert!(relative <= 1.04 * expected, "{dtype}: {relative} against {expected}");
    }
}

#[test]
fn zeros_stay_zeros() {
    for dtype in WRITTEN {
        assert!(round_trip(dtype, &[0.0; 512]).iter().all(|x| *x == 0.0), "{dtype}");
    }
    for dtype in DType::ALL {
        let zeros = vec![0; 2 * dtype.block_bytes()];
        assert!(decoded(dtype, &zeros).iter().all(|x| *x == 0.0), "{dtype}");
    }
}

#[test]
fn what_is_written_decodes_to_finite_values() {
    for dtype in WRITTEN {
        for x in awkward_rows() {
            assert!(round_trip(dtype, &x).iter().all(|y| y.is_finite()), "{dtype}: {x:?}");
        }
    }
}

#[test]
fn no_values_are_no_bytes() {
    for dtype in WRITTEN {
        assert!(quantize(dtype, &[]).unwrap().is_empty());
    }
    for dtype in DType::ALL {
        dequantize(dtype, &[], &mut []);
    }
}

#[test]
fn rejects_part_blocks() {
    for dtype in WRITTEN.into_iter().filter(|t| t.block_len() > 1) {
        let error = quantize(dtype, &vec![1.0; dtype.block_len() + 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains("not a whole number"), "{error}");
    }
}

#[test]
#[should_panic(expected = "32 elements of q8_0 do not take 33 bytes")]
fn decoding_panics_if_bytes_are_missing() {
    dequantize(DType::Q8_0, &[0; 33], &mut [0.0; 32]);
}

#[test]
#[should_panic(expected = "31 elements of q8_0 do not take 34 bytes")]
fn decoding_panics_on_part_blocks() {
    dequantize(DType::Q8_0, &[0; 34], &mut [0.0; 31]);
}

#[test]
fn rejects_what_a_half_cannot_scale() {
    for dtype in WRITTEN.into_iter().filter(|t| t.block_len() > 1) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65536.0, f32::MIN] {
            let mut x = [1.0; 256];
            x[200] = bad;
            let error = quantize(dtype, &x).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input);
            assert!(error.to_string().starts_with("element 200 is "), "{error}");
        }
    }
}

#[test]
fn floats_keep_nan_and_infinity() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let y = round_trip(dtype, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(y[0].is_nan() && y[1] == f32::INFINITY && y[2] == f32::NEG_INFINITY, "{dtype}: {y:?}");
    }
}

#[test]
fn rejects_types_that_are_only_read() {
    for dtype in DType::ALL.into_iter().filter(|t| !WRITTEN.contains(t) && *t != DType::I8) {
        let error = quantize(dtype, &[1.0; 256]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(dtype.name()), "{error}");
    }
}

/// Blocks are independent: a row is its blocks, one after the other.
#[test]
fn rows_are_their_blocks() {
    let x = Random(3).normals(256 * 3, 1.0);
    for dtype in WRITTEN {
        let whole = quantize(dtype, &x).unwrap();
        let parts: Vec<u8> = x.chunks(256).flat_map(|x| quantize(dtype, x).unwrap()).collect();
        assert_eq!(whole, parts, "{dtype}");
    }
}

/// Any bytes decode without a panic, whatever they are: files are untrusted.
#[test]
fn any_bytes_decode() {
    let mut random = Random(9);
    for dtype in DType::ALL {
        let bytes: Vec<u8> = (0..64 * dtype.block_bytes()).map(|_| (random.uniform() * 256.0) as u8).collect();
        decoded(dtype, &bytes);
    }
}
