use super::*;
use crate::batch::{IGNORE, Tokens};
use crate::export::Export;
use crate::nn::check::close;
use candle_core::{DType, Device};
use pupil::gguf::Gguf;
use pupil::nets::decoder::Logits;
use pupil::nets::encdec::{EncDec, Row};
use pupil::nets::kv::CacheType;
use pupil::tensor::DType as Stored;
use rand::SeedableRng;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A decoder small enough to be gone through number by number.
pub(crate) fn llama() -> decoder::Config {
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
            assert!(
                (difference - found).abs() < 2e-3 * found.abs().max(0.5),
                "{name} at {place}: {found}, {difference}"
            );
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

#[derive(Deserialize)]
struct Vectors {
    networks: Vec<Network>,
}

/// A network of `tests/vectors`, a batch, and what PyTorch makes of both.
#[derive(Deserialize)]
struct Network {
    name: String,
    source: Option<Vec<Vec<u32>>>,
    input: Vec<Vec<u32>>,
    labels: Vec<Vec<Option<u32>>>,
    loss: f64,
    gradients: BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    sum: f64,
    first: Vec<f64>,
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

fn student_of(file: &Gguf) -> Box<dyn Student> {
    if file.keys().str("general.architecture").unwrap() == "t5" {
        let student = EncoderDecoder::new(encdec::Config::of(file).unwrap(), 0, &Device::Cpu).unwrap();
        student.init_from(file, None, None).unwrap();
        return Box::new(student);
    }
    let config = decoder::Config { context: 64, ..decoder::Config::of(file).unwrap() };
    let student = Decoder::new(config, 0, &Device::Cpu).unwrap();
    student.init_from(file, None).unwrap();
    Box::new(student)
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/students.json");
    let vectors_of: Vectors = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for network in vectors_of.networks {
        let name = &network.name;
        let student = student_of(&Gguf::open(&vectors().join(format!("{name}.gguf"))).unwrap());
        let input = Tokens::new(&network.input, 0);
        let labels = network.labels.iter().flat_map(|row| {
            let row = row.iter().map(|label| label.unwrap_or(IGNORE));
            row.chain(std::iter::repeat(IGNORE)).take(input.width).collect::<Vec<_>>()
        });
        let labels = labels.collect();
        let source = network.source.map(|source| Tokens::new(&source, 0));
        let loss = loss(&*student, &Batch { source, input, labels });
        close(name, &[loss.to_scalar::<f32>().unwrap().into()], &[network.loss], 1e-5);
        let gradients = loss.backward().unwrap();
        assert_eq!(student.variables().len(), network.gradients.len(), "{name}");
        for (tensor, expected) in &network.gradients {
            let gradient = gradients.get(&student.variables()[tensor]).unwrap().to_dtype(DType::F64).unwrap();
            let found: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            let (norm, sum) = (found.iter().map(|x| x * x).sum::<f64>().sqrt(), found.iter().sum::<f64>());
            let tolerance = 1e-4 * expected.norm.max(0.1);
            close(&format!("{name}, {tensor}, norm"), &[norm], &[expected.norm], tolerance);
            close(&format!("{name}, {tensor}, sum"), &[sum], &[expected.sum], 10.0 * tolerance);
            close(&format!("{name}, {tensor}"), &found[..expected.first.len()], &expected.first, tolerance);
        }
    }
}

/// A file of a student, deleted at the end.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn export(student: &dyn Student, name: &str, types: Types) -> (File, Gguf, Vec<crate::export::Stored>) {
    let path = std::env::temp_dir().join(format!("pupil-{}-{name}.gguf", std::process::id()));
    let keys = vec![("general.name".to_owned(), "tiny".into())];
    let stored = Export { student, weights: None, types, keys }.write(&path).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!((file.keys().str("general.name").unwrap(), file.alignment()), ("tiny", 64));
    (File(path), file, stored)
}

fn logits(student: &dyn Student, batch: &Batch) -> Vec<f64> {
    let hidden = student.hidden(batch, None).unwrap();
    let (weight, scale) = student.output().unwrap();
    crate::nn::check::list(&(hidden.matmul(&weight.t().unwrap()).unwrap() * scale).unwrap())
}

/// One text, of which every position counts.
fn text(source: Option<&[u32]>, input: &[u32]) -> Batch {
    Batch { source: source.map(|row| Tokens::new(&[row], 0)), input: Tokens::new(&[input], 0), labels: input.to_vec() }
}

/// A decoder's logits by the runtime.
fn decoded(gguf: &Gguf, ids: &[u32]) -> Vec<f64> {
    let net = pupil::nets::decoder::Decoder::load(gguf).unwrap();
    let mut session = net.session(16, CacheType::F32, 1).unwrap();
    net.forward(&mut session, ids, Logits::All).unwrap().iter().map(|&x| x.into()).collect()
}

/// An encoder-decoder's.
fn translated(gguf: &Gguf, source: &[u32], ids: &[u32]) -> Vec<f64> {
    let net = EncDec::load(gguf).unwrap();
    let mut session = net.session(CacheType::F32, 1).unwrap();
    net.encode(&mut session, &[source]).unwrap();
    net.reserve(&mut session, 1, ids.len()).unwrap();
    let mut found = Vec::new();
    for (position, &token) in ids.iter().enumerate() {
        let row = Row { token, sentence: 0, slot: 0 };
        found.extend(net.step(&mut session, &[row], position, None).unwrap().iter().map(|&x| f64::from(x)));
    }
    found
}

#[test]
fn the_runtime_gives_a_decoders_logits() {
    let ids = [1, 5, 3, 10, 2, 2, 7];
    for tied in [true, false] {
        let student = Decoder::new(decoder::Config { tied, ..llama() }, 4, &Device::Cpu).unwrap();
        let (_file, gguf, stored) = export(&student, &format!("llama-{tied}"), Types::all(Stored::F32));
        assert!(stored.iter().all(|tensor| tensor.error == 0.0) && stored.len() == student.variables().len());
        close("logits", &decoded(&gguf, &ids), &logits(&student, &text(None, &ids)), 1e-4);
        assert_eq!(decoder::Config::of(&gguf).unwrap(), *student.config());
    }
}

#[test]
fn the_runtime_gives_an_encoder_decoders_logits() {
    let (source, ids) = ([4, 9, 2, 1], [0, 5, 3, 10, 2, 2, 7]);
    for tied in [true, false] {
        let student = EncoderDecoder::new(encdec::Config { tied, ..t5() }, 4, &Device::Cpu).unwrap();
        let (_file, gguf, _) = export(&student, &format!("t5-{tied}"), Types::all(Stored::F32));
        close("logits", &translated(&gguf, &source, &ids), &logits(&student, &text(Some(&source), &ids)), 1e-3);
        assert_eq!(encdec::Config::of(&gguf).unwrap(), *student.config());
    }
}

/// With weights of 8 bits the runtime rounds what they are multiplied with to 8 bits, too, which a student in training does
/// not.
#[test]
fn in_q8_0_the_runtimes_logits_are_off_by_a_few_hundredths() {
    let types = Types::all(Stored::Q8_0);
    let (source, ids) = ([4, 9, 2, 1], [0, 5, 3, 10, 2, 2, 7]);
    let off = |found: &[f64], expected: &[f64]| {
        let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        assert_ne!(found, expected);
        found.iter().zip(expected).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs())) / largest
    };
    let config = decoder::Config { embedding: 64, feed_forward: 96, ..llama() };
    let mut student = Decoder::new(config, 4, &Device::Cpu).unwrap();
    let (_file, gguf, _) = export(&student, "llama-q8_0", types);
    student.store_as(Some(types));
    let error = off(&decoded(&gguf, &ids), &logits(&student, &text(None, &ids)));
    assert!(error < 0.03, "{error}");

    let config = encdec::Config { embedding: 64, head_dim: 32, feed_forward: 96, ..t5() };
    let mut student = EncoderDecoder::new(config, 4, &Device::Cpu).unwrap();
    let (_file, gguf, _) = export(&student, "t5-q8_0", types);
    student.store_as(Some(types));
    let error = off(&translated(&gguf, &source, &ids), &logits(&student, &text(Some(&source), &ids)));
    assert!(error < 0.03, "{error}");
}

