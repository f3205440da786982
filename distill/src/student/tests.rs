use super::*;
use crate::batch::{IGNORE, Tokens};
use candle_core::{DType, Device};
use rand::SeedableRng;

fn llama() -> decoder::Config {
    decoder::Config {
        vocab: 11,
        context: 16,
        embedding: 8,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        feed_forward: 12,
        epsilon: 1e-5,
        rope_base: 10_000.0,
        tied: true,
    }
}

fn t5() -> encdec::Config {
    encdec::Config {
        vocab: 11,
        context: 16,
        embedding: 8,
        layers: 2,
        decoder_layers: 2,
        heads: 2,
        head_dim: 4,
        feed_forward: 12,
        activation: crate::nn::gates::Activation::GatedGelu,
        buckets: 8,
        max_distance: 16,
        epsilon: 1e-6,
        tied: true,
        start: 0,
    }
}

fn batch(source: bool) -> Batch {
    let input = Tokens::new(&[&[1, 2, 3, 4][..], &[5, 6]], 0);
    let labels = vec![2, 3, IGNORE, 5, 6, 7, IGNORE, IGNORE];
    let source = source.then(|| Tokens::new(&[&[3, 1][..], &[4, 1, 5]], 0));
    Batch { source, input, labels }
}

fn loss(student: &dyn Student, batch: &Batch) -> Tensor {
    let hidden = student.hidden(batch, None).unwrap();
    let (weight, scale) = student.output().unwrap();
    let logits = (hidden.matmul(&weight.t().unwrap()).unwrap() * scale).unwrap();
    let max = logits.max_keepdim(1).unwrap().detach();
    let logits = logits.broadcast_sub(&max).unwrap();
    let all = logits.exp().unwrap().sum(1).unwrap().log().unwrap();
    let labels: Vec<u32> = batch.valid().iter().map(|&i| batch.labels[i as usize]).collect();
    let labels = Tensor::new(labels, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
    let of_label = logits.gather(&labels, 1).unwrap().squeeze(1).unwrap();
    (all - of_label).unwrap().mean_all().unwrap()
}

/// Every gradient against central differences of the loss, for some numbers of each variable.
fn check_gradients(student: &dyn Student, batch: &Batch) {
    let gradients = loss(student, batch).backward().unwrap();
    for (name, variable) in student.variables() {
        let gradient: Vec<f32> =
            gradients.get(variable).unwrap_or_else(|| panic!("{name}")).flatten_all().unwrap().to_vec1().unwrap();
        assert!(gradient.iter().any(|&g| g != 0.0), "{name}");
        let numbers: Vec<f32> = variable.flatten_all().unwrap().to_vec1().unwrap();
        for place in (0..numbers.len()).step_by(numbers.len().div_ceil(6)) {
            let at = |step: f32| {
                let mut moved = numbers.clone();
                moved[place] += step;
                variable.set(&Tensor::from_vec(moved, variable.shape(), &Device::Cpu).unwrap()).unwrap();
                loss(student, batch).to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap()
            };
            let difference = (at(4e-3) - at(-4e-3)) / 8e-3;
            at(0.0);
            let found = f64::from(gradient[place]);
            assert!((difference - found).abs() < 2e-3 * found.abs().max(0.5), "{name} at {place}: {found}, {difference}");
        }
    }
}

#[test]
fn gradients_of_whole_networks() {
    for tied in [true, false] {
        check_gradients(&Decoder::new(decoder::Config { tied, ..llama() }, 1, &Device::Cpu).unwrap(), &batch(false));
        let student = EncoderDecoder::new(encdec::Config { tied, ..t5() }, 2, &Device::Cpu).unwrap();
        check_gradients(&student, &batch(true));
    }
    let relu = encdec::Config { activation: crate::nn::gates::Activation::Relu, ..t5() };
    check_gradients(&EncoderDecoder::new(relu, 3, &Device::Cpu).unwrap(), &batch(true));
}

#[test]
fn dropout_repeats_with_its_seed() {
    let student = EncoderDecoder::new(t5(), 2, &Device::Cpu).unwrap();
    let run = |seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let hidden = student.hidden(&batch(true), Some((0.2, &mut random))).unwrap();
        hidden.to_vec2::<f32>().unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
