//! Gradients against finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers to try an operation on.
pub struct Case {
    tensors: Vec<Tensor>,
}

impl Case {
    /// Tensors of these shapes with numbers between −1 and 1.
    pub fn new(shapes: &[&[usize]]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(17);
        let tensors = shapes.iter().map(|&shape| {
            let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
            Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
        });
        Self { tensors: tensors.collect() }
    }
}

/// Holds `fused`, in f32, against `composed`, in f64: results, gradients of a weighted sum of the results, and finite
/// differences of that sum.
pub fn check(case: Case, fused: impl Fn(&[Tensor]) -> Result<Tensor>, composed: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let (out, gradients) = run(&case, &fused, DType::F32);
    let (exact, exact_gradients) = run(&case, &composed, DType::F64);
    close("results", &out, &exact, 1e-5);
    for (i, (found, exact)) in gradients.iter().zip(&exact_gradients).enumerate() {
        close(&format!("gradients of input {i}"), found, exact, 1e-5);
        close(&format!("differences of input {i}"), &differences(&case, i, &composed), exact, 1e-6);
    }
}

/// The results of `f`, and the gradients of their weighted sum.
pub fn run(case: &Case, f: &dyn Fn(&[Tensor]) -> Result<Tensor>, dtype: DType) -> (Vec<f64>, Vec<Vec<f64>>) {
    let variables: Vec<Var> =
        case.tensors.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()).collect();
    let inputs: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&inputs).unwrap();
    let gradients = weighted(&out).backward().unwrap();
    let gradients: Vec<Vec<f64>> = inputs.iter().map(|t| list(gradients.get(t).expect("a gradient"))).collect();
    (list(&out), gradients)
}

/// A sum with a different weight for each number.
pub fn weighted(out: &Tensor) -> Tensor {
    let weights: Vec<f64> = (0..out.elem_count()).map(|i| (i as f64 * 0.7).sin() + 0.1).collect();
    let weights = Tensor::from_vec(weights, out.shape(), out.device()).unwrap().to_dtype(out.dtype()).unwrap();
    (out * weights).unwrap().sum_all().unwrap()
}

/// Central differences of the weighted sum in f64.
fn differences(case: &Case, input: usize, f: &impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let doubles: Vec<Tensor> = case.tensors.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect();
    let at = |place: usize, step: f64| {
        let mut inputs = doubles.clone();
        let mut numbers = list(&inputs[input]);
        numbers[place] += step;
        inputs[input] = Tensor::from_vec(numbers, inputs[input].shape(), &Device::Cpu).unwrap();
        weighted(&f(&inputs).unwrap()).to_scalar::<f64>().unwrap()
    };
    (0..doubles[input].elem_count()).map(|i| (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP)).collect()
}

/// The numbers of a tensor.
pub fn list(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Refuses numbers that are further apart than `tolerance`, times their size where that is above 1.
pub fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!((found - expected).abs() <= allowed, "{what}: {found} at {i}, expected {expected}");
    }
}