#[test]
fn a_student_computes_with_its_weights_as_they_are_stored() {
    let config = decoder::Config { embedding: 32, feed_forward: 64, ..llama() };
    let mut student = Decoder::new(config.clone(), 5, &Device::Cpu).unwrap();
    let types = Types { matrices: Stored::Q4_0, embeddings: Stored::Q8_0, output: Stored::F16 };
    let (_file, gguf, stored) = export(&student, "stored", types);
    assert!(stored.iter().any(|tensor| tensor.dtype == Stored::Q4_0 && tensor.error > 0.01));
    let copy = Decoder::new(config, 6, &Device::Cpu).unwrap();
    copy.init_from(&gguf, None).unwrap();
    let batch = batch(false);
    let plain = logits(&student, &batch);
    student.store_as(Some(types));
    let quantized = logits(&student, &batch);
    assert_ne!(plain, quantized);
    assert_eq!(quantized, logits(&copy, &batch));
    // Gradients are those at the stored weights.
    let (found, expected) = (loss(&student, &batch).backward().unwrap(), loss(&copy, &batch).backward().unwrap());
    for (name, variable) in student.variables() {
        let [found, expected] =
            [found.get(variable), expected.get(&copy.variables()[name])].map(|g| crate::nn::check::list(g.unwrap()));
        assert_eq!(found, expected, "{name}");
    }
    student.store_as(None);
    assert_eq!(plain, logits(&student, &batch));
}

#[test]
fn layers_of_a_teacher_are_copied() {
    let teacher = Decoder::new(decoder::Config { layers: 3, ..llama() }, 7, &Device::Cpu).unwrap();
    let (_file, gguf, _) = export(&teacher, "teacher", Types::all(Stored::F32));
    let student = Decoder::new(llama(), 8, &Device::Cpu).unwrap();
    student.init_from(&gguf, Some(&[0, 2])).unwrap();
    let list = |student: &Decoder, name: &str| crate::nn::check::list(&student.variables()[name]);
    for (own, of_teacher) in [("blk.0.", "blk.0."), ("blk.1.", "blk.2.")] {
        for part in ["attn_q.weight", "ffn_down.weight"] {
            assert_eq!(list(&student, &format!("{own}{part}")), list(&teacher, &format!("{of_teacher}{part}")));
        }
    }
    assert_eq!(list(&student, "token_embd.weight"), list(&teacher, "token_embd.weight"));
    for layers in [&[0, 3][..], &[0], &[0, 1, 2]] {
        let error = student.init_from(&gguf, Some(layers)).unwrap_err().to_string();
        assert!(error.contains("layers"), "{error}");
    }
    let wider = Decoder::new(decoder::Config { embedding: 12, ..llama() }, 8, &Device::Cpu).unwrap();
    assert!(wider.init_from(&gguf, Some(&[0, 2])).unwrap_err().to_string().contains("the student is"));
}

#[test]
fn senseless_dimensions_are_refused() {
    for (config, word) in [
        (decoder::Config { heads: 3, ..llama() }, "`embedding` is 8"),
        (decoder::Config { layers: 0, ..llama() }, "`layers` is 0"),
        (decoder::Config { kv_heads: 3, ..llama() }, "`kv_heads` is 3"),
        (decoder::Config { epsilon: 0.0, ..llama() }, "`epsilon`"),
        (decoder::Config { rope_base: f32::NAN, ..llama() }, "`rope_base`"),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{error}");
    }
    for (config, word) in [
        (encdec::Config { buckets: 6, ..t5() }, "`buckets` is 6"),
        (encdec::Config { start: 11, ..t5() }, "`start` is 11"),
        (encdec::Config { decoder_layers: 0, ..t5() }, "`decoder_layers` is 0"),
        (encdec::Config { activation: crate::nn::gates::Activation::SwiGlu, ..t5() }, "`activation`"),
    ] {
        assert!(config.check().unwrap_err().to_string().contains(word), "{word}");
    }
    let unknown =
        r#"{"vocab":8,"context":8,"embedding":8,"layers":1,"heads":2,"kv_heads":1,"feed_forward":8,"depth":3}"#;
    assert!(serde_json::from_str::<decoder::Config>(unknown).unwrap_err().to_string().contains("depth"));
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let (llama, t5) =
        (Decoder::new(llama(), 1, &Device::Cpu).unwrap(), EncoderDecoder::new(t5(), 1, &Device::Cpu).unwrap());
    let long: Vec<u32> = vec![1; 17];
    for (student, batch) in [
        (&llama as &dyn Student, batch(true)),
        (&t5, batch(false)),
        (&llama, text(None, &long)),
        (&llama, text(None, &[11])),
        (&t5, text(Some(&[]), &[1])),
        (&t5, text(Some(&[11]), &[1])),
    ] {
        assert_eq!(student.hidden(&batch, None).unwrap_err().kind(), crate::ErrorKind::Input);
    }
}
